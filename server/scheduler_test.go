package server

import (
	"math"
	"runtime"
	runtimemetrics "runtime/metrics"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/server/session"
)

func TestTheSchedulersLatencyIsThatOfWhatCameSince(t *testing.T) {
	buckets := []float64{math.Inf(-1), 0.001, 0.002, 0.5, math.Inf(1)}
	for _, c := range []struct {
		name        string
		before, now []uint64
		want        time.Duration
	}{
		{"nothing ever", nil, []uint64{0, 0, 0, 0}, 0},
		{"nothing since", []uint64{5, 5, 5, 5}, []uint64{5, 5, 5, 5}, 0},
		{"at first", nil, []uint64{100, 0, 0, 0}, time.Millisecond},
		{"one of a hundred is late", []uint64{7, 0, 9, 0}, []uint64{106, 0, 10, 0}, time.Millisecond},
		{"two of a hundred are late", []uint64{7, 0, 9, 0}, []uint64{105, 0, 11, 0}, 500 * time.Millisecond},
		{"later than any bound", []uint64{1, 1, 1, 1}, []uint64{1, 1, 1, 2}, 500 * time.Millisecond},
	} {
		if got := quantile(&runtimemetrics.Float64Histogram{Buckets: buckets, Counts: c.now}, c.before, 0.99); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestTheRuntimeTellsTheSchedulersLatency(t *testing.T) {
	x := newScheduling()
	x.look()
	done := make(chan struct{})
	for range 1000 {
		go func() { runtime.Gosched(); done <- struct{}{} }()
	}
	for range 1000 {
		<-done
	}
	x.look()
	if len(x.before) == 0 || x.latency() <= 0 {
		t.Errorf("of a thousand goroutines it tells %v", x.latency())
	}
}

func TestABandRisesAtOnceAndFallsLater(t *testing.T) {
	var b band
	tick := session.Ticks(time.Second)
	for i, c := range []struct {
		at   session.Tick
		took time.Duration
		want int
	}{
		{0, 15 * time.Millisecond, 0}, {0, 16 * time.Millisecond, 16}, {1, 200 * time.Millisecond, 256},
		{tick, 0, 256}, {2 * tick, 0, 256}, {3 * tick, 20 * time.Millisecond, 32}, {4 * tick, 40 * time.Millisecond, 64}, {7 * tick, 0, 0},
	} {
		if got := b.of(c.took, c.at); got != c.want {
			t.Errorf("step %d: %d, want %d", i, got, c.want)
		}
	}
}
