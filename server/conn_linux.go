package server

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// conn is one connection of a loop, and the way back to its client. There is one
// for every client, so it is kept small: 64 bytes.
type conn struct {
	loop       *loop
	peer       *peer
	fd         int32 // the loop alone closes it, holding mu
	slot       int32
	generation uint32
	// emptied is one more than how many gaps there were when the connection was
	// last found empty; 0: it never was.
	emptied uint32

	// What follows belongs to the loop.

	// held is the beginning of a packet; nil: there is none.
	held      *[]byte
	gone      bool  // closed
	waiting   bool  // its CONNECT is being looked at elsewhere: nothing is read
	missed    bool  // there was something to read meanwhile
	discarded uint8 // how often something was read and thrown away
	preface   bool  // a load balancer's header is to come: peer.link is a *guestConn
	sealed    bool  // it is under TLS: peer.link is a *sealedConn

	// What follows is guarded by mu: anyone writes, finishes and aborts.

	shutd  bool // the descriptor is closed
	ending bool // nothing more is to be written
	mu     sync.Mutex
	// out is what the kernel did not take; nil: it took all. Written with mu held.
	out atomic.Pointer[[]byte]
}

// guestConn is a conn of a listener that asks something: few do, and the others'
// connections need not pay for it.
type guestConn struct {
	conn
	who *guest
}

func (c *guestConn) remote() string {
	if a := c.who.address(); a != "" {
		return a
	}
	return c.conn.remote()
}

func (c *guestConn) guest() *guest { return c.who }

func (c *conn) write(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shutd || c.ending {
		return net.ErrClosed
	}
	if c.out.Load() != nil {
		return c.pend(b)
	}
	n, errno := rawWrite(c.fd, b)
	switch {
	case errno == unix.EAGAIN:
		return c.pend(b)
	case errno != 0:
		return errno
	case n < len(b):
		return c.pend(b[n:])
	}
	return nil
}

func (c *conn) unsent() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if out := c.out.Load(); out != nil {
		return len(*out)
	}
	return 0
}

// pend keeps what the kernel does not take; an event tells when it does.
func (c *conn) pend(b []byte) error {
	out := c.out.Load()
	if out == nil {
		out = new([]byte)
		c.out.Store(out)
	}
	if len(*out)+len(b) > maxPending {
		return errNotReading
	}
	*out = append(*out, b...)
	return nil
}

// drain writes what the kernel did not take before.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.out.Load()
	if out == nil || c.shutd {
		return
	}
	n, errno := rawWrite(c.fd, *out)
	switch {
	case errno == unix.EAGAIN:
		return
	case errno == 0 && n < len(*out):
		*out = (*out)[n:]
		return
	}
	c.out.Store(nil) // all is written, or cannot be: then the loop will read of it
	if c.ending {
		_ = unix.Shutdown(int(c.fd), unix.SHUT_WR)
	}
}

func (c *conn) finish() {
	c.mu.Lock()
	ok := !c.shutd && !c.ending
	c.ending = true
	if ok && c.out.Load() == nil {
		ok = unix.Shutdown(int(c.fd), unix.SHUT_WR) == nil
	}
	c.mu.Unlock()
	if !ok {
		c.abort()
		return
	}
	c.loop.post(func() { c.loop.leavers = append(c.loop.leavers, c.deadline(time.Now().Add(finishWithin))) })
}

func (c *conn) abort() {
	c.mu.Lock()
	c.ending = true
	if !c.shutd {
		_ = unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	c.mu.Unlock()
	c.loop.post(func() { c.loop.close(c) })
}

func (c *conn) remote() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shutd {
		return ""
	}
	if a := peerOf(int(c.fd)); a.IsValid() {
		return a.String()
	}
	return ""
}

// peerOf is the address of the other end; not valid where there is none any more.
func peerOf(fd int) netip.AddrPort {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// elsewhere has work done away from the loop, and then done by the loop. Only
// what is being fed may ask for it; it is fed again after that.
func (c *conn) elsewhere(work, done func()) {
	c.waiting = true
	l, m := c.loop, c.loop.m
	l.e.aside.do(func() {
		work()
		l.post(func() { l.resume(c, m, done) })
	})
}

// shut closes the descriptor.
func (c *conn) shut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.shutd {
		c.shutd = true
		c.out.Store(nil)
		unix.Close(int(c.fd))
	}
}
