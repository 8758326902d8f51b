package watch

import (
	"context"
	"sync"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// feed is what has happened at one Presence of late.
type feed struct {
	keep int
	end  context.CancelFunc
	done sync.WaitGroup

	// Guarded by the Hub's mu.

	subscribers, listeners int

	mu sync.Mutex
	// log holds the changes numbered from base on. At most a quarter more than keep.
	log  []store.KeyedSession
	base uint64
	// round is incremented with each gap: what was told before it may not be all
	// there was. 0: nothing is known yet.
	round   uint64
	history uint32
	more    chan struct{} // closed, and replaced, when there is more
}

func newFeed(keep int) *feed { return &feed{keep: keep, more: make(chan struct{})} }

// take takes what the store tells.
func (f *feed) take(c store.PresenceChanges) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.Gap {
		f.round++
		f.base += uint64(len(f.log))
		f.log = nil
	}
	f.history = c.History
	f.log = append(f.log, c.Changes...)
	if over := len(f.log) - f.keep; over > f.keep/4 { // now and then: it is copied
		f.base += uint64(over)
		f.log = append([]store.KeyedSession(nil), f.log[over:]...)
	}
	if c.Gap || len(c.Changes) > 0 {
		close(f.more)
		f.more = make(chan struct{})
	}
}

// position is where a subscriber is in a feed.
type position struct {
	round   uint64
	history uint32
	next    uint64 // of the change that it has not been told
}

// now is the end of the log, once something is known. What is read of the store
// after this call holds all that is before.
func (f *feed) now(ctx context.Context) (position, error) {
	for {
		f.mu.Lock()
		p, more := position{f.round, f.history, f.base + uint64(len(f.log))}, f.more
		f.mu.Unlock()
		if p.round > 0 {
			return p, nil
		}
		select {
		case <-ctx.Done():
			return position{}, ctx.Err()
		case <-more:
		}
	}
}

// takeAtOnce is how many changes a subscriber takes off the log at once.
const takeAtOnce = 256

// after are the changes from p on, and where they lead. Where there are none,
// more is closed when that changes. gap: there was one, or p is no more.
func (f *feed) after(p position) (changes []store.KeyedSession, to position, more <-chan struct{}, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case p.round != f.round:
		return nil, p, nil, errGap
	case p.next < f.base:
		return nil, p, nil, ErrBehind
	}
	// The log is only appended to, and copied where it is cut.
	changes = f.log[p.next-f.base:]
	changes = changes[:min(len(changes), takeAtOnce):min(len(changes), takeAtOnce)]
	p.next += uint64(len(changes))
	return changes, p, f.more, nil
}
