// Package lead runs for the leadership of the controllers, which lives in etcd,
// and says who holds it. Every replica watches and judges; only the leader
// writes, and what it writes into the store is fenced by its term.
package lead

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// Backoff between campaigns that fail: etcd is away, or the session was lost at
// once. Full jitter up to a bound that doubles.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 2 * time.Second
	// resignWithin bounds how long an ending process tries to hand over.
	resignWithin = time.Second
)

// Tenure is one unbroken leadership of this process.
type Tenure struct {
	*store.Leadership
	// Context ends with the leadership: nothing may be written after it.
	Context context.Context
	// Since is when it began, by this process's clock.
	Since time.Time
}

// Config of a Seat; every field is needed.
type Config struct {
	Store *store.Store
	// ID names this replica in the election.
	ID         string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Changed is called, from the goroutine of Run, whenever the leadership
	// began or ended; Current already tells which. It must not block.
	Changed func()
}

// Seat is the leadership as this process sees it.
type Seat struct {
	cfg     Config
	leading prometheus.Gauge
	terms   prometheus.Counter

	mu      sync.RWMutex
	current *Tenure
}

// New makes a Seat that Run fills.
func New(cfg Config) (*Seat, error) {
	if cfg.Store == nil || cfg.ID == "" || cfg.Logger == nil || cfg.Registerer == nil || cfg.Changed == nil {
		return nil, errors.New("lead: every field of Config is needed")
	}
	s := &Seat{
		cfg: cfg,
		leading: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rollcall_controller_leading", Help: "1 while this replica leads.",
		}),
		terms: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_controller_terms_total", Help: "Leaderships that this process has begun.",
		}),
	}
	for _, c := range []prometheus.Collector{s.leading, s.terms} {
		if err := cfg.Registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Current is the tenure of this process, or nil while it doesn't lead.
func (s *Seat) Current() *Tenure {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.current
}

// Run campaigns until the context ends, again after every loss, and resigns at the end.
func (s *Seat) Run(ctx context.Context) error {
	backoff := minBackoff
	for ctx.Err() == nil {
		leadership, err := s.cfg.Store.Campaign(ctx, s.cfg.ID)
		if err == nil {
			backoff = minBackoff
			s.hold(ctx, leadership)
			continue
		}
		if ctx.Err() == nil {
			s.cfg.Logger.Warn("Campaign failed", "err", err)
		}
		wait(ctx, rand.N(backoff))
		backoff = min(2*backoff, maxBackoff)
	}
	return nil
}

// hold leads until the leadership is lost or the process ends.
func (s *Seat) hold(ctx context.Context, leadership *store.Leadership) {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	s.set(&Tenure{Leadership: leadership, Context: within, Since: time.Now()})
	s.leading.Set(1)
	s.terms.Inc()
	s.cfg.Logger.Info("Leading", "id", s.cfg.ID, "term", leadership.Term())
	select {
	case <-ctx.Done():
	case <-leadership.Lost():
		s.cfg.Logger.Warn("Leadership lost", "id", s.cfg.ID, "term", leadership.Term())
	}
	cancel()
	s.leading.Set(0)
	s.set(nil)
	// Resigning also frees what a lost leadership still holds on this side.
	resign, done := context.WithTimeout(context.WithoutCancel(ctx), resignWithin)
	defer done()
	if err := leadership.Resign(resign); err != nil {
		s.cfg.Logger.Warn("Resigning failed; the term ends by itself", "err", err)
	}
}

func (s *Seat) set(t *Tenure) {
	s.mu.Lock()
	s.current = t
	s.mu.Unlock()
	s.cfg.Changed()
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
