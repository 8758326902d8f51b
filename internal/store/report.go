package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	reportTaken = "taken"
	reportStale = "stale" // older than one that was taken before

	// reportAuthors is how many agents' last reports are remembered; beyond it
	// the one that has been silent longest is forgotten.
	reportAuthors = 1 << 14
)

// reports brings etcd into line with what agents last reported through this
// process.
//
// The last report of each agent is kept, and so is a mirror of what etcd holds
// of all agents' words. An agent is dirty when the two may differ: because it
// has reported, or because its records were changed by somebody else. One
// goroutine (see reconcile) writes the differences, each under a compare of the
// record's revision, until there is none. So a report that changes nothing
// costs nothing; and when another server has written an older report later,
// that is put right as soon as the watch shows it.
type reports struct {
	once   sync.Once
	work   chan struct{} // holds one while an agent is dirty
	mirror chan struct{} // closed when the mirror is complete

	mu      sync.Mutex
	last    map[string]*authored       // by agent
	dirty   map[string]bool            // agents
	records map[string]record          // the mirror, by key in etcd
	mine    map[string]map[string]bool // an agent's keys in records
	loaded  int                        // how many of the two halves of the mirror are complete
	bucket  BucketID                   // the lease that our writes hang on; 0: none yet
}

// authored is the last report of an agent.
type authored struct {
	boot, seq int64
	at        time.Time
	words     map[string]word // by key in etcd
	waiting   []chan struct{} // closed when etcd is in line with it
}

// record is a word as etcd holds it.
type record struct {
	word
	author   string
	revision int64
}

// PutReport brings etcd into line with an agent's report: its observations and
// suspicions are written where they have changed, and those that it no longer
// makes are deleted (those that came through another server a moment ago, as soon
// as the watch shows them). It returns when that is done; when ctx ends first it
// still will be done, unless the agent reports anew before.
//
// Reports are ordered by Boot and Seq: an older one never stands against a newer
// one, whichever server it came through. What only varies (the answer time and
// the queue delay by less than a factor of two, details) is not written by
// itself.
func (s *Store) PutReport(ctx context.Context, report wire.Report) error {
	words, err := wordsOf(report)
	if err != nil {
		return fmt.Errorf("store: report: %w", err)
	}
	r := &s.reports
	r.once.Do(func() { r.begin(s) })
	done := r.take(report, words, s.clock())
	if done == nil {
		s.metrics.reports.WithLabelValues(reportStale).Inc()
		return nil
	}
	s.metrics.reports.WithLabelValues(reportTaken).Inc()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("store: report of %q: %w", report.Node, ctx.Err())
	case <-s.ctx.Done():
		return fmt.Errorf("store: report of %q: %w", report.Node, s.ctx.Err())
	}
}

func (r *reports) begin(s *Store) {
	r.work = make(chan struct{}, 1)
	r.mirror = make(chan struct{})
	r.last = make(map[string]*authored)
	r.dirty = make(map[string]bool)
	r.records = make(map[string]record)
	r.mine = make(map[string]map[string]bool)
	s.spawn(func() { s.mirrorReports(observationsRoot) })
	s.spawn(func() { s.mirrorReports(suspicionsRoot) })
	s.spawn(s.reconcile)
}

// take makes a report its agent's last, and returns what will be closed when
// etcd is in line; nil: a newer one was taken before.
func (r *reports) take(report wire.Report, words map[string]word, now time.Time) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.last[report.Node]
	switch {
	case a == nil:
		if len(r.last) >= reportAuthors {
			r.forget()
		}
		a = &authored{}
		r.last[report.Node] = a
	case older(report.Boot, report.Seq, a.boot, a.seq):
		return nil
	}
	a.boot, a.seq, a.at, a.words = report.Boot, report.Seq, now, words
	done := make(chan struct{})
	a.waiting = append(a.waiting, done)
	r.mark(report.Node)
	return done
}

// forget drops the agent that has been silent longest.
func (r *reports) forget() {
	var oldest string
	for node, a := range r.last {
		if oldest == "" || a.at.Before(r.last[oldest].at) {
			oldest = node
		}
	}
	for _, done := range r.last[oldest].waiting {
		close(done)
	}
	delete(r.last, oldest)
	delete(r.dirty, oldest)
}

// mark has the agent's records compared with its last report. r.mu is held.
func (r *reports) mark(author string) {
	if r.last[author] == nil {
		return // it does not report through us
	}
	r.dirty[author] = true
	select {
	case r.work <- struct{}{}:
	default:
	}
}

// know notes what etcd holds under a key; nil: nothing. What is older than what
// is known is no news. r.mu is held.
func (r *reports) know(key, author string, rev int64, w *word) {
	old, was := r.records[key]
	if was && rev < old.revision {
		return
	}
	if w == nil {
		delete(r.records, key)
		delete(r.mine[author], key)
		if len(r.mine[author]) == 0 {
			delete(r.mine, author)
		}
		return
	}
	r.records[key] = record{word: *w, author: author, revision: rev}
	if r.mine[author] == nil {
		r.mine[author] = make(map[string]bool)
	}
	r.mine[author][key] = true
}

// change is one key that is to be brought into line.
type change struct {
	key, author string
	revision    int64 // what is known of it; 0: absent
	word        *word // nil: to be deleted
}

// differences is what is to be done for dirty agents, who are clean afterwards;
// those for whom there is nothing to do have what waits for them closed.
func (r *reports) differences() []change {
	r.mu.Lock()
	defer r.mu.Unlock()
	var todo []change
	for author := range r.dirty {
		a, before := r.last[author], len(todo)
		for key, w := range a.words {
			now, there := r.records[key]
			if there && (older(w.boot, w.seq, now.boot, now.seq) || !w.differs(now.word)) {
				continue
			}
			todo = append(todo, change{key, author, now.revision, &w})
		}
		for key := range r.mine[author] {
			now := r.records[key]
			if _, still := a.words[key]; !still && older(now.boot, now.seq, a.boot, a.seq) {
				todo = append(todo, change{key, author, now.revision, nil})
			}
		}
		if len(todo) == before {
			for _, done := range a.waiting {
				close(done)
			}
			a.waiting = nil
			delete(r.dirty, author)
		}
	}
	return todo
}

// older tells whether one report is older than another.
func older(boot, seq, thanBoot, thanSeq int64) bool {
	return boot < thanBoot || boot == thanBoot && seq < thanSeq
}
