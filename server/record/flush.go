package record

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
)

const (
	// writers is how many batches may be under way.
	writers = 2
	// answerWithin bounds a batch. It is short, so that what was decided before
	// this process was stopped is not sent when it wakes.
	answerWithin = 3 * time.Second
	// linger is how long the first entry of a batch waits for others.
	linger = 2 * time.Millisecond
)

// write sends batches until the context ends.
func (r *Recorder) write(ctx context.Context) error {
	backoff := 100 * time.Millisecond
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wake:
		}
		pause(ctx, linger)
		for ctx.Err() == nil {
			sent, err := r.flush(ctx)
			if err != nil {
				r.troubled(time.Now())
				r.cfg.Logger.Warn("Sessions could not be written, will try again", "error", err, "waiting", r.Waiting())
				pause(ctx, backoff/2+rand.N(backoff))
				backoff = min(backoff*2, time.Second)
				r.rouse()
				break
			}
			backoff = 100 * time.Millisecond
			if sent == 0 {
				break
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Waiting is how many clients wait to be written.
func (r *Recorder) Waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting
}

// Flush writes what can be written at once, for a server that ends.
func (r *Recorder) Flush(ctx context.Context) error {
	for {
		if sent, err := r.flush(ctx); err != nil || sent == 0 {
			return err
		}
	}
}

// flush sends one batch of writes and one of reads, and tells how many there were.
func (r *Recorder) flush(ctx context.Context) (int, error) {
	if r.Waiting() == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if err := r.buckets.prepare(ctx); err != nil {
		return 0, err
	}
	b := r.take(time.Now())
	if len(b.writes) > 0 {
		results, err := r.cfg.Store.WriteSessions(ctx, b.writes)
		r.wrote(b, results, err)
		if err != nil {
			r.unread(b)
			return 0, err
		}
	}
	if len(b.reads) > 0 {
		results, err := r.cfg.Store.ReadSessions(ctx, b.keys())
		r.read(b, results, err)
		if err != nil {
			return 0, err
		}
	}
	return len(b.writes) + len(b.reads), nil
}

// batch is what is sent at once: written[i] and tickets[i] are of writes[i]. It
// was composed by what was known of one history of the store.
type batch struct {
	history uint32
	writes  []store.SessionWrite
	written []*entry
	tickets []ticket
	reads   []*entry
}

func (b *batch) keys() []store.SessionKey {
	keys := make([]store.SessionKey, len(b.reads))
	for i, e := range b.reads {
		keys[i] = e.key()
	}
	return keys
}

// take takes a batch off the queue, and nothing while what we know is unproven.
func (r *Recorder) take(now time.Time) batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := batch{history: r.history}
	r.noteAway(now)
	r.noteGaps()
	if r.held {
		return b
	}
	var later []*entry
	for len(r.queue) > 0 && len(b.writes) < store.MaxBatch && len(b.reads) < store.MaxBatch {
		e := r.queue[0]
		r.queue = r.queue[1:]
		a := e.next()
		if a == write && !e.online && r.tooSoon(e, now) {
			later = append(later, e)
			continue
		}
		e.queued = false
		r.count(-1)
		switch a {
		case write:
			w, ok := r.compose(e)
			if !ok {
				r.enqueue(e) // another batch has used up the buckets
				r.queue = append(r.queue, later...)
				return b
			}
			b.writes, b.written, b.tickets = append(b.writes, w), append(b.written, e), append(b.tickets, e.begin())
		case read:
			e.begin()
			b.reads = append(b.reads, e)
		default: // what there was to do is done, or waits
		}
	}
	r.queue = append(r.queue, later...)
	return b
}

func (r *Recorder) compose(e *entry) (store.SessionWrite, bool) {
	w := store.SessionWrite{Key: e.key(), Session: r.session(e), Revision: e.base}
	if !e.online {
		w.Session.Offline, w.Session.LastSeen = true, e.lastSeen
		return w, true // a tombstone has a lease of its own
	}
	if e.bucket == 0 {
		e.bucket = r.buckets.join()
	}
	w.Bucket = e.bucket
	return w, e.bucket != 0
}

