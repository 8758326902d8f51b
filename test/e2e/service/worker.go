package service

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"
)

// Mode is how a server behaves.
type Mode string

// The modes of a server.
const (
	// Well: everything is answered.
	Well Mode = "well"
	// Deadlocked: connections and requests are taken, and none is ever answered.
	Deadlocked Mode = "deadlocked"
	// NotAccepting: no further connection is accepted; those that stand are served.
	NotAccepting Mode = "not-accepting"
	// Slow: every answer comes late.
	Slow Mode = "slow"
)

// worker is what every answer has to get past, that to a probe too: the work path
// of a server.
type worker struct {
	slow time.Duration
	// unit is what one unit of work digests.
	unit []byte

	mu      sync.Mutex
	mode    Mode
	changed chan struct{} // closed once mode is another
	times   int           // how often the work of an answer is done
}

func newWorker(slow time.Duration) *worker {
	return &worker{slow: slow, unit: make([]byte, 64<<10), mode: Well, changed: make(chan struct{}), times: 1}
}

func (w *worker) now() (Mode, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mode, w.changed
}

func (w *worker) set(m Mode) error {
	switch m {
	case Well, Deadlocked, NotAccepting, Slow:
	default:
		return fmt.Errorf("%q is no mode: give %s, %s, %s or %s", m, Well, Deadlocked, NotAccepting, Slow)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mode = m
	close(w.changed)
	w.changed = make(chan struct{})
	return nil
}

// maxTimes bounds how much more work an answer may become.
const maxTimes = 1000

// multiply has every answer cost so many times the work.
func (w *worker) multiply(times int) error {
	if times < 1 || times > maxTimes {
		return fmt.Errorf("times is %d: it must be from 1 to %d", times, maxTimes)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.times = times
	return nil
}

func (w *worker) multiplied() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.times
}

// do works, and returns when the answer may go out. It gives up with ctx.
func (w *worker) do(ctx context.Context, units int) error {
	late := time.NewTimer(w.slow)
	defer late.Stop()
	for range units * w.multiplied() {
		if err := ctx.Err(); err != nil {
			return err
		}
		_ = sha256.Sum256(w.unit)
	}
	for {
		mode, changed := w.now()
		var due <-chan time.Time
		switch mode {
		case Deadlocked:
		case Slow:
			due = late.C
		default:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-due:
			return nil
		case <-changed:
		}
	}
}

// maxBurst bounds a burst.
const maxBurst = 10 * time.Second

// burn keeps all processors busy that the process may have, at the expense of what is
// to be answered meanwhile.
func (w *worker) burn(ctx context.Context, length time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for ctx.Err() == nil {
				_ = sha256.Sum256(w.unit)
			}
		})
	}
	all.Wait()
}

// gate is a listener that hands out no connection while its server does not accept.
type gate struct {
	net.Listener
	worker *worker
	once   sync.Once
	closed chan struct{}
}

// Accept waits for a connection. The one that was already waited for when the mode
// changed is taken from the kernel, and held.
func (g *gate) Accept() (net.Conn, error) {
	conn, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	for {
		mode, changed := g.worker.now()
		if mode != NotAccepting {
			return conn, nil
		}
		select {
		case <-g.closed:
			conn.Close()
			return nil, net.ErrClosed
		case <-changed:
		}
	}
}

// Close ends every Accept.
func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.Listener.Close()
}
