package server

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Faults make a server slow, for demonstrations and tests.
type Faults struct{ delay atomic.Int64 }

// NewFaults are none, until they are set.
func NewFaults() *Faults { return &Faults{} }

// SetAnswerDelay makes everything that the server sends from now on leave d
// late, in order. Packets are read and handled at once all the same.
func (f *Faults) SetAnswerDelay(d time.Duration) { f.delay.Store(int64(d)) }

// delayLine holds what leaves late.
type delayLine struct {
	faults *Faults // nil: nothing does

	mu    sync.Mutex
	queue []late // in the order of due
	wake  chan struct{}
}

type late struct {
	due  time.Time
	peer *peer
	b    []byte
	read time.Time
	last bool
	call func() // instead, where it is no peer's
}

func (s *Server) deliverLate(l late) {
	if l.call != nil {
		l.call()
		return
	}
	s.deliver(l.peer, l.b, l.read, l.last)
}

// hold takes what is to be sent, if it is to be late; once it is, so is what
// comes after it.
func (l *delayLine) hold(p *peer, b []byte, read time.Time, last bool) bool {
	return l.line(func() late { return late{peer: p, b: slices.Clone(b), read: read, last: last} })
}

// holdCall is hold for what a call sends.
func (l *delayLine) holdCall(call func()) bool {
	return l.line(func() late { return late{call: call} })
}

func (l *delayLine) line(what func() late) bool {
	if l.faults == nil {
		return false
	}
	d := time.Duration(l.faults.delay.Load())
	l.mu.Lock()
	defer l.mu.Unlock()
	if d <= 0 && len(l.queue) == 0 {
		return false
	}
	due := time.Now().Add(d)
	if n := len(l.queue); n > 0 && due.Before(l.queue[n-1].due) {
		due = l.queue[n-1].due
	}
	one := what()
	one.due = due
	l.queue = append(l.queue, one)
	if len(l.queue) == 1 {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// run sends what is due, until the context ends.
func (l *delayLine) run(ctx context.Context, send func(late)) error {
	for {
		l.mu.Lock()
		now := time.Now()
		n := 0
		for n < len(l.queue) && !l.queue[n].due.After(now) {
			n++
		}
		due := slices.Clone(l.queue[:n])
		wait := time.Hour
		if n < len(l.queue) {
			wait = l.queue[n].due.Sub(now)
		}
		l.mu.Unlock()
		for _, d := range due {
			send(d)
		}
		if n > 0 {
			// Only now: until what was due has left, what comes must wait behind it.
			l.mu.Lock()
			l.queue = slices.Delete(l.queue, 0, n)
			l.mu.Unlock()
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-l.wake:
		case <-t.C:
		}
		t.Stop()
	}
}
