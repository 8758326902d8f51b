package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/rollcall-dev/rollcall/internal/proxyproto"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server/session"
)

const (
	// connectWithin is how long a client may take from accept to the last byte
	// of its CONNECT.
	connectWithin = 5 * time.Second
	// finishWithin is how long a client may take to read a last word.
	finishWithin = time.Second
	// keepAliveEvery is the period of the kernel's keepalive, the second line
	// for half-open sockets: longer than usual heartbeats.
	keepAliveEvery = 2 * time.Minute
	// doubtAfterGap is how long connections that were accepted after this
	// process was stopped may have waited in the backlog since before.
	doubtAfterGap = 5 * time.Second
	// smallBuffer is what an idle connection reads into.
	smallBuffer = 256
)

// tcp carries MQTT over plain TCP, with a goroutine for each connection.
type tcp struct {
	listener *net.TCPListener
	clock    *session.Clock
	store    *store.Store
	door     *door // nil: nothing is asked
}

func listenTCP(address string, name Listener, s *Server) (*tcp, error) {
	config := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepAliveEvery, Interval: 15 * time.Second, Count: 4,
	}}
	l, err := config.Listen(context.Background(), "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("server: %s is in use: choose another address to listen on: %w", address, err)
	} else if err != nil {
		return nil, fmt.Errorf("server: listen: %w", err)
	}
	return &tcp{listener: l.(*net.TCPListener), clock: s.clock, store: s.cfg.Store, door: s.door(name)}, nil
}

func (t *tcp) Addr() net.Addr { return t.listener.Addr() }

func (t *tcp) Close() error { return t.listener.Close() }

func (t *tcp) Run(ctx context.Context, accept func(l link) *peer) error {
	return t.each(ctx, func(c *net.TCPConn, raw syscall.RawConn, g *guest) bool {
		l := &tcpLink{conn: c, raw: raw, who: g}
		if p := accept(l); p != nil {
			defer p.gone()
			pump(p, t.newReader(raw, l), c)
		}
		return false
	})
}

// each accepts connections until the context ends, serves each from a goroutine
// of its own, and returns when all are closed. The first read deadline is set. Where
// serve returns true the guest stays, with a connection that it has made of this one.
func (t *tcp) each(ctx context.Context, serve func(c *net.TCPConn, raw syscall.RawConn, g *guest) bool) error {
	stop := context.AfterFunc(ctx, func() { _ = t.Close() })
	defer stop()
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		c, err := t.listener.AcceptTCP()
		if ctx.Err() != nil {
			if err == nil {
				_ = c.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("server: accept: %w", err)
		}
		if err != nil { // too many open files, or a connection that is gone already
			pause(ctx, 10*time.Millisecond)
			continue
		}
		connections.Go(func() {
			defer func() { _ = c.Close() }()
			raw, err := c.SyscallConn()
			if err != nil {
				return
			}
			g, err := t.door.enter(c.RemoteAddr())
			if err != nil {
				_ = c.SetLinger(0)
				return
			}
			_ = c.SetReadDeadline(time.Now().Add(connectWithin))
			if !serve(c, raw, g) {
				g.leave()
			}
		})
	}
}

// source is what a client sends.
type source interface {
	read(buf []byte) (int, moment, error)
}

// pump feeds a peer with what comes over a connection, until it ends.
func pump(p *peer, r source, c *net.TCPConn) {
	buf, have, connected := make([]byte, smallBuffer), 0, false
	for {
		n, m, err := r.read(buf[have:])
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && !connected {
				p.overdue()
			}
			break
		}
		have += n
		used, ok := p.feed(buf[:have], m)
		if !ok {
			break
		}
		if !connected && p.connected {
			connected = true
			_ = c.SetReadDeadline(time.Time{})
			if p.leaving.Load() { // somebody has finished it meanwhile: their deadline
				_ = c.SetReadDeadline(time.Now().Add(finishWithin))
			}
		}
		have = copy(buf, buf[used:have])
		buf = resize(buf, have)
	}
	discard(r, buf)
}

