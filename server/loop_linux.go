package server

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/server/session"
)

const (
	// batch is how many events are taken from the kernel at once: together they
	// should take a few milliseconds at most, because deadlines and what others
	// post wait for them.
	batch = 256
	// acceptAtOnce is how many connections are accepted before the established
	// ones have their turn again.
	acceptAtOnce = 64
	// readBuffer is what all connections of a loop read into.
	readBuffer = 64 << 10
	// maxDiscards is how often something is read and thrown away of a connection
	// that ends.
	maxDiscards = 64
	// loopTick is how often a loop looks at its deadlines, and how it knows that
	// it is late itself.
	loopTick = session.TickLength
)

// Slots of events that are not connections'.
const (
	slotListener int32 = -1
	slotWake     int32 = -2
)

// loop is one event loop. What is not said to be otherwise belongs to the
// goroutine that runs it.
type loop struct {
	e *epoll

	ep, wake int
	slots    []*conn // by slot; nil: free
	vacant   []int32
	// generation tells an event of a slot's connection from one of its
	// predecessor's.
	generation uint32
	buf        []byte
	events     []unix.EpollEvent
	// more are connections that may have more to read than was read.
	more []*conn
	// strangers must have connected, and leavers be gone, when their time comes.
	// In the order of due.
	strangers, leavers []deadline
	nextTick           time.Time
	listening          bool // the listener is registered
	rest               bool // nothing more is accepted for a moment: no descriptors
	ending             time.Time

	// m is the moment of what is being handled.
	m moment

	// count is how many connections there are; since is when the batch being
	// handled began (ns since the carrier's start; 0: none is). Anyone may read them.
	count atomic.Int32
	since atomic.Int64

	mu     sync.Mutex
	posted []func() // guarded by mu
	awake  bool     // it will look at posted before it waits; guarded by mu
}

// deadline is a connection's, which it does not keep alive when that has ended.
type deadline struct {
	slot       int32
	generation uint32
	due        time.Time
}

func (c *conn) deadline(due time.Time) deadline { return deadline{c.slot, c.generation, due} }

func newLoop(e *epoll) (*loop, error) {
	l := &loop{e: e, ep: -1, wake: -1}
	var err error
	if l.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		l.free()
		return nil, err
	}
	return l, nil
}

// open takes up work.
func (l *loop) open() error {
	l.buf, l.events = make([]byte, readBuffer), make([]unix.EpollEvent, batch)
	if err := l.register(l.wake, unix.EPOLLIN, slotWake, 0); err != nil {
		return err
	}
	return l.listen()
}

func (l *loop) listen() error {
	if l.e.fd < 0 {
		return nil // connections come from elsewhere
	}
	l.listening = true
	return l.register(l.e.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, slotListener, 0)
}

func (l *loop) deafen() {
	if l.listening {
		l.listening = false
		_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, l.e.fd, nil)
	}
}

func (l *loop) register(fd int, events uint32, slot int32, generation uint32) error {
	return unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: slot, Pad: int32(generation)})
}

// free gives the descriptors back.
func (l *loop) free() {
	for _, fd := range []*int{&l.ep, &l.wake} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// run handles events until the loop is shut and the last connection is closed.
func (l *loop) run() error {
	l.nextTick = time.Now().Add(loopTick)
	timeout := int(loopTick / time.Millisecond)
	for {
		n, err := unix.EpollWait(l.ep, l.events, timeout)
		if err != nil && !errors.Is(err, unix.EINTR) {
			l.abandon()
			return err
		}
		l.begin()
		again := l.more
		l.more = nil
		for i := range max(n, 0) {
			l.handle(&l.events[i])
		}
		for _, c := range again {
			l.read(c)
		}
		posted := l.receive()
		now := time.Now()
		if n > 0 || posted || len(again) > 0 {
			l.e.observe(now.Sub(l.m.read)) // the last answer of a batch is the latest
		}
		if l.tick(now) {
			return nil
		}
		timeout = l.end(now)
	}
}

// begin begins a batch. Its moment is taken before anything is read: what is
// read came no earlier than the moment can vouch for, or is not trusted.
func (l *loop) begin() {
	l.m = moment{stamp: l.e.clock.Stamp(), revision: l.e.store.Revision(), read: time.Now()}
	l.since.Store(int64(l.m.read.Sub(l.e.start)))
	l.mu.Lock()
	l.awake = true
	l.mu.Unlock()
}

// end ends a batch, and is in how many milliseconds the next one begins at the
// latest.
func (l *loop) end(now time.Time) int {
	l.since.Store(0)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.posted) > 0 || len(l.more) > 0 {
		return 0
	}
	l.awake = false
	return int((max(l.nextTick.Sub(now), 0) + time.Millisecond - 1) / time.Millisecond)
}

func (l *loop) handle(ev *unix.EpollEvent) {
	switch ev.Fd {
	case slotListener:
		l.acceptSome()
		return
	case slotWake:
		var b [8]byte
		_, _ = unix.Read(l.wake, b[:])
		return // what was posted is received after every batch
	}
	c := l.slots[ev.Fd]
	if c == nil || c.generation != uint32(ev.Pad) {
		return // closed by what came before in this batch
	}
	if ev.Events&unix.EPOLLOUT != 0 && c.out.Load() != nil {
		c.drain()
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		l.read(c)
		if ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			l.more = append(l.more, c) // an end that was not read will not be told again
		}
	}
}

