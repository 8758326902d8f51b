// Package stall notices that this very process was not running when it should
// have been: starved of CPU, stopped, or swapped out. An observer in that state
// takes its own lateness for everybody else's, so what it says must not count.
package stall

import (
	"sync/atomic"
	"time"
)

const (
	// Limit is how late a timer may fire before the process counts as stalled.
	// It is one probe interval: what is later than that may already have cost an
	// answer its place.
	Limit = 200 * time.Millisecond
	// Memory is how long a stall discredits what is observed.
	Memory = 3 * time.Second
)

// Watch remembers the last stall. One is shared by all loops of a process: a
// stall that one of them notices is everybody's. The zero value is ready.
type Watch struct {
	last  atomic.Pointer[time.Time]
	count atomic.Int64
}

// Check tells whether a loop that should have run at due and runs at now was
// stalled, and remembers it. Loops call it whenever they wake, for whatever
// reason, before they believe anything that they find: the answers that arrived
// meanwhile may be read before the timer that fires late.
func (w *Watch) Check(due, now time.Time) bool {
	if due.IsZero() || now.Sub(due) <= Limit {
		return false
	}
	for {
		last := w.last.Load()
		if last != nil && !now.After(*last) {
			return true
		}
		if w.last.CompareAndSwap(last, &now) {
			w.count.Add(1)
			return true
		}
	}
}

// Last is when the last stall ended, as far as it was noticed; zero: never.
func (w *Watch) Last() time.Time {
	if last := w.last.Load(); last != nil {
		return *last
	}
	return time.Time{}
}

// Count is how many stalls were noticed, once by each loop that noticed.
func (w *Watch) Count() int64 { return w.count.Load() }

// Health is 1 within Memory of a stall, else 0.
func (w *Watch) Health(now time.Time) int {
	if last := w.last.Load(); last != nil && now.Sub(*last) < Memory {
		return 1
	}
	return 0
}
