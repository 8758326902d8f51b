package session

import (
	"sync"
	"sync/atomic"
	"time"
)

// Tick is a moment of a server's own monotonic clock, in units of TickLength
// since shortly before the process began: good for 6 years, half of its range.
type Tick uint32

// TickLength is the resolution of beats and deadlines.
const TickLength = 100 * time.Millisecond

// GapAfter is how long a process's own clock may stand still before the process
// counts as stopped.
const GapAfter = time.Second

// Ticks is how many ticks d takes, rounded up.
func Ticks(d time.Duration) Tick { return Tick((d + TickLength - 1) / TickLength) }

// Clock is a process's own clock, which also notices that the process was
// stopped: a gap. Safe for concurrent use; Stamp takes some 50 ns.
type Clock struct {
	now func() time.Duration // monotonic

	// seen is when anyone last looked, in ns; advanced by Advance, and by
	// whoever notices a gap.
	seen atomic.Int64

	mu sync.Mutex // serialises gaps
	// gaps is incremented before seen is advanced past a gap, so that whoever
	// sees the later seen sees the gap.
	gaps atomic.Uint32
	// woke is the tick at which the last gap ended.
	woke atomic.Uint32
}

// Stamp is a moment, and how many gaps came before it.
type Stamp struct {
	Tick Tick
	Gaps uint32
}

// NewClock reads now, a monotonic clock whose zero is of no importance; nil is
// the process's own.
func NewClock(now func() time.Duration) *Clock {
	if now == nil {
		start := time.Now()
		now = func() time.Duration { return time.Since(start) + TickLength }
	}
	c := &Clock{now: now}
	c.seen.Store(int64(now()))
	return c
}

// Stamp is now. Take it before a read, not after: what is read then arrived no
// earlier than the stamp can vouch for.
func (c *Clock) Stamp() Stamp { return c.stamp(c.now()) }

func (c *Clock) stamp(now time.Duration) Stamp {
	if now-time.Duration(c.seen.Load()) > GapAfter {
		c.gap(now, false)
	}
	return Stamp{Tick(now / TickLength), c.gaps.Load()}
}

// Advance tells the clock that the process runs; it is called every TickLength. What
// is noted is when it was called: a stop before it returns is a gap all the same.
func (c *Clock) Advance() Stamp {
	seen, now := c.seen.Load(), c.now()
	s := c.stamp(now)
	c.seen.CompareAndSwap(seen, int64(now)) // else somebody has noticed a gap
	return s
}

// Distrust makes a gap of now: what the process knew is unproven, for a reason
// of its own.
func (c *Clock) Distrust() { c.gap(c.now(), true) }

func (c *Clock) gap(now time.Duration, certain bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !certain && now-time.Duration(c.seen.Load()) <= GapAfter {
		return // somebody else noticed
	}
	c.woke.Store(uint32(now / TickLength))
	c.gaps.Add(1)
	c.seen.Store(int64(now))
}

// Gaps is how many gaps there were.
func (c *Clock) Gaps() uint32 { return c.gaps.Load() }

// Woke is when the last gap ended, the zero Tick where there was none. No
// session is held to have been silent before it: it was us who did not listen.
func (c *Clock) Woke() Tick { return Tick(c.woke.Load()) }
