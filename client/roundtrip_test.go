package client

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The figures are RFC 6298's rules, worked out by hand.
func TestTheTimeoutFollowsAnswersAsTCPsDoes(t *testing.T) {
	r := roundTrip{floor: time.Millisecond, ceiling: time.Minute}
	if got := r.timeout(); got != time.Minute {
		t.Errorf("before any answer %v, want the ceiling", got)
	}
	for i, step := range []struct{ took, want time.Duration }{
		{800 * time.Millisecond, 2400 * time.Millisecond},  // R + 4 × R/2
		{800 * time.Millisecond, 2000 * time.Millisecond},  // variation 300 ms
		{1600 * time.Millisecond, 2600 * time.Millisecond}, // variation 425 ms, smoothed 900 ms
	} {
		r.observe(step.took)
		if got := r.timeout(); got != step.want {
			t.Errorf("after answer %d: %v, want %v", i, got, step.want)
		}
	}
	for range 200 {
		r.observe(100 * time.Millisecond)
	}
	if got := r.timeout(); got < 110*time.Millisecond || got > 111*time.Millisecond {
		t.Errorf("after 200 answers of 100 ms: %v, want these and the granularity", got)
	}
}

func TestTheTimeoutKeepsWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		floor := time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "floor"))
		r := roundTrip{floor: floor, ceiling: floor + time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "more"))}
		longest := time.Duration(0)
		for _, ns := range rapid.SliceOf(rapid.Int64Range(0, int64(time.Hour))).Draw(t, "answers") {
			r.observe(time.Duration(ns))
			longest = max(longest, time.Duration(ns))
			if got := r.timeout(); got < r.floor || got > r.ceiling {
				t.Fatalf("%v is not in [%v, %v]", got, r.floor, r.ceiling)
			}
			if r.smoothed > longest+1 || r.variation > longest+1 {
				t.Fatalf("smoothed %v, variation %v, and no answer took more than %v", r.smoothed, r.variation, longest)
			}
		}
	})
}
