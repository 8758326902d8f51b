// Package record writes what a heartbeat server knows of its sessions to the
// store, in batches: who is online here, and who has gone. It coalesces by
// client, so that a session which ends and starts again while the store is away
// is written once, and it never writes about a client that another server holds.
//
// What is to be written is decided by a pure machine for each client; the
// Recorder is the shell around them.
package record

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// Store is what the Recorder needs of store.Store.
type Store interface {
	Revision() int64
	Rewinds() uint32
	Sync(ctx context.Context) (int64, error)
	Away(now time.Time) time.Duration
	RequestProgress(ctx context.Context) error
	NewBucket(ctx context.Context, server, incarnation string) (store.Bucket, error)
	WriteSessions(ctx context.Context, writes []store.SessionWrite) ([]store.SessionResult, error)
	ReadSessions(ctx context.Context, keys []store.SessionKey) ([]store.SessionResult, error)
	WatchSessions(ctx context.Context, from int64) (<-chan store.SessionEvents, error)
	SessionsOf(ctx context.Context, server, incarnation string) iter.Seq2[store.KeyedSession, error]
}

// Config is what a Recorder needs. All but Limit and Registerer is required.
type Config struct {
	// Server is "namespace/name", Incarnation this life of it.
	Server, Incarnation string
	Store               Store
	// Gaps looks at the clock, and counts how often this process was stopped, lost
	// its lease, or the store its history (store.Store.OnRewind): what is not
	// written yet is unproven then.
	Gaps func() uint32
	// Attend asks for Packet to be called with the next packets of a client, or
	// no more. It must not call the Recorder.
	Attend func(key store.SessionKey, on bool)
	// Lost ends the session of that arrival, which is another server's now. It
	// may call the Recorder.
	Lost func(key store.SessionKey, arrival uint64, why Loss)
	// Limit is how many clients may wait to be written; Full tells when there
	// are more. 0: 65536.
	Limit      int
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c *Config) validate() error {
	switch {
	case c.Server == "", c.Incarnation == "":
		return errors.New("record: Server and Incarnation are needed")
	case c.Store == nil, c.Gaps == nil, c.Attend == nil, c.Lost == nil, c.Logger == nil:
		return errors.New("record: Store, Gaps, Attend, Lost and Logger are needed")
	case c.Limit < 0:
		return errors.New("record: Limit is negative")
	}
	c.Limit = cmp.Or(c.Limit, 65536)
	return nil
}

// Recorder writes sessions to the store. Its methods are safe for concurrent
// use, and none of them waits for the store.
type Recorder struct {
	cfg     Config
	metrics *metrics
	buckets *buckets

	mu      sync.Mutex
	entries *entries
	// queue holds entries that may have something to write, each once.
	queue   []*entry
	waiting int // entries in the queue
	wake    chan struct{}
	// gaps that have been taken note of. While held, nothing is written: the
	// watch has not caught up since.
	gaps uint32
	held bool
	// away: the store is away; back is when it last came back, and failed when it last
	// did not take a batch, as far as seen.
	away      bool
	back      time.Time
	failed    time.Time
	watched   int64  // the revision that the watch has reached
	history   uint32 // the store's, that watched and all that is known is of
	started   chan struct{}
	start     sync.Once
	takeovers map[string]store.Takeovers
	origins   []string // of takeovers, oldest first
}

// New makes a Recorder; Run makes it work.
func New(cfg Config) (*Recorder, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	r := &Recorder{
		cfg: cfg, metrics: newMetrics(cfg.Registerer), buckets: &buckets{cfg: &cfg},
		entries: newEntries(), wake: make(chan struct{}, 1), started: make(chan struct{}),
		gaps: cfg.Gaps(), history: cfg.Store.Rewinds(), takeovers: map[string]store.Takeovers{},
	}
	r.buckets.cfg = &r.cfg
	return r, nil
}

// Run writes until the context ends; what is not written then stays unwritten
// (see Flush).
func (r *Recorder) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.watch(ctx) })
	group.Go(func() error { return r.observe(ctx) })
	for range writers {
		group.Go(func() error { return r.write(ctx) })
	}
	return group.Wait()
}

// Started is closed once Run watches all sessions: clients may be let in.
func (r *Recorder) Started() <-chan struct{} { return r.started }

// Arrival is a client that has connected, or reconnected.
type Arrival struct {
	Key store.SessionKey
	// Number orders the arrivals of a client.
	Number uint64
	// Session is what is to be recorded; Server and Incarnation are filled in.
	Session store.Session
	// Proof is the revision that the store knew when the client's packet was
	// read, and Gaps how many gaps there had been; 0 where the packet proves nothing.
	Proof int64
	Gaps  uint32
	// Left is why the client left its last server, where it says so (wire.Left…).
	Left string
	// Witness: it is an agent. Nobody takes its silence alone for anything.
	Witness bool
}

// Online says that a client is here.
func (r *Recorder) Online(a Arrival) {
	a.Session.Server, a.Session.Incarnation, a.Session.Offline = r.cfg.Server, r.cfg.Incarnation, false
	r.change(a.Key, func() *entry {
		e := r.entries.get(a.Key)
		if e == nil {
			e = r.entries.add(a.Key)
		} else if e.arrival > a.Number {
			return nil
		}
		if len(a.Session.Attributes) == 0 {
			a.Session.Attributes = r.session(e).Attributes // known until the session ends
		}
		e.connect(r.still(a.Proof, a.Gaps), !same(r.session(e), a.Session))
		e.arrival, e.witness = a.Number, a.Witness
		e.set(a.Session)
		e.comes(transit{e.from().origin, a.Left})
		return e
	})
}

