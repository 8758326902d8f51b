package main

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// timeline prints what happens, each with its time since a zero that moves: the
// start, then the fault, then the repair.
type timeline struct {
	mu   sync.Mutex
	zero time.Time
	sign string // "+" once a fault has happened
}

func newTimeline() *timeline { return &timeline{zero: time.Now()} }

// restart makes at the new zero.
func (t *timeline) restart(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.zero, t.sign = at, "+"
}

func (t *timeline) say(at time.Time, kind, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Printf("%1s%7.3fs  %-9s %s\n", t.sign, at.Sub(t.zero).Seconds(), kind, fmt.Sprintf(format, args...))
}

func heading(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	fmt.Printf("\n%s\n", text)
}