// read reads a connection once, and has what came handled.
func (l *loop) read(c *conn) {
	if c.waiting {
		c.missed = true
		return
	}
	if c.gone {
		return
	}
	if c.sealed {
		l.unseal(c)
		return
	}
	n, errno := rawRead(c.fd, l.buf)
	switch {
	case errno == unix.EAGAIN:
		c.emptied = l.m.stamp.Gaps + 1
		return
	case errno != 0 || n == 0:
		l.close(c)
		return
	}
	l.m.trusted = c.emptied == l.m.stamp.Gaps+1
	if n < len(l.buf) {
		// Nothing was left. What comes now is told by another event.
		c.emptied = l.m.stamp.Gaps + 1
	} else {
		l.more = append(l.more, c)
	}
	l.feed(c, l.buf[:n])
}

// feed has what was read handled, and keeps what is incomplete.
func (l *loop) feed(c *conn, b []byte) {
	p := c.peer
	if p.leaving.Load() {
		if c.discarded++; c.discarded > maxDiscards {
			c.abort()
		}
		return
	}
	if c.held == nil && p.connected && mqtt.IsPing(b) {
		p.ping(l.m)
		return
	}
	if c.preface {
		if b = l.preface(c, b); len(b) == 0 {
			return
		}
	}
	var held []byte
	if c.held != nil {
		held = append(*c.held, b...)
		b = held
	}
	used, ok := p.feed(b, l.m)
	rest := b[used:]
	switch {
	case !ok || len(rest) == 0:
		c.held = nil
	case held != nil && used == 0:
		c.held = &held
	case held != nil && cap(held) <= 4*len(rest):
		held = append(held[:0], rest...)
		c.held = &held
	default:
		kept := append([]byte(nil), rest...)
		c.held = &kept
	}
}

// preface takes the header that a connection begins with, and returns what came
// behind it.
func (l *loop) preface(c *conn, b []byte) []byte {
	if c.held != nil {
		b = append(*c.held, b...)
		c.held = nil
	}
	n, err := guestOf(c.peer.link).header(b, c.remote())
	switch {
	case err != nil:
		c.peer.leaving.Store(true)
		c.abort()
		return nil
	case n == 0:
		kept := bytes.Clone(b)
		c.held = &kept
		return nil
	}
	c.preface = false
	return b[n:]
}

// resume goes on with a connection that had to wait for something.
func (l *loop) resume(c *conn, m moment, done func()) {
	c.waiting = false
	if c.gone {
		c.peer.gone()
		return
	}
	now := l.m
	l.m = m // of the packet that it waited with, and of what came behind
	done()
	if c.held != nil && !c.gone {
		held := *c.held
		c.held = nil
		l.feed(c, held)
	}
	l.m = now
	if c.missed && !c.waiting {
		c.missed = false
		l.read(c)
		l.more = append(l.more, c) // it may have ended, too
	}
}

// post has f called by the loop, soon. Anyone may call it.
func (l *loop) post(f func()) {
	l.mu.Lock()
	l.posted = append(l.posted, f)
	wake := !l.awake
	l.awake = true
	l.mu.Unlock()
	if wake {
		one := [8]byte{1}
		_, _ = unix.Write(l.wake, one[:]) // fails only where it is woken already
	}
}

// receive does what was posted, if anything.
func (l *loop) receive() bool {
	l.mu.Lock()
	posted := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
	return len(posted) > 0
}

// tick looks at the deadlines, every loopTick; it is true when the loop is at
// its end.
func (l *loop) tick(now time.Time) (done bool) {
	if now.Before(l.nextTick) {
		return !l.ending.IsZero() && l.count.Load() == 0
	}
	// How late the loop itself is: what it found to do had waited so long.
	l.e.observe(now.Sub(l.nextTick))
	l.nextTick = now.Add(loopTick)
	l.strangers = l.expire(l.strangers, now, func(c *conn) {
		if !c.waiting && c.peer != nil && !c.peer.connected && !c.peer.leaving.Load() {
			c.peer.overdue()
		}
	})
	l.leavers = l.expire(l.leavers, now, l.close)
	if l.rest && l.ending.IsZero() {
		l.rest = false
		l.listening = l.listen() == nil
		l.rest = !l.listening
	}
	if l.ending.IsZero() {
		return false
	}
	if now.After(l.ending) {
		l.abandon() // whom nobody has told to go
	}
	return l.count.Load() == 0
}

// expire calls f for each connection that is due and has not been closed, and returns
// the other deadlines.
func (l *loop) expire(all []deadline, now time.Time, f func(*conn)) []deadline {
	for len(all) > 0 && !all[0].due.After(now) {
		if c := l.slots[all[0].slot]; c != nil && c.generation == all[0].generation {
			f(c)
		}
		all = all[1:]
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// shut ends the loop once its connections are closed, or have had their time.
func (l *loop) shut() {
	l.deafen()
	l.ending = time.Now().Add(endWithin + finishWithin)
}

// abandon closes everything.
func (l *loop) abandon() {
	for _, c := range l.slots {
		if c != nil {
			l.close(c)
		}
	}
}