// wrote takes the results of a batch of writes.
func (r *Recorder) wrote(b batch, results []store.SessionResult, err error) {
	var gone *store.BucketGoneError
	errors.As(err, &gone)
	r.each(b.written, func(i int, e *entry) {
		switch {
		case b.history != r.history: // whatever it says is of the past
			e.failed()
		case gone != nil:
			if slices.Contains(gone.Buckets, e.bucket) {
				e.bucket = 0
			}
			e.failed()
		case err != nil:
			r.metrics.writes.WithLabelValues("failed").Inc()
			e.failed()
		case results[i].Won:
			r.metrics.writes.WithLabelValues("won").Inc()
			e.won(b.tickets[i], results[i].Revision)
		default:
			r.metrics.writes.WithLabelValues("refused").Inc()
			r.learned(e, results[i])
		}
	})
	if gone != nil {
		r.forgetBuckets(gone.Buckets)
	}
}

func (r *Recorder) read(b batch, results []store.SessionResult, err error) {
	r.each(b.reads, func(i int, e *entry) {
		if err != nil || b.history != r.history {
			e.failed()
			return
		}
		r.learned(e, results[i])
	})
}

// unread puts back what should have been read after a write that failed.
func (r *Recorder) unread(b batch) {
	r.each(b.reads, func(_ int, e *entry) { e.failed() })
}

// learned is what a failed compare or a read has shown.
func (r *Recorder) learned(e *entry, got store.SessionResult) {
	e.machine.found(r.found(e, got.AsOf, got.Revision, got.Current))
}

// each does f for every entry, and then what is to be done about it.
func (r *Recorder) each(entries []*entry, f func(int, *entry)) {
	type loss struct {
		key     store.SessionKey
		arrival uint64
		why     Loss
	}
	var lost []loss
	r.mu.Lock()
	for i, e := range entries {
		f(i, e)
		if why := r.settle(e); why != Kept {
			lost = append(lost, loss{e.key(), e.arrival, why})
		}
	}
	r.mu.Unlock()
	for _, l := range lost {
		r.cfg.Lost(l.key, l.arrival, l.why)
	}
}

// forgetBuckets: what was in these buckets is gone from the store, or will be.
func (r *Recorder) forgetBuckets(gone []store.BucketID) {
	r.buckets.forget(gone)
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := range r.entries.each() {
		if slices.Contains(gone, e.bucket) {
			e.bucket = 0
		}
	}
}

// buckets are the leases that this server's records lie in.
type buckets struct {
	cfg     *Config
	making  sync.Mutex // held while a bucket is made
	mu      sync.Mutex
	members map[store.BucketID]int
}

// prepare makes sure that there is room for the batches that may be under way.
func (b *buckets) prepare(ctx context.Context) error {
	b.making.Lock()
	defer b.making.Unlock()
	if b.room() >= writers*store.MaxBatch {
		return nil
	}
	made, err := b.cfg.Store.NewBucket(ctx, b.cfg.Server, b.cfg.Incarnation)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.members == nil {
		b.members = map[store.BucketID]int{}
	}
	b.members[made.ID] = 0
	return nil
}

func (b *buckets) room() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, members := range b.members {
		n += store.BucketSize - members
	}
	return n
}

// join is a bucket with room, 0 where there is none.
func (b *buckets) join() store.BucketID {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, members := range b.members {
		if members < store.BucketSize {
			b.members[id]++
			return id
		}
	}
	return 0
}

func (b *buckets) leave(id store.BucketID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.members[id] > 0 {
		b.members[id]--
	}
}

func (b *buckets) forget(gone []store.BucketID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range gone {
		delete(b.members, id)
	}
}