// resize makes room for more where buf is full, and gives memory back once
// little is left of something large.
func resize(buf []byte, have int) []byte {
	size := len(buf)
	switch {
	case have == len(buf):
		size *= 2
	case have <= smallBuffer/2 && len(buf) > 4*smallBuffer:
		size = smallBuffer
	default:
		return buf
	}
	resized := make([]byte, size)
	copy(resized, buf[:have])
	return resized
}

// discard reads what a client still sends, up to a limit, so that closing does
// not reset the connection before the last word was read. The link's finish has
// set a deadline.
func discard(r source, buf []byte) {
	for total := 0; total < 1<<16; {
		n, _, err := r.read(buf)
		if err != nil {
			return
		}
		total += n
	}
}

// reader reads a connection without blocking, and knows whether what it reads
// has come since this process was last stopped.
type reader struct {
	t    *tcp
	raw  syscall.RawConn
	once func(fd uintptr) bool
	link *tcpLink // whose connection it is
	// preface is the beginning of a header that is not whole.
	preface []byte

	buf []byte
	n   int
	err error
	m   moment
	// emptied is how many gaps there were when the connection was last found
	// empty; -1: it never was.
	emptied int64
}

func (t *tcp) newReader(raw syscall.RawConn, l *tcpLink) *reader {
	r := &reader{t: t, raw: raw, link: l, emptied: -1}
	r.once = r.attempt // one closure for the life of the connection
	s := t.clock.Stamp()
	if s.Gaps == 0 || s.Tick-t.clock.Woke() > session.Ticks(doubtAfterGap) {
		r.emptied = int64(s.Gaps)
	}
	return r
}

// attempt reads once; false makes the runtime wait until there is more.
func (r *reader) attempt(fd uintptr) bool {
	r.m.stamp, r.m.revision = r.t.clock.Stamp(), r.t.store.Revision()
	for {
		r.n, r.err = syscall.Read(int(fd), r.buf)
		if !errors.Is(r.err, syscall.EINTR) {
			break
		}
	}
	if errors.Is(r.err, syscall.EAGAIN) {
		r.emptied = int64(r.m.stamp.Gaps)
		return false
	}
	return true
}

// header reads what a load balancer says before its client's bytes, and no byte more.
func (r *reader) header(g *guest) error {
	for g.expects {
		have := len(r.preface)
		r.preface = append(r.preface, make([]byte, proxyproto.Missing(r.preface))...)
		n, _, err := r.some(r.preface[have:])
		r.preface = r.preface[:have+n]
		if err != nil {
			return err
		}
		if _, err := g.header(r.preface, r.link.conn.RemoteAddr().String()); err != nil {
			return err
		}
	}
	r.preface = nil
	return nil
}

func (r *reader) read(buf []byte) (int, moment, error) {
	if g := r.link.who; g != nil && (g.expects || g.fault != nil) {
		if g.fault == nil {
			if err := r.header(g); err != nil && g.fault == nil {
				return 0, moment{}, err
			}
		}
		if g.fault != nil { // to net/http, too, as a connection that is gone: nobody is answered
			return 0, moment{}, &net.OpError{Op: "read", Net: "tcp", Err: g.fault}
		}
	}
	return r.some(buf)
}

// some reads what there is.
func (r *reader) some(buf []byte) (int, moment, error) {
	r.buf = buf
	if err := r.raw.Read(r.once); err != nil {
		return 0, moment{}, err
	}
	if r.err != nil {
		return 0, moment{}, r.err
	}
	if r.n <= 0 {
		return 0, moment{}, io.EOF
	}
	r.m.trusted = r.emptied == int64(r.m.stamp.Gaps)
	r.m.read = time.Now()
	return r.n, r.m, nil
}

// limits of what a client may send, in bytes.
const (
	maxConnect = 4 << 10
	maxPacket  = 4 << 10
	// maxReport is for those who may report: some 500 observations.
	maxReport = 256 << 10
)
