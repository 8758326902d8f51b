package server

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server/session"
)

const (
	// moveEvery is how often clients are told to go, a few each time.
	moveEvery = 50 * time.Millisecond
	// searchEvery is how often a drain looks for clients that it has missed.
	searchEvery = time.Second
	// maxNumber is the highest number of a directive; departing is that of the server's
	// own end.
	maxNumber = 1<<16 - 2
	departing = maxNumber + 1
)

// drain follows the directive for this incarnation of the server.
type drain struct {
	mu sync.Mutex
	// term is the highest that was seen of the store's present history: a leader
	// of an earlier one is no leader any more.
	term    int64
	current *store.Directive
	// number is the last one's among all that this server has followed, from 1 to
	// maxNumber and round again: who beats by datagrams is told by it.
	number uint16
	// standing is the number of the one that moves clients away from here now; 0: none.
	// It changes under mu.
	standing atomic.Uint32
	pace     pace
	choice   choice
	told     int
	done     bool
	// left are clients that may be told next, found when the directive came or
	// was last searched for.
	left     []candidate
	searched time.Time
	// away are those who were told to go elsewhere, while everyone is.
	away map[store.SessionKey]*sentAway

	wake chan struct{}
}

// follow takes the directive that stands now; nil where there is none.
func (d *drain) follow(now time.Time, directive *store.Directive) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case directive == nil:
		d.current, d.left, d.away = nil, nil, nil
		d.standing.Store(0)
		return
	case directive.Term < d.term:
		return
	}
	d.term = directive.Term
	if d.current == nil || d.current.Failover != directive.Failover {
		d.pace = pace{credit: float64(directive.FirstWave), at: now}
		d.told, d.done, d.left, d.searched = 0, false, nil, time.Time{}
		d.choice = choice{}
		d.number = d.number%maxNumber + 1
	} else if directive.Drain != d.current.Drain || directive.Count > d.current.Count {
		d.done = false
	}
	d.current = directive
	if directive.Refuse {
		d.standing.Store(0)
	} else {
		d.standing.Store(uint32(d.number))
	}
	if !directive.Drain {
		d.away = nil
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// rewound: terms are revisions, and those of the store's history before say
// nothing of the present one.
func (d *drain) rewound() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.term = 0
}

// refuge is where arrivals are sent, while everyone is moved away from here.
// The target may be empty.
func (d *drain) refuge() (store.Target, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current == nil || !d.current.Drain {
		return store.Target{}, false
	}
	return d.choice.next(d.current.Targets), true
}

// shedding is how long a newcomer shall stay away, each a while of its own; zero:
// all are welcome.
func (d *drain) shedding() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current == nil || !d.current.Refuse {
		return 0
	}
	after := time.Duration(max(d.current.RetryAfter, 1)) * time.Millisecond
	return after + rand.N(after)
}

// heard: a client was told by its answer that it shall go elsewhere.
func (d *drain) heard(now time.Time, key store.SessionKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current != nil && d.current.Drain {
		d.note(now, key)
	}
}

// progress is what the server's record says of it.
func (d *drain) progress() *store.DrainProgress {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current == nil || d.current.Refuse {
		return nil
	}
	return &store.DrainProgress{Failover: d.current.Failover, Told: d.told, Done: d.done}
}

// move is one client to be told to go, and where to.
type move struct {
	candidate
	target  store.Target
	targets []store.Target
	by      uint16 // the directive's number
}

// candidate is a client that may be told to go.
type candidate struct {
	peer    *peer // nil: it has no connection, and hears of it when it beats by datagram
	class   *session.Class
	client  string
	arrival uint64
}

func (c candidate) key() store.SessionKey {
	return store.SessionKey{Namespace: c.class.Namespace, Presence: c.class.Presence, Client: c.client}
}

// next are the clients whose turn it is. search finds candidates.
func (d *drain) next(now time.Time, search func(everyone bool) []candidate) []move {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current == nil || d.current.Refuse || d.done && !d.current.Drain {
		return nil
	}
	due := d.pace.due(now, d.current.Rate)
	if !d.current.Drain {
		due = min(due, d.current.Count-d.told)
	}
	var moves []move
	for len(moves) < due {
		if len(d.left) == 0 {
			if !d.searched.IsZero() && now.Sub(d.searched) < searchEvery {
				break
			}
			d.left, d.searched = search(d.current.Drain), now
			d.left = slices.DeleteFunc(d.left, func(c candidate) bool { return d.alone(now, c) })
			if len(d.left) == 0 {
				d.done = true // who is here, is told; in a drain who still comes will be
				break
			}
		}
		c := d.left[0]
		d.left = d.left[1:]
		if c.peer != nil && c.peer.leaving.Load() || d.alone(now, c) {
			continue
		}
		if d.current.Drain && c.peer != nil { // without a connection it has yet to hear of it
			d.note(now, c.key())
		}
		moves = append(moves, move{c, d.choice.next(d.current.Targets), d.current.Targets, d.number})
	}
	d.told += len(moves)
	d.pace.credit -= float64(len(moves))
	if !d.current.Drain && d.told >= d.current.Count {
		d.done = true
	}
	return moves
}

