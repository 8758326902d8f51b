// Package orphans declares clients Offline whose server was lost and who did
// not come to another: by verdict, under the brake, and never while a Failover
// of that server is in progress. It reads the sessions of lost servers only.
// Clients of servers that live are those servers' own to declare.
package orphans

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/controllers/lead"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

const (
	// every is how often lost servers are looked for.
	every = time.Second
	// again is the longest time between two readings of one server's sessions.
	again = 30 * time.Second
	// agentGrace is the grace of the agents' own sessions.
	agentGrace = 500 * time.Millisecond
	// defaultGrace is that of a Presence that doesn't exist any more.
	defaultGrace = 5 * time.Second
)

// Config of a Keeper; every field is needed.
type Config struct {
	Store  *store.Store
	Book   *evidence.Book
	Ledger *failover.Ledger
	Seat   *lead.Seat
	// Last is the newest judgement; nil: none.
	Last func() *judge.Result
	// Namespace is the installation's.
	Namespace  string
	Now        func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Keeper looks after the clients of lost servers.
type Keeper struct {
	cfg      Config
	declared prometheus.Counter
	// seen is what was found of each loss, and mute when a server last may have
	// served clients without a lease. Only the goroutine of Run touches them.
	seen map[loss]*finding
	mute time.Time
	// rewound is when the store last turned out to have lost history, in
	// nanoseconds of the Unix epoch; 0: never.
	rewound atomic.Int64
}

// loss is the end of one life of a server; incarnation "" stands for every one.
type loss struct{ server, incarnation string }

type finding struct {
	since time.Time // of the loss
	next  time.Time // when to read again; zero: nobody is left
	term  int64
}

// New makes a Keeper.
func New(cfg Config) (*Keeper, error) {
	if cfg.Store == nil || cfg.Book == nil || cfg.Ledger == nil || cfg.Seat == nil || cfg.Last == nil ||
		cfg.Namespace == "" || cfg.Now == nil || cfg.Logger == nil || cfg.Registerer == nil {
		return nil, errors.New("orphans: every field of Config is needed")
	}
	k := &Keeper{cfg: cfg, seen: map[loss]*finding{}, declared: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rollcall_orphans_offline_total",
		Help: "Clients declared offline because their server was lost and they came to no other.",
	})}
	cfg.Store.OnRewind(func() { k.rewound.Store(cfg.Now().UnixNano()) })
	return k, cfg.Registerer.Register(k.declared)
}

// Run looks after orphans while this process leads, until the context ends.
func (k *Keeper) Run(ctx context.Context) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		t, r := k.cfg.Seat.Current(), k.cfg.Last()
		if t == nil || r == nil || !r.World.Warm {
			continue
		}
		if err := k.look(t, r); err != nil && t.Context.Err() == nil {
			k.cfg.Logger.Warn("Orphans could not be looked after, and are again", "err", err)
		}
	}
}

// look reads the sessions of every loss that is due.
func (k *Keeper) look(t *lead.Tenure, r *judge.Result) error {
	losses := k.losses(r)
	for l := range k.seen {
		if _, lost := losses[l]; !lost {
			delete(k.seen, l)
		}
	}
	failovers, err := k.cfg.Ledger.All(t.Context, "")
	if err != nil {
		return err
	}
	for l, since := range losses {
		f := k.seen[l]
		if f == nil || f.since != since || f.term != t.Term() {
			f = &finding{since: since, next: since, term: t.Term()}
			k.seen[l] = f
		}
		if f.next.IsZero() || k.cfg.Now().Before(f.next) {
			continue
		}
		if f.next, err = k.sweep(t, r, l, since, failovers); err != nil {
			f.next = k.cfg.Now().Add(every)
			return fmt.Errorf("sessions of %s: %w", l.server, err)
		}
	}
	return nil
}

// losses are the lives of servers that are certainly over, or of no use: a
// lease that ended is not enough, for its server may go on answering.
func (k *Keeper) losses(r *judge.Result) map[loss]time.Time {
	all := map[loss]time.Time{}
	defer func() {
		// While the store was away, or since it has lost history, a client may have
		// come to another server that could not say so yet: it needs one more beat.
		// So while a server that may serve is cut off from the store.
		from := later(later(r.World.StoreBack, k.lastRewind()), k.mute)
		for l, since := range all {
			all[l] = later(since, from)
		}
	}()
	for server, s := range r.Servers {
		pod, exists := r.Pod(server)
		v := verdictOn(r, server)
		if exists && !s.Live && !pod.Terminating && v.MayServe() {
			k.mute = k.cfg.Now()
		}
		switch {
		case s.Live:
			for incarnation, at := range k.cfg.Book.Former(server) {
				all[loss{server, incarnation}] = at
			}
		case !exists:
			all[loss{server, ""}] = s.Changed
		case v.State.Bad():
			all[loss{server, ""}] = later(s.Changed, v.Since)
		}
	}
	return all
}

