// Package judge turns the evidence into verdicts and plans whenever something
// changes, and publishes them. It writes nothing, and decides nothing by
// itself: internal/verdict and internal/plan do. Every replica judges, so that
// a new leader begins with warm state.
package judge

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

const (
	// gap is the shortest time between two judgements: the first change is
	// judged at once, those that follow within it together.
	gap = 20 * time.Millisecond
	// lookAgain is the longest: that the store is away shows in no watch.
	lookAgain = time.Second
	// Warmup is how long all sources must have been watched before anything is
	// done: silence can then be told from this process's own start.
	Warmup = 2 * time.Second
)

// Config of a Judge; every field but Apart and StandIn is needed.
type Config struct {
	Book *evidence.Book
	// Cache of Presences, Pods and Nodes; it must be synced when Run begins.
	Cache  client.Reader
	Ledger *failover.Ledger
	// Installation is which Presences are judged.
	Installation v1alpha1.Installation
	// Apart: gossip goes by the nodes' network; see verdict.World.
	Apart bool
	// StandIn is this process where it can observe servers too, while it leads; nil:
	// it cannot.
	StandIn *store.StandIn
	// Leading tells whether this process leads.
	Leading func() bool
	// GatesForbidden tells whether this process may not write the status of pods.
	GatesForbidden func() bool
	// Away is how long the store has not answered.
	Away func(now time.Time) time.Duration
	// Now is the clock.
	Now        func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Publish gets every result, from the goroutine of Run, with the context of that.
	// It must not block.
	Publish func(context.Context, *Result)
}

func (c Config) validate() error {
	if c.Book == nil || c.Cache == nil || c.Ledger == nil || c.Installation.Namespace == "" || c.GatesForbidden == nil || c.Away == nil || c.Leading == nil || c.Now == nil ||
		c.Logger == nil || c.Registerer == nil || c.Publish == nil {
		return errors.New("judge: every field of Config but Apart and StandIn is needed")
	}
	return nil
}

// Judge judges.
type Judge struct {
	cfg      Config
	duration prometheus.Histogram
	stale    atomic.Bool // the roster must be read anew
	last     atomic.Pointer[Result]

	// Only the goroutine of Run touches what follows.
	roster  *roster
	started time.Time
	// What the last judgements said, to be handed back.
	nodes     verdict.Judgement
	servers   map[types.NamespacedName]verdict.Judgement
	observers electorate
	// kept is what leaders keep for each other, as of this judgement.
	kept kept
	// usual is what the servers of each Presence usually take to answer.
	usual map[types.NamespacedName]verdict.Calibration
	// memory is the plan's, by Presence.
	memory map[types.NamespacedName]plan.Memory
	// seen is when each Failover was first seen here. What is compared with
	// this process's own times must not be another machine's clock.
	seen map[types.UID]time.Time
	// first is when that was noted first: what was there then is of unknown age.
	first time.Time
	// begun are pods that have been seen Ready or with a record, and alive when
	// each server was last found Alive.
	begun map[types.UID]bool
	alive map[string]time.Time
	// away is whether the store was away for long at the last judgement, back
	// when it last came back from that.
	away bool
	back time.Time
}

// New makes a Judge.
func New(cfg Config) (*Judge, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	j := &Judge{
		cfg: cfg,
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "rollcall_judgement_seconds",
			Help:    "How long one judgement of everything takes.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8),
		}),
		servers: map[types.NamespacedName]verdict.Judgement{},
		memory:  map[types.NamespacedName]plan.Memory{},
		usual:   map[types.NamespacedName]verdict.Calibration{},
		seen:    map[types.UID]time.Time{},
		begun:   map[types.UID]bool{},
		alive:   map[string]time.Time{},
	}
	j.stale.Store(true)
	return j, cfg.Registerer.Register(j.duration)
}

// Last is the newest result; nil: there is none yet.
func (j *Judge) Last() *Result { return j.last.Load() }

// Enrol makes the next judgement read Presences, pods and nodes anew, and soon.
func (j *Judge) Enrol() {
	j.stale.Store(true)
	j.cfg.Book.Touch()
}

// Run judges at every change, and when time alone may change a verdict, until
// the context ends.
func (j *Judge) Run(ctx context.Context) error {
	j.started = j.cfg.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-j.cfg.Book.Changed():
		case <-timer.C:
		}
		now := j.cfg.Now()
		result, err := j.judge(ctx, now)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			j.cfg.Logger.Error("Judgement failed, and is made again", "err", err)
			timer.Reset(lookAgain)
			continue
		}
		j.duration.Observe(j.cfg.Now().Sub(now).Seconds())
		j.last.Store(result)
		j.cfg.Publish(ctx, result)
		if !pause(ctx, gap-j.cfg.Now().Sub(now)) {
			return nil
		}
		wait := lookAgain
		if next := result.next(); !next.IsZero() {
			wait = min(wait, max(0, next.Sub(j.cfg.Now())))
		}
		timer.Reset(wait)
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
