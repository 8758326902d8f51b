package server

import (
	"math"
	runtimemetrics "runtime/metrics"
	"slices"
	"sync/atomic"
	"time"
)

// schedulerMetric is how long goroutines that could run have waited until they did, as
// a histogram since the process began.
const schedulerMetric = "/sched/latencies:seconds"

// scheduling is how long this process's goroutines wait for a processor. Where it has too
// little of one, what is done in goroutines (TLS, WebSocket, recording) is late although the
// event loops, which hold their threads, are not.
type scheduling struct {
	sample []runtimemetrics.Sample
	before []uint64 // counts when it was last looked
	recent atomic.Int64
}

func newScheduling() *scheduling {
	return &scheduling{sample: []runtimemetrics.Sample{{Name: schedulerMetric}}}
}

// look takes what has come since the last look. One goroutine calls it.
func (x *scheduling) look() {
	runtimemetrics.Read(x.sample)
	if x.sample[0].Value.Kind() != runtimemetrics.KindFloat64Histogram {
		return // of a runtime that has no such metric
	}
	h := x.sample[0].Value.Float64Histogram()
	x.recent.Store(int64(quantile(h, x.before, 0.99)))
	x.before = append(x.before[:0], h.Counts...)
}

// latency is what 99 of a hundred waits took at most, between the last two looks.
func (x *scheduling) latency() time.Duration { return time.Duration(x.recent.Load()) }

// quantile is what a share q of what came since before took at most: the upper bound of
// its bucket, and of the last one, which has none, the lower.
func quantile(h *runtimemetrics.Float64Histogram, before []uint64, q float64) time.Duration {
	counts := slices.Clone(h.Counts)
	total := uint64(0)
	for i := range counts {
		if i < len(before) {
			counts[i] -= before[i]
		}
		total += counts[i]
	}
	need := uint64(math.Ceil(q * float64(total)))
	if need == 0 {
		return 0
	}
	sum := uint64(0)
	for i, n := range counts {
		if sum += n; sum >= need {
			bound := h.Buckets[i+1]
			if math.IsInf(bound, 1) {
				bound = h.Buckets[i]
			}
			return time.Duration(bound * float64(time.Second))
		}
	}
	return 0
}
