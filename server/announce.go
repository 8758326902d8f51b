package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// announceEvery is how often the server's record may be rewritten; it is only
// when it says something else.
const announceEvery = 100 * time.Millisecond

// ErrReplaced: another incarnation has registered under the server's name.
var ErrReplaced = errors.New("another incarnation has the name")

// announce keeps the server's record in the store, until the context ends, and
// then gives it up. The first registration is put into registered.
func (s *Server) announce(ctx context.Context, registered chan<- *store.Registration) error {
	for first := true; ; first = false {
		said := s.record()
		r, err := s.cfg.Store.Register(ctx, s.name, said)
		if err != nil {
			return quiet(ctx, err)
		}
		if first {
			registered <- r
		} else {
			s.log.Info("The server is registered again")
		}
		err = s.keep(ctx, r, said)
		if ctx.Err() != nil {
			return s.giveUp(r)
		}
		// Until now others may have held its sessions for orphaned.
		s.clock.Distrust()
		s.log.Warn("The server's record was lost", "error", err)
		if other := s.directory.incarnation(s.name); other != "" && other != s.cfg.Incarnation {
			return fmt.Errorf("server: %s: %w: %s", s.name, ErrReplaced, other)
		}
	}
}

// keep rewrites the record when it changes, until it is lost or the context ends.
func (s *Server) keep(ctx context.Context, r *store.Registration, said store.Server) error {
	tick := time.NewTicker(announceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.Lost():
			return store.ErrLost
		case <-tick.C:
		}
		now := s.record()
		if reflect.DeepEqual(now, said) {
			continue
		}
		switch err := r.Update(ctx, now); {
		case errors.Is(err, store.ErrLost):
			return err
		case err == nil:
			said = now
		}
	}
}

func (s *Server) giveUp(r *store.Registration) error {
	ctx, cancel := context.WithTimeout(context.Background(), endWithin)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		s.log.Warn("The server's record was not given up, and ends by itself", "error", err)
	}
	return nil
}

// record is what the server says of itself.
func (s *Server) record() store.Server {
	r := store.Server{
		Incarnation: s.cfg.Incarnation, Address: s.cfg.Advertise, Zone: s.cfg.Zone, Node: s.cfg.Node,
		Capacity: s.cfg.Capacity, QueueDelay: s.vitals.queueDelay.of(s.vitals.worst(), s.clock.Stamp().Tick),
		SchedulerDelay: s.vitals.schedulerDelay.of(s.scheduling.latency(), s.clock.Stamp().Tick),
		Takeovers:      s.recorder.Takeovers(), Drain: s.drain.progress(), Leaving: s.leaving.Load(),
		Ended: int(s.ended.Load()), Observes: s.cfg.Observes, Advised: s.outcomes.says(),
	}
	if r.Address == "" {
		r.Address = s.AddrTLS().String()
	}
	r.Beats = s.beatsAddress(r.Address)
	for _, c := range s.table.Classes() {
		if c.Probe {
			continue
		}
		r.Sessions = with(r.Sessions, c.Name(), c.Live())
		r.Late = with(r.Late, c.Name(), c.Late())
	}
	return r
}

// beatsAddress is where clients reach this very server by HTTP; empty: nowhere. Where
// nobody says so, at the host that they reach it by otherwise.
func (s *Server) beatsAddress(advertised string) string {
	addr := s.AddrOf(ListenerBeatsTLS)
	if addr == nil {
		addr = s.AddrOf(ListenerBeats)
	}
	if addr == nil || s.cfg.AdvertiseBeats != "" {
		return s.cfg.AdvertiseBeats
	}
	host, _, err := net.SplitHostPort(advertised)
	_, port, errPort := net.SplitHostPort(addr.String())
	if err != nil || errPort != nil {
		return ""
	}
	return net.JoinHostPort(host, port)
}

func with(m map[string]int, name string, n int) map[string]int {
	if n == 0 {
		return m
	}
	if m == nil {
		m = map[string]int{}
	}
	m[name] = n
	return m
}
