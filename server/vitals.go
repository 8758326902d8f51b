package server

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/rollcall-dev/rollcall/server/session"
)

// vitals are how long answers take: from when a packet was read to when its
// answer was written.
type vitals struct {
	// recent holds the worst of each of the last ticks, in ns.
	recent [16]atomic.Int64
	now    atomic.Uint32
	// busy, where there are any, are how long the oldest of what is being handled
	// has been so: a loop that hangs does not answer late, but not at all.
	busy []func(now time.Time) time.Duration

	// What follows belongs to whoever makes the server's record.

	queueDelay, schedulerDelay band
}

// second is how many ticks worst looks back.
const second = session.Tick(time.Second / session.TickLength)

// observe takes how long an answer took.
func (v *vitals) observe(d time.Duration) {
	slot := &v.recent[v.now.Load()%uint32(len(v.recent))]
	for old := slot.Load(); int64(d) > old; old = slot.Load() {
		if slot.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// advance begins a new tick; ticks that nobody saw were without answers.
func (v *vitals) advance(now session.Tick) {
	for t := max(session.Tick(v.now.Load()), now-min(now, session.Tick(len(v.recent)))); t != now; {
		t++
		v.recent[uint32(t)%uint32(len(v.recent))].Store(0)
	}
	v.now.Store(uint32(now))
}

// worst is the worst of the last second.
func (v *vitals) worst() time.Duration {
	now, worst := v.now.Load(), int64(0)
	for i := range uint32(second) {
		worst = max(worst, v.recent[(now-i)%uint32(len(v.recent))].Load())
	}
	for _, busy := range v.busy {
		worst = max(worst, int64(busy(time.Now())))
	}
	return time.Duration(worst)
}

const (
	// quiet is below what a garbage collection or a busy neighbour costs: it is
	// not told, so that a server at rest writes nothing.
	quietDelay = 16 * time.Millisecond
	// lowerAfter is how long the band must be lower before it is told.
	lowerAfter = 2 * time.Second
)

// band is a time, rounded up to a power of two in milliseconds; 0 for little. It rises at
// once, and falls when it has been lower for a while.
type band struct {
	told    int
	lowered session.Tick // since when it could be lower
}

func (b *band) of(d time.Duration, now session.Tick) int {
	ms := 0
	if d >= quietDelay {
		ms = 1 << bits.Len(uint((d+time.Millisecond-1)/time.Millisecond)-1)
	}
	if ms >= b.told || now-b.lowered >= session.Ticks(lowerAfter) {
		b.told, b.lowered = ms, now
	}
	return b.told
}
