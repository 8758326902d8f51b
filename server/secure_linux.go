package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// secureLoops carries MQTT over TLS with event loops: a goroutine waits for the
// handshake, and for nothing after it. Idle, a connection holds no goroutine and no
// stack, and a beat wakes a loop that may have others to answer.
type secureLoops struct {
	*secure
	s *Server
	e *epoll
}

// listenSecure is the carrier for TLS; loops is as of listenPlain.
func listenSecure(address string, name Listener, config *tls.Config, loops int, s *Server) (carrier, error) {
	t, err := listenTLS(address, name, config, s)
	if err != nil || loops < 0 {
		return t, err
	}
	e, err := newLoops(t.Addr(), loops, s)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return &secureLoops{t, s, e}, nil
}

func (t *secureLoops) Close() error { return errors.Join(t.secure.Close(), t.e.Close()) }

// Run ends the loops after the last handshake: whoever comes out of one is carried on.
func (t *secureLoops) Run(ctx context.Context, accept func(l link) *peer) error {
	group, ctx := errgroup.WithContext(ctx)
	carrying, end := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		defer end()
		return t.each(ctx, func(c *net.TCPConn, raw syscall.RawConn, g *guest) bool { return t.enter(ctx, c, raw, g) })
	})
	group.Go(func() error { return t.e.Run(carrying, accept) })
	return group.Wait()
}

// enter has a connection make its handshake, and hands it over to a loop. It is false
// where it is not to be carried on.
func (t *secureLoops) enter(ctx context.Context, c *net.TCPConn, raw syscall.RawConn, g *guest) bool {
	due := time.Now().Add(connectWithin)
	counted := t.s.stranger()
	if counted == nil {
		_ = c.SetLinger(0)
		return false
	}
	if !t.s.peers.reserve(t.s.cfg.MaxConnections) {
		counted.end()
		t.s.turnedAway(whyConnections, c.RemoteAddr().String())
		_ = c.SetLinger(0)
		return false
	}
	over := func() { counted.end(); t.s.peers.release() }
	h := t.newHeard(c, raw, g)
	l := &sealedConn{guestConn: guestConn{who: g}}
	l.below.Conn, l.sealed = h, true
	l.tls = tls.Server(&l.below, t.config)
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	err := l.tls.Handshake()
	ended := !stop()
	if err == nil && h.plain.unsent() > 0 {
		err = errNotReading
	}
	if err == nil {
		err = l.leave(h)
	}
	if err != nil {
		over()
		if !ended && (g == nil || g.fault == nil) { // else it is counted
			t.s.metrics.refused(whyTLS)
			t.s.log.Debug("Client was refused", "reason", whyTLS, "detail", err.Error(), "remote", h.plain.remote())
		}
		return false
	}
	to := t.e.least(t.e.loops[0])
	to.count.Add(1)
	to.post(func() {
		to.count.Add(-1)
		over() // from now on accept counts it
		to.adopt(l, due)
	})
	return true
}

// adopt goes on with a connection that others have begun.
func (l *loop) adopt(s *sealedConn, due time.Time) {
	if !l.ending.IsZero() {
		s.who.leave()
		unix.Close(int(s.fd))
		return
	}
	if l.hold(&s.conn, s, due) {
		l.read(&s.conn)
	}
}

// recordsAtOnce is how many records of one connection are taken before the others have
// their turn again.
const recordsAtOnce = 16

// unseal is read for a connection with TLS upon it.
func (l *loop) unseal(c *conn) {
	s, now := c.peer.link.(*sealedConn), l.m
	s.below.drained = false
	for range recordsAtOnce {
		n, err := s.tls.Read(l.buf)
		if n > 0 {
			l.m = s.below.m // nothing has come since
			l.feed(c, l.buf[:n])
			l.m = now
		}
		switch {
		case c.gone:
			return
		case errors.Is(err, errDrained):
			return
		case err != nil:
			l.close(c)
			return
		case c.waiting:
			c.missed = true // what has been read already, no event will tell
			return
		}
	}
	l.more = append(l.more, c)
}

// sealedConn is a conn with TLS upon it.
type sealedConn struct {
	guestConn
	tls   *tls.Conn
	below below
}

// leave takes the connection out of the runtime's hands, for a loop's. What was read of
// it last may have brought more than the end of the handshake.
func (s *sealedConn) leave(h *heard) error {
	fd := -1
	var dup error
	if err := h.reader.raw.Control(func(own uintptr) { fd, dup = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || dup != nil {
		return fmt.Errorf("hand over: %w", errors.Join(err, dup))
	}
	s.fd, s.emptied = int32(fd), uint32(h.reader.emptied+1)
	s.below = below{c: &s.conn, m: h.m}
	return nil
}

func (s *sealedConn) write(b []byte) error {
	_, err := s.tls.Write(b)
	return err
}

func (s *sealedConn) finish() {
	if s.tls.CloseWrite() != nil {
		s.abort()
		return
	}
	s.conn.finish()
}

func (s *sealedConn) secure() bool { return true }

func (s *sealedConn) certificate() *x509.Certificate {
	state := s.tls.ConnectionState()
	return shown(&state)
}

// below is the connection below TLS: first what carries the handshake, then a loop's,
// which never waits. Only the loop reads it.
type below struct {
	net.Conn       // nil once a loop has it
	c        *conn // nil until then
	// drained: nothing was left when it was last read, since unseal began.
	drained bool
	// m is the moment of the last read. The last bytes of all that is not taken out of
	// TLS yet came with it, wherever the records are cut.
	m moment
}

// errDrained is temporary to crypto/tls: it keeps what it has of a record, and goes on.
var errDrained net.Error = drained{}

type drained struct{}

func (drained) Error() string   { return "nothing more has come yet" }
func (drained) Timeout() bool   { return true }
func (drained) Temporary() bool { return true }

func (b *below) Read(p []byte) (int, error) {
	if b.c == nil {
		h := b.Conn.(*heard)
		h.fresh = true // of each read alone
		return h.Read(p)
	}
	if b.drained {
		return 0, errDrained
	}
	n, errno := rawRead(b.c.fd, p)
	now := b.c.loop.m
	gaps := now.stamp.Gaps + 1
	switch {
	case errno == unix.EAGAIN:
		b.drained, b.c.emptied = true, gaps
		return 0, errDrained
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, io.EOF
	}
	b.m = now
	b.m.trusted = b.c.emptied == gaps
	if n < len(p) {
		b.drained, b.c.emptied = true, gaps
	}
	return n, nil
}

func (b *below) Write(p []byte) (int, error) {
	if b.c == nil {
		return b.Conn.Write(p)
	}
	if err := b.c.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetWriteDeadline is of no use: nothing waits to write.
func (b *below) SetWriteDeadline(time.Time) error { return nil }
