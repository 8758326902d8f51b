package suspicion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rollcall-dev/rollcall/agent/gossip"
	"github.com/rollcall-dev/rollcall/agent/stall"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Gossip is what a Reporter needs of the membership; *gossip.Gossip is one.
type Gossip interface {
	// Ping blocks until the answer, or until it is late.
	Ping(node, address string) (time.Duration, error)
	Member(node string) (gossip.Member, bool)
	Changed() <-chan struct{}
}

// Target is a node to report on.
type Target struct {
	Node string
	// Agent is where its agent gossips, "ip:port"; empty: where gossip has it.
	Agent string
	// Address of the machine itself; empty: it can't be told to be dead.
	Address string
}

// Config is what a Reporter is made of.
type Config struct {
	Gossip Gossip
	// Port is what is tried on a machine whose agent is silent: any that a
	// living machine accepts or resets will do.
	Port int
	// Dial connects; nil: TCP.
	Dial func(ctx context.Context, address string) error

	// Observe is called with each change of a word, and Forget for each node
	// that is no target any more, from one goroutine. They must not block.
	Observe func(node string, s wire.Suspicion)
	Forget  func(node string)

	// Stall is shared by the loops of the process.
	Stall  *stall.Watch
	Logger *slog.Logger
}

// Reporter watches its targets.
type Reporter struct {
	cfg    Config
	events chan event
	done   chan struct{}
	wg     sync.WaitGroup

	mu      sync.Mutex
	targets map[string]Target
	fresh   chan struct{} // cap 1: targets have changed

	subjects map[string]*subject // of the loop
}

type subject struct {
	*Subject
	target Target
	told   wire.NodeWord
}

// event is the end of a ping or of an attempt to connect.
type event struct {
	subject  *subject
	ping     bool
	answered bool
	contact  Contact
	sent     time.Time
}

// New returns a Reporter without targets.
func New(cfg Config) *Reporter {
	if cfg.Dial == nil {
		cfg.Dial = dial
	}
	return &Reporter{
		cfg:      cfg,
		events:   make(chan event, 16),
		done:     make(chan struct{}),
		fresh:    make(chan struct{}, 1),
		subjects: map[string]*subject{},
	}
}

// SetTargets replaces the targets.
func (r *Reporter) SetTargets(targets []Target) {
	byNode := make(map[string]Target, len(targets))
	for _, t := range targets {
		byNode[t.Node] = t
	}
	r.mu.Lock()
	same := maps.Equal(byNode, r.targets)
	r.targets = byNode
	r.mu.Unlock()
	if same {
		return
	}
	select {
	case r.fresh <- struct{}{}:
	default:
	}
}

// Run reports until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	defer r.wg.Wait()
	defer close(r.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due := r.due()
		if due.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(due))
		}
		var ev *event
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-r.fresh:
			r.adopt(time.Now())
		case <-r.cfg.Gossip.Changed():
		case e := <-r.events:
			ev = &e
		}
		now := time.Now()
		if r.cfg.Stall.Check(due, now) {
			r.cfg.Logger.Debug("Reporter loop was stalled", "late", now.Sub(due))
			for _, s := range r.subjects {
				s.Stalled(now)
			}
		}
		if ev != nil {
			r.take(*ev, now)
		}
		for _, s := range r.subjects {
			r.step(ctx, s, now)
		}
	}
}

// due is when something must be done; zero: not before something happens.
func (r *Reporter) due() time.Time {
	var due time.Time
	for _, s := range r.subjects {
		ping, dial := s.Next()
		for _, t := range []time.Time{ping, dial} {
			if !t.IsZero() && (due.IsZero() || t.Before(due)) {
				due = t
			}
		}
	}
	return due
}

// adopt makes subjects of new targets, and forgets old ones.
func (r *Reporter) adopt(now time.Time) {
	r.mu.Lock()
	targets := maps.Clone(r.targets)
	r.mu.Unlock()
	for node, s := range r.subjects {
		if _, ok := targets[node]; !ok {
			delete(r.subjects, node)
			if s.told != "" {
				r.cfg.Forget(node)
			}
		}
	}
	for _, node := range slices.Sorted(maps.Keys(targets)) {
		if s, ok := r.subjects[node]; ok {
			s.target = targets[node]
			continue
		}
		r.subjects[node] = &subject{Subject: NewSubject(now), target: targets[node]}
	}
}

func (r *Reporter) take(e event, now time.Time) {
	if r.subjects[e.subject.target.Node] != e.subject {
		return // not ours any more
	}
	if e.ping {
		e.subject.Ponged(e.answered, e.sent, now)
	} else {
		e.subject.Contacted(e.contact, now)
	}
}

// step does for one subject what is due, and tells what is new.
func (r *Reporter) step(ctx context.Context, s *subject, now time.Time) {
	if m, ok := r.cfg.Gossip.Member(s.target.Node); ok {
		s.Answered(m.Answered, now) // before a goodbye, which may have followed it
		s.Gossiped(m.State == gossip.Lost, m.State == gossip.Left, now)
	}
	ping, dial := s.Next()
	if !ping.After(now) {
		s.Pinging(now)
		r.ping(s, now)
	}
	if !dial.IsZero() && !dial.After(now) {
		s.Dialing(now)
		r.dial(ctx, s, now)
	}
	if w, ok := s.Word(); ok && w.Word != s.told {
		if s.told != "" || w.Word != wire.NodeAlive {
			r.cfg.Logger.Info("Word on a node changed", "node", s.target.Node, "from", s.told, "to", w.Word, "detail", w.Detail)
		}
		s.told = w.Word
		r.cfg.Observe(s.target.Node, w)
	}
}

func (r *Reporter) ping(s *subject, now time.Time) {
	node, address := s.target.Node, s.target.Agent
	r.wg.Go(func() {
		_, err := r.cfg.Gossip.Ping(node, address)
		if errors.Is(err, gossip.ErrNotRunning) {
			return // nobody was asked
		}
		r.send(event{subject: s, ping: true, answered: err == nil, sent: now})
	})
}

func (r *Reporter) dial(ctx context.Context, s *subject, now time.Time) {
	if s.target.Address == "" {
		s.Contacted(ContactUnknown, now)
		return
	}
	address := net.JoinHostPort(s.target.Address, strconv.Itoa(r.cfg.Port))
	r.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, DialTimeout)
		defer cancel()
		err := r.cfg.Dial(ctx, address)
		if errors.Is(ctx.Err(), context.Canceled) {
			return
		}
		r.send(event{subject: s, contact: contact(err), sent: now})
	})
}

func (r *Reporter) send(e event) {
	select {
	case r.events <- e:
	case <-r.done:
	}
}

func dial(ctx context.Context, address string) error {
	d := net.Dialer{KeepAlive: -1}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", address, err)
	}
	return c.Close()
}

// contact tells what an attempt to connect says of the machine.
func contact(err error) Contact {
	var ne net.Error
	switch {
	case err == nil, errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return ContactMade
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EHOSTDOWN),
		errors.As(err, &ne) && ne.Timeout():
		return ContactNone
	}
	return ContactUnknown
}
