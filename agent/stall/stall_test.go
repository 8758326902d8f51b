package stall

import (
	"testing"
	"time"
)

func TestWatch(t *testing.T) {
	at := time.Unix(1000, 0)
	after := func(d time.Duration) time.Time { return at.Add(d) }

	var w Watch
	if w.Check(time.Time{}, at) {
		t.Error("a loop without a due time counts as stalled")
	}
	if w.Check(at, after(Limit)) || w.Health(after(Limit)) != 0 {
		t.Error("a timer as late as the limit counts as a stall")
	}
	if !w.Last().IsZero() {
		t.Error("a stall is remembered that never was")
	}
	if !w.Check(at, after(time.Second)) {
		t.Fatal("a timer late by a second goes unnoticed")
	}
	if got := w.Last(); !got.Equal(after(time.Second)) {
		t.Errorf("Last() = %v, want the moment it was noticed", got)
	}
	// A second loop, that looked at the clock a little earlier, must not move it back.
	if !w.Check(at, after(900*time.Millisecond)) || !w.Last().Equal(after(time.Second)) {
		t.Errorf("Last() went back to %v", w.Last())
	}
	for d, want := range map[time.Duration]int{
		time.Second:                      1,
		time.Second + Memory - 1:         1,
		time.Second + Memory:             0,
		time.Second + Memory + time.Hour: 0,
	} {
		if got := w.Health(after(d)); got != want {
			t.Errorf("Health(%v) = %d, want %d", d, got, want)
		}
	}
}
