// Package heap keeps the memory of a process near what it needs. Go's collector
// lets a heap grow to twice what is live, and keeps what a rush has taken for
// the next one; a process that holds many idle clients has better use for it.
package heap

import (
	"cmp"
	"context"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// DefaultPercent is the collector's target where nothing else is asked for: Go's
// own, since memory is given back at rest anyway. What others cost and save is
// hardly measured yet (docs/benchmarks.md).
const DefaultPercent = 100

// Config is how much memory a process may use.
type Config struct {
	// Percent is how much the heap may grow over what is live before it is
	// collected (GOGC), in percent; 0: what the environment's GOGC says, else
	// DefaultPercent.
	Percent int
	// Limit is beyond which memory the collector works harder (GOMEMLIMIT), in
	// bytes; 0: what the environment's GOMEMLIMIT says, else none.
	Limit int64
}

func (c *Config) validate() error {
	if c.Percent < 0 || c.Limit < 0 {
		return errors.New("heap: Percent or Limit is negative")
	}
	return nil
}

const (
	// lookEvery is how often memory is looked at; a process that has allocated
	// less than a quietShare of its live heap meanwhile is at rest.
	lookEvery  = time.Second
	quietShare = 16
	// returnEvery is how often memory is given back at most: it costs a collection.
	returnEvery = 5 * time.Second
	// worth is what there must be to give back: a worthShare of the live heap, and
	// worthBytes at least.
	worthShare = 8
	worthBytes = 1 << 20
)

// Keep keeps memory low until the context ends. One process needs one.
func Keep(ctx context.Context, c Config) error {
	if err := c.validate(); err != nil {
		return err
	}
	if c.Percent > 0 || os.Getenv("GOGC") == "" {
		debug.SetGCPercent(cmp.Or(c.Percent, DefaultPercent))
	}
	if c.Limit > 0 {
		debug.SetMemoryLimit(c.Limit)
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	k := newKeeper()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if k.look(now) {
				runtime.GC() // pools give up what they hold in the second of two
				debug.FreeOSMemory()
				k.returned(now)
			}
		}
	}
}

// sample is what the runtime says of its memory, in bytes.
type sample struct{ allocated, live, held uint64 }

// keeper decides when memory is given back.
type keeper struct {
	samples []metrics.Sample
	last    sample
	at      time.Time // of the last return
	kept    uint64    // what was held beyond what is live even then
}

func newKeeper() *keeper {
	k := &keeper{samples: []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}}
	k.last = k.read()
	return k
}

func (k *keeper) read() sample {
	metrics.Read(k.samples)
	v := func(i int) uint64 { return k.samples[i].Value.Uint64() }
	return sample{allocated: v(0), live: v(1), held: v(2) + v(3) + v(4)}
}

func (k *keeper) look(now time.Time) bool { return k.decide(k.read(), now) }

// decide tells whether memory should be given back now.
func (k *keeper) decide(s sample, now time.Time) bool {
	quiet := s.allocated-k.last.allocated < s.live/quietShare
	k.last = s
	return quiet && now.Sub(k.at) >= returnEvery && s.beyond() > k.kept+max(s.live/worthShare, worthBytes)
}

func (k *keeper) returned(now time.Time) {
	k.last, k.at = k.read(), now
	k.kept = k.last.beyond()
}

// beyond is what is held beyond what is live.
func (s sample) beyond() uint64 { return s.held - min(s.live, s.held) }
