package server

import (
	"context"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server/session"
)

const (
	// departMargin is the share of the time to leave that is kept for those who
	// come late to hear of it.
	departMargin = 0.2
	// departLead is how long new clients are turned away before those who are here
	// are told to go: else a Service that has not followed yet would send them back.
	departLead = time.Second
)

// depart has this server's clients go elsewhere, at a pace that the others can
// take, before it ends. It returns when nobody is left, when nobody else would
// take them, or when its time is over.
func (s *Server) depart(ctx context.Context) {
	if s.cfg.DrainFor <= 0 || s.table.Live() == 0 || len(s.directory.hints()) == 0 {
		return
	}
	s.leaving.Store(true)
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DrainFor)
	defer cancel()
	pause(ctx, min(departLead, s.cfg.DrainFor/4))
	within := s.cfg.DrainFor.Seconds() * (1 - departMargin)
	rate := max(s.cfg.DrainRate, float64(s.table.Live())/within)
	s.log.Info("The server is to end, its clients are told to go elsewhere", "clients", s.table.Live(), "rate", rate, "within", s.cfg.DrainFor)
	d := drain{wake: make(chan struct{}, 1)}
	begun := time.Now()
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.log.Warn("Clients are left that were not told in time to go elsewhere", "clients", s.connected())
			return
		case <-tick.C:
		}
		now := time.Now()
		targets := s.others()
		if len(targets) == 0 || now.Sub(begun) > searchEvery && s.connected() == 0 {
			return
		}
		d.follow(now, &store.Directive{Failover: "end", Drain: true, Rate: rate, Targets: targets})
		moves := d.next(now, s.movable)
		for i := range moves {
			moves[i].by = departing
		}
		s.tell(moves)
	}
}

// others are the servers that clients may go to, the least loaded most of all.
func (s *Server) others() []store.Target {
	var l []store.Target
	for _, h := range s.directory.hints() {
		l = append(l, store.Target{Server: h.Address, Address: h.Address, Weight: 101 - h.Load})
	}
	return l
}

// connected is how many clients there are that have not heard yet that they shall
// go: with a connection, or beating by datagrams.
func (s *Server) connected() int {
	n := 0
	s.table.Each(func(v session.View[peer]) bool {
		if s.canBeTold(v) || v.Link == nil && v.ByDatagram && !v.Heard {
			n++
		}
		return true
	})
	return n
}

// canBeTold tells whether a client has a connection, and is not on its way yet, or
// beats by datagrams, and is not to hear so yet.
func (s *Server) canBeTold(v session.View[peer]) bool {
	if v.Link == nil {
		return v.ByDatagram && !s.stands(v.Told)
	}
	return !v.Class.Probe && !v.Link.leaving.Load()
}

// stands tells whether a client that was told by that number to go elsewhere still
// shall; 0: it was not told.
func (s *Server) stands(by uint16) bool {
	return by != 0 && (by == departing && s.leaving.Load() || uint32(by) == s.drain.standing.Load())
}

// ends is what a newcomer is told while the server is about to end.
func (s *Server) ends() *refusal {
	if !s.leaving.Load() {
		return nil
	}
	r := &refusal{why: whyDraining, reason: mqtt.ServerShuttingDown, detail: "the server is about to end", servers: s.directory.hints()}
	if len(r.servers) > 0 {
		r.reason, r.reference = mqtt.UseAnotherServer, r.servers[0].Address
	}
	return r
}