// Renew says that a client's interval has changed.
func (r *Recorder) Renew(key store.SessionKey, arrival uint64, interval time.Duration) {
	r.update(key, func(e *entry, s *store.Session) bool {
		s.Interval = interval.Milliseconds()
		return e.arrival == arrival
	})
}

// Describe says what a principal's client says of itself, on whichever connection.
func (r *Recorder) Describe(key store.SessionKey, principal string, attributes map[string]string) {
	r.update(key, func(e *entry, s *store.Session) bool {
		s.Attributes = attributes
		return e.principal == principal
	})
}

// update changes what should be recorded of a client that is here, where f says so.
func (r *Recorder) update(key store.SessionKey, f func(*entry, *store.Session) bool) {
	r.change(key, func() *entry {
		e := r.entries.get(key)
		if e == nil || !e.online {
			return nil
		}
		s := r.session(e)
		if !f(e, &s) {
			return nil
		}
		if same(s, r.session(e)) {
			return nil
		}
		e.set(s)
		e.machine.change()
		return e
	})
}

// Packet says that a packet of a client was read when the store knew the
// revision proof, and when there had been so many gaps.
func (r *Recorder) Packet(key store.SessionKey, proof int64, gaps uint32) {
	r.change(key, func() *entry {
		e := r.entries.get(key)
		if e != nil {
			e.packet(r.still(proof, gaps))
		}
		return e
	})
}

// still is what a packet proves yet: nothing, where there was a gap between its
// reading and now; r.mu is held.
func (r *Recorder) still(proof int64, gaps uint32) int64 {
	if gaps != r.gaps {
		return 0
	}
	return proof
}

// Offline says that the session of that arrival has ended; lastSeen is when
// the client last beat.
func (r *Recorder) Offline(key store.SessionKey, arrival uint64, now, lastSeen time.Time) {
	r.offline(key, arrival, now, lastSeen, false)
}

// Left says that the client of that arrival has left on purpose: what it has
// willed is not published.
func (r *Recorder) Left(key store.SessionKey, arrival uint64, now time.Time) {
	r.offline(key, arrival, now, now, true)
}

func (r *Recorder) offline(key store.SessionKey, arrival uint64, now, lastSeen time.Time, unwilling bool) {
	r.change(key, func() *entry {
		e := r.entries.get(key)
		if e == nil || e.arrival > arrival {
			return nil
		}
		e.leave()
		e.since, e.lastSeen, e.silent = now.UnixMilli(), lastSeen.UnixMilli(), lastSeen.Before(now)
		if unwilling && e.says != nil {
			e.says = &says{attributes: e.says.attributes}
		}
		return e
	})
}

// change applies f to an entry, and does what is to be done then.
func (r *Recorder) change(key store.SessionKey, f func() *entry) {
	r.mu.Lock()
	r.noteGaps()
	e := f()
	var why Loss
	var arrival uint64
	if e != nil {
		why, arrival = r.settle(e), e.arrival
	}
	r.mu.Unlock()
	if why != Kept {
		r.cfg.Lost(key, arrival, why)
	}
}

// settle files an entry by what is to be done about it; r.mu is held. Where the
// session is lost, the caller calls Lost once it has unlocked.
func (r *Recorder) settle(e *entry) Loss {
	if e.own && e.from().origin != "" {
		r.tookOver(e)
	}
	switch a := e.next(); a {
	case idle:
		if !e.inFlight {
			r.cfg.Attend(e.key(), false)
		}
	case wait:
		r.cfg.Attend(e.key(), true)
	case write, read:
		if e.online {
			r.cfg.Attend(e.key(), true)
		}
		r.enqueue(e)
	case give, forget:
		r.entries.remove(e)
		r.buckets.leave(e.bucket)
		if a == give {
			r.metrics.lost.WithLabelValues(e.lost.String()).Inc()
			return e.lost
		}
	}
	return Kept
}

func (r *Recorder) enqueue(e *entry) {
	if e.queued {
		return
	}
	e.queued = true
	r.queue = append(r.queue, e)
	r.count(1)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Recorder) count(d int) {
	r.waiting += d
	r.metrics.waiting.Set(float64(r.waiting))
}

// Full tells whether more clients wait to be written than Limit.
func (r *Recorder) Full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting > r.cfg.Limit
}

// Takeovers counts the clients that came from other incarnations, by that
// incarnation: the newest 64.
func (r *Recorder) Takeovers() map[string]store.Takeovers {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.takeovers)
}

func (l Loss) String() string {
	return [...]string{"kept", "taken", "foreign"}[l]
}

// same tells whether two records of one incarnation say the same of a client.
// When it came is not compared: a session that is taken up again goes on.
func same(a, b store.Session) bool {
	return a.Incarnation == b.Incarnation && a.Offline == b.Offline && a.Principal == b.Principal &&
		a.Interval == b.Interval && maps.Equal(a.Attributes, b.Attributes) && bytes.Equal(a.Will, b.Will) && (a.Will == nil) == (b.Will == nil)
}
