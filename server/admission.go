package server

import (
	"sync"
	"time"
)

const (
	// longestWait bounds what refused clients are told to wait.
	longestWait = 30 * time.Second
	// probeRate and probeBurst are the pace of probes, apart from everyone's:
	// a server must be seen at its worst.
	probeRate  = 100
	probeBurst = 200
)

// admission lets clients in at a pace, and gives those beyond it times to come
// back, spread at the same pace.
type admission struct {
	mu              sync.Mutex
	clients, probes bucket
	// promised is until when returns have been promised.
	promised time.Time
}

// bucket fills at rate per second, up to burst.
type bucket struct {
	rate, burst, level float64
	at                 time.Time
}

func (b *bucket) take(now time.Time) bool {
	if b.at.IsZero() {
		b.level = b.burst
	} else if d := now.Sub(b.at); d > 0 {
		b.level = min(b.burst, b.level+d.Seconds()*b.rate)
	}
	b.at = now
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}

func newAdmission(rate float64, burst int) *admission {
	return &admission{
		clients: bucket{rate: rate, burst: float64(burst)},
		probes:  bucket{rate: probeRate, burst: probeBurst},
	}
}

// admit tells whether a client that arrives now is let in, and if not, how long
// it shall wait.
func (a *admission) admit(now time.Time, probe bool) (wait time.Duration, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := &a.clients
	if probe {
		b = &a.probes
	}
	if b.take(now) {
		return 0, true
	}
	if probe {
		return time.Second, false
	}
	if a.promised.Before(now) {
		a.promised = now
	}
	a.promised = a.promised.Add(time.Duration(float64(time.Second) / b.rate))
	if limit := now.Add(longestWait); a.promised.After(limit) {
		a.promised = now.Add(longestWait / 2) // begin again: they cannot wait longer
	}
	return a.promised.Sub(now), false
}