// pace is how many clients may be told to go: a first wave, and then so many a
// second. What was not used for a second is not saved up.
type pace struct {
	credit float64
	at     time.Time
}

func (p *pace) due(now time.Time, rate float64) int {
	passed := min(max(now.Sub(p.at).Seconds(), 0), 1)
	p.at = now
	p.credit = max(p.credit, min(p.credit+passed*rate, max(rate, 1)))
	return int(p.credit)
}

// choice chooses targets in proportion to their weights, evenly spread: smooth
// weighted round robin, as nginx does it.
type choice struct{ current map[string]int }

func (c *choice) next(targets []store.Target) store.Target {
	if c.current == nil {
		c.current = map[string]int{}
	}
	total, best := 0, -1
	for i, t := range targets {
		if t.Weight <= 0 {
			continue
		}
		total += t.Weight
		c.current[t.Server] += t.Weight
		if best < 0 || c.current[t.Server] > c.current[targets[best].Server] {
			best = i
		}
	}
	if best < 0 {
		return store.Target{}
	}
	c.current[targets[best].Server] -= total
	return targets[best]
}

// watchDirectives follows the directives for all servers: our own, and those
// that tell where nobody should be sent.
func (s *Server) watchDirectives(ctx context.Context) error {
	history := s.cfg.Store.Rewinds()
	for u := range s.cfg.Store.WatchDirectives(ctx) {
		if now := s.cfg.Store.Rewinds(); u.Reset && now != history {
			history = now
			s.drain.rewound()
		}
		s.directory.direct(u)
		if err := s.heed(ctx, u); err != nil {
			return quiet(ctx, err)
		}
	}
	return nil
}

// heed takes what has become of our own directive. A watch may be behind: a server
// that was cut off, with an etcd member, would empty itself by a directive that was
// withdrawn long ago. So what the watch shows is only what makes it ask.
func (s *Server) heed(ctx context.Context, u store.Update[string, store.Directive]) error {
	directive, ok := u.Put[s.name]
	switch {
	case ok && directive.Incarnation == s.cfg.Incarnation:
		var err error
		if directive, ok, err = s.cfg.Store.Directive(ctx, s.name); err != nil {
			return err
		}
	case ok, u.Reset, slices.Contains(u.Deleted, s.name):
		ok = false
	default:
		return nil
	}
	if !ok || directive.Incarnation != s.cfg.Incarnation {
		s.drain.follow(time.Now(), nil)
		return nil
	}
	s.log.Info("A directive stands", "failover", directive.Failover, "drain", directive.Drain, "refuse", directive.Refuse, "count", directive.Count, "rate", directive.Rate)
	s.drain.follow(time.Now(), &directive)
	return nil
}

// move tells clients to go, as the directive has it, until the context ends.
func (s *Server) move(ctx context.Context) error {
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.drain.wake:
		case <-tick.C:
		}
		s.tell(s.drain.next(time.Now(), s.movable))
	}
}

// tell tells clients to go.
func (s *Server) tell(moves []move) {
	for _, m := range moves {
		if m.peer == nil {
			if s.table.Tell(m.class, m.client, m.arrival, m.by) {
				s.metrics.told.Inc()
			}
			continue
		}
		m.peer.goodbye(mqtt.Goodbye{
			Reason: mqtt.UseAnotherServer, Reference: m.target.Address,
			User: refusal{servers: s.refuges(m)}.users(),
		})
		s.metrics.told.Inc()
	}
}

// refuges are the targets of a directive, the chosen one first.
func (s *Server) refuges(m move) []wire.ServerHint {
	loads := map[string]int{}
	for _, h := range s.directory.hints() {
		loads[h.Address] = h.Load
	}
	var l []wire.ServerHint
	for _, t := range m.targets {
		l = append(l, wire.ServerHint{Address: t.Address, Load: loads[t.Address]})
	}
	if m.target.Address == "" {
		return l
	}
	return first(m.target.Address, l)
}

// movable are the clients that can be told to go: those with a connection, or
// that beat by datagrams, and in a drain the agents' sessions too.
func (s *Server) movable(everyone bool) []candidate {
	var l []candidate
	s.table.Each(func(v session.View[peer]) bool {
		if s.canBeTold(v) && (everyone || v.Link == nil || v.Link.presence.Kind == Clients) {
			l = append(l, candidate{v.Link, v.Class, v.Client, v.Arrival})
		}
		return true
	})
	return l
}
