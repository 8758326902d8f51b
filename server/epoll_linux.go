package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server/session"
)

// epoll carries MQTT over TCP with a few event loops. A connection belongs to one loop, which reads it, has its packets
// handled and answers them; while it is idle it holds no goroutine and no buffer.
type epoll struct {
	fd      int // the listener; -1: there is none
	addr    net.Addr
	start   time.Time
	clock   *session.Clock
	store   *store.Store
	observe func(time.Duration)
	door    *door // nil: nothing is asked
	loops   []*loop
	aside   aside
	accept  func(l link) *peer
}

// listenPlain is the carrier for plain TCP: loops of our own, as many as asked
// for, one for every two processors where that is 0, none where it is negative.
// With two loops on two busy processors a PINGREQ cost half as much CPU again
// as with one; why was not isolated (docs/benchmarks.md).
func listenPlain(address string, name Listener, loops int, s *Server) (carrier, error) {
	t, err := listenTCP(address, name, s)
	if err != nil || loops < 0 {
		return t, err
	}
	defer func() { _ = t.Close() }() // the loops have its descriptor again
	e, err := newLoops(t.Addr(), loops, s)
	if err != nil {
		return nil, err
	}
	e.door = t.door
	if err := e.prepare(t.listener); err != nil {
		return nil, errors.Join(fmt.Errorf("server: event loops: %w", err), e.Close())
	}
	return e, nil
}

// newLoops are loops that accept nothing; loops is as of listenPlain, and not negative.
func newLoops(addr net.Addr, loops int, s *Server) (*epoll, error) {
	if loops == 0 {
		loops = (runtime.GOMAXPROCS(0) + 1) / 2
	}
	e := &epoll{fd: -1, addr: addr, start: time.Now(), clock: s.clock, store: s.cfg.Store, observe: s.vitals.observe}
	e.aside.init()
	for range loops {
		l, err := newLoop(e)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("server: event loops: %w", err), e.Close())
		}
		e.loops = append(e.loops, l)
	}
	s.vitals.busy = append(s.vitals.busy, e.busy)
	return e, nil
}

// prepare takes the listener out of the runtime's hands. What every connection needs is
// set on it: Linux lets those accepted inherit it.
func (e *epoll) prepare(listener *net.TCPListener) error {
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		if e.fd, set = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); set != nil {
			return
		}
		set = errors.Join(
			unix.SetsockoptInt(e.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
			unix.SetsockoptInt(e.fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAliveEvery/time.Second)),
			unix.SetsockoptInt(e.fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15),
			unix.SetsockoptInt(e.fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4),
		)
	})
	return errors.Join(err, set)
}

func (e *epoll) Addr() net.Addr { return e.addr }

func (e *epoll) Close() error {
	for _, l := range e.loops {
		l.free()
	}
	if e.fd >= 0 {
		unix.Close(e.fd)
		e.fd = -1
	}
	return nil
}

func (e *epoll) Run(ctx context.Context, accept func(l link) *peer) error {
	e.accept = accept
	var loops sync.WaitGroup
	failed := make(chan error, len(e.loops))
	for _, l := range e.loops {
		if err := l.open(); err != nil {
			return fmt.Errorf("server: event loop: %w", err)
		}
	}
	for _, l := range e.loops {
		loops.Go(func() {
			if err := l.run(); err != nil {
				failed <- fmt.Errorf("server: event loop: %w", err)
			}
		})
	}
	ended := make(chan struct{})
	go func() { loops.Wait(); close(ended) }()
	stop := func() {
		for _, l := range e.loops {
			l.post(l.shut)
		}
		<-ended
		e.aside.wait()
		for _, l := range e.loops {
			l.receive() // what came too late
		}
	}
	select {
	case <-ctx.Done():
		stop()
		return nil
	case err := <-failed:
		stop()
		return err
	}
}

// least is the loop with the fewest connections; l where there are several.
func (e *epoll) least(l *loop) *loop {
	best, n := l, l.count.Load()
	for _, other := range e.loops {
		if m := other.count.Load(); m < n {
			best, n = other, m
		}
	}
	return best
}

// busy is how long the loop that has been at it longest has: what it has
// answered last may be long ago.
func (e *epoll) busy(now time.Time) time.Duration {
	worst := time.Duration(0)
	for _, l := range e.loops {
		if since := l.since.Load(); since != 0 {
			worst = max(worst, time.Duration(int64(now.Sub(e.start))-since))
		}
	}
	return worst
}

// maxAside is how many goroutines may wait for something at once.
const maxAside = 512

// aside does what may wait (authentication) away from the loops. At rest it
// has no goroutine.
type aside struct {
	tasks   chan func()
	workers atomic.Int32
	running sync.WaitGroup
}

func (a *aside) init() { a.tasks = make(chan func(), maxStrangers) }

// do queues a task; it never waits. There are never more tasks than strangers.
func (a *aside) do(task func()) {
	a.tasks <- task
	if a.workers.Add(1) > maxAside {
		a.workers.Add(-1) // those at work come to it, each looks again before it ends
		return
	}
	a.running.Go(a.work)
}

func (a *aside) work() {
	for {
		select {
		case task := <-a.tasks:
			task()
			continue
		default:
		}
		a.workers.Add(-1)
		// Whoever queued since the look above may have counted on this one.
		if len(a.tasks) == 0 {
			return
		}
		a.workers.Add(1)
	}
}

func (a *aside) wait() { a.running.Wait() }