func (k *Keeper) lastRewind() time.Time {
	if at := k.rewound.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

func verdictOn(r *judge.Result, server string) verdict.Verdict {
	for _, p := range r.Populations {
		if v, ok := p.Judgement.Verdicts[server]; ok && p.Subject == v1alpha1.SubjectServers {
			return v
		}
	}
	return verdict.Verdict{State: verdict.Unknown}
}

// sweep judges the sessions of one loss, and tells when to do it again; zero:
// nobody is left.
func (k *Keeper) sweep(t *lead.Tenure, r *judge.Result, l loss, since time.Time, failovers []*v1alpha1.Failover) (time.Time, error) {
	now := k.cfg.Now()
	active, ended := progress(failovers, l.server)
	brake := brakeOf(r, l.server)
	var next time.Time
	var batch []store.SessionWrite
	for s, err := range k.cfg.Store.SessionsOf(t.Context, l.server, l.incarnation) {
		if err != nil {
			return time.Time{}, err
		}
		policy, retention := k.policy(r, s.Key)
		v, look := verdict.Client(now, policy, verdict.Session{
			Interval:   time.Duration(s.Session.Interval) * time.Millisecond,
			ServerLost: since, Failover: active, FailoverEnded: ended,
		}, brake)
		if v.State != verdict.Offline {
			if look.IsZero() || look.After(now.Add(again)) {
				look = now.Add(again)
			}
			if next.IsZero() || look.Before(next) {
				next = look
			}
			continue
		}
		gone := *s.Session
		gone.Offline, gone.Since, gone.LastSeen = true, now.UnixMilli(), since.UnixMilli()
		batch = append(batch, store.SessionWrite{Key: s.Key, Session: gone, Revision: s.Revision, Retention: retention})
		if len(batch) == store.MaxBatch {
			if err := k.declare(t, l.server, batch); err != nil {
				return time.Time{}, err
			}
			batch = nil
		}
	}
	if (active || brake.Frozen) && !next.IsZero() {
		next = now.Add(every) // it may end at any time
	}
	if len(batch) > 0 {
		if err := k.declare(t, l.server, batch); err != nil {
			return time.Time{}, err
		}
	}
	if next.IsZero() && l.incarnation == "" {
		k.cfg.Book.Empty(l.server)
	}
	return next, nil
}

// declare writes a batch. Clients whose record has changed since it was read
// have come back: the compare fails, and they are left alone. Agents end with their
// nodes, and are no clients that were lost.
func (k *Keeper) declare(t *lead.Tenure, server string, batch []store.SessionWrite) error {
	results, err := t.MarkOffline(t.Context, batch)
	if err != nil {
		return err
	}
	clients, agents := 0, 0
	for i, r := range results {
		switch {
		case !r.Won:
		case evidence.ByAgent(k.cfg.Namespace, batch[i].Key):
			agents++
		default:
			clients++
		}
	}
	k.declared.Add(float64(clients))
	k.cfg.Logger.Info("Clients of a lost server declared offline", "server", server, "clients", clients, "agents", agents)
	return nil
}

// policy is that of a session's Presence, and how long its tombstone is kept.
func (k *Keeper) policy(r *judge.Result, key store.SessionKey) (verdict.ClientPolicy, time.Duration) {
	if evidence.ByAgent(k.cfg.Namespace, key) {
		return verdict.ClientPolicy{Grace: agentGrace}, 0
	}
	p := r.Of(key.Namespace, key.Presence)
	if p == nil || p.Presence.Spec.Clients == nil {
		return verdict.ClientPolicy{Grace: defaultGrace}, 0
	}
	spec := p.Presence.Spec.Clients
	policy := verdict.ClientPolicy{
		MissesUntilLate: int(spec.MissesUntilLate), MissesUntilOffline: int(spec.MissesUntilOffline), Grace: defaultGrace,
	}
	if spec.Grace != nil {
		policy.Grace = spec.Grace.Duration
	}
	return policy, spec.Retention.Duration
}

// progress tells whether the clients of a server are being moved, and when the
// last such Failover ended.
func progress(failovers []*v1alpha1.Failover, server string) (active bool, ended time.Time) {
	for _, fo := range failovers {
		if fo.Namespace+"/"+fo.Spec.Server != server || !failover.Drains(fo) {
			continue
		}
		if !failover.Finished(fo) {
			active = true
		} else if at := fo.Status.CompletedAt; at != nil && at.After(ended) {
			ended = at.Time
		}
	}
	return active, ended
}

// brakeOf is the brake of the Presence that a server belongs to. Nobody speaks
// for a server of none, so there a frozen one anywhere counts.
func brakeOf(r *judge.Result, server string) verdict.Brake {
	var brake verdict.Brake
	for _, p := range r.Populations {
		if p.Subject != v1alpha1.SubjectServers || p.Refused != "" {
			continue
		}
		if _, ok := p.Judgement.Verdicts[server]; ok {
			return p.Judgement.Brake
		}
		brake = brake.Or(p.Judgement.Brake)
	}
	return brake
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
