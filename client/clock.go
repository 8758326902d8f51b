package client

import "time"

// Clock is a source of time.
type Clock interface {
	Now() time.Time
	// After returns a channel that gets the time once d has passed, and a
	// function that ends the wait.
	After(d time.Duration) (<-chan time.Time, func())
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) After(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}
