package sockets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// receiveTimeout bounds one answer of the kernel, which does not let anybody
// wait: it is there so that nothing hangs on a kernel that is broken.
var receiveTimeout = unix.Timeval{Sec: 5}

const (
	// receiveSize is what one answer may hold: the kernel fills at most 32 KiB.
	receiveSize = 64 << 10
	// askedAtOnce is how many connections are asked for before their answers are read:
	// these wait in the socket's buffer, of 208 KiB, some 2 KiB each.
	askedAtOnce = 32
)

// Conn asks the kernel about one network namespace. It stays with that
// namespace, whatever thread uses it. Its methods may be called from any goroutine.
type Conn struct {
	mu  sync.Mutex
	fd  int // -1: closed
	seq uint32
	buf *[receiveSize]byte // while it is locked
	// stats say how many sockets of IPv4, and of IPv6, the namespace uses: that in which
	// they were opened, whoever reads them. A kernel without IPv6 has no file for it.
	stats []*os.File
}

// buffers are shared: there may be hundreds of Conns, of which few are at work at a time.
var buffers = sync.Pool{New: func() any { return new([receiveSize]byte) }}

func (c *Conn) lock() {
	c.mu.Lock()
	c.buf = buffers.Get().(*[receiveSize]byte)
}

func (c *Conn) unlock() {
	buffers.Put(c.buf)
	c.buf = nil
	c.mu.Unlock()
}

// Open asks in a network namespace, or in the caller's own where ns is nil. The
// file need not stay open.
func Open(ns *os.File) (*Conn, error) {
	c := &Conn{fd: -1}
	open := func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		if err != nil {
			return fmt.Errorf("open a sock_diag socket: %w", err)
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &receiveTimeout); err != nil {
			_ = unix.Close(fd)
			return fmt.Errorf("bound a sock_diag socket: %w", err)
		}
		// With the kernel: what anybody else sends does not arrive.
		if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			_ = unix.Close(fd)
			return fmt.Errorf("connect a sock_diag socket: %w", err)
		}
		c.fd = fd
		for _, name := range []string{"sockstat", "sockstat6"} {
			if f, err := os.Open("/proc/thread-self/net/" + name); err == nil { // else InUse says so, or counts the other's
				c.stats = append(c.stats, f)
			}
		}
		return nil
	}
	if ns == nil {
		return c, open()
	}
	return c, Do(ns, open)
}

// Close ends it.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	fd := c.fd
	c.fd = -1
	if fd < 0 {
		return os.ErrClosed
	}
	for _, f := range c.stats {
		_ = f.Close() // it was only read
	}
	return unix.Close(fd)
}

// InUse is how many TCP sockets the namespace has, of whatever port and state but
// the last one (TIME_WAIT). The kernel has counted them: this costs next to nothing.
func (c *Conn) InUse() (int, error) {
	c.lock()
	defer c.unlock()
	if len(c.stats) == 0 {
		return 0, fmt.Errorf("read how many sockets there are: %w", os.ErrNotExist)
	}
	sum := 0
	for _, f := range c.stats {
		n, err := f.ReadAt(c.buf[:], 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read how many sockets there are: %w", err)
		}
		one, err := parseInUse(c.buf[:n])
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

// List calls each for every TCP socket that the query asks for, IPv4 and IPv6,
// until it returns an error, which List then returns. The order is the kernel's.
// each must not call the Conn. Memory does not grow with the number of sockets.
func (c *Conn) List(ctx context.Context, q Query, each func(Socket) error) error {
	c.lock()
	defer c.unlock()
	states, extensions := uint32(0), uint8(0)
	for _, s := range q.States {
		states |= 1 << s
	}
	if states == 0 {
		states = 1 << Established
	}
	if q.Info {
		extensions = 1 << (attributeInfo - 1)
	}
	families := q.Families
	if len(families) == 0 {
		families = []Family{FamilyIPv4, FamilyIPv6}
	}
	for _, family := range families {
		err := c.ask(request{
			kind: unix.SOCK_DIAG_BY_FAMILY, flags: unix.NLM_F_REQUEST | unix.NLM_F_DUMP,
			id: anyOf(uint8(family), q.Port), states: states, extensions: extensions,
		})
		if err != nil {
			return fmt.Errorf("ask for sockets: %w", err)
		}
		if err := c.listed(ctx, q, each); err != nil {
			return fmt.Errorf("list sockets: %w", err)
		}
	}
	return nil
}

// listed reads a whole listing, to its end in any case: what is left unread
// would be taken for the answer to the next question.
func (c *Conn) listed(ctx context.Context, q Query, each func(Socket) error) error {
	var stop error
	for {
		if stop == nil {
			stop = ctx.Err()
		}
		done, err := c.receive(func(m message) error {
			s, err := parseSocket(m.body)
			if err != nil {
				return err
			}
			// The kernel filters too; an old one might not.
			if stop == nil && (q.Port == 0 || s.Local.Port() == q.Port) {
				stop = each(s)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if done {
			return stop
		}
	}
}

// Look calls each for every one of the connections that is still established, as
// it is now, in their order: they are found without a listing. each must not call the Conn.
func (c *Conn) Look(ctx context.Context, connections []Socket, each func(Socket)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.lock()
	defer c.unlock()
	for some := range slices.Chunk(connections, askedAtOnce) {
		if err := c.look(some, each); err != nil {
			return fmt.Errorf("look at connections: %w", err)
		}
	}
	return nil
}

func (c *Conn) look(connections []Socket, each func(Socket)) error {
	questions := c.buf[:0]
	last := c.seq
	for _, s := range connections {
		if s.id.valid() {
			c.seq++
			r := request{kind: unix.SOCK_DIAG_BY_FAMILY, flags: unix.NLM_F_REQUEST, id: s.id, states: 1 << Established, extensions: 1 << (attributeInfo - 1)}
			questions = r.append(questions, c.seq)
		}
	}
	if len(questions) == 0 {
		return nil
	}
	if err := c.send(questions); err != nil {
		return err
	}
	// No acknowledgement was asked for: the socket is the answer, or an error is,
	// which comes unasked. They come in the order of the questions.
	for last != c.seq {
		err := c.read(func(m message) error {
			if m.seq-last-1 >= c.seq-last {
				return nil // the late answer to a question that was given up
			}
			last = m.seq
			switch m.kind {
			case typeError:
				number, err := m.failure()
				if err == nil && number != 0 && unix.Errno(number) != unix.ENOENT {
					err = unix.Errno(number)
				}
				return err
			case unix.SOCK_DIAG_BY_FAMILY:
				s, err := parseSocket(m.body)
				if err == nil && s.State == Established {
					each(s)
				}
				return err
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Destroy ends an established connection: both sides find it reset. It fails
// with ErrGone where it has ended by itself, or is another's by now.
func (c *Conn) Destroy(ctx context.Context, s Socket) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.State != Established {
		return fmt.Errorf("destroy the socket %v: %w", s.Local, ErrNotConnected)
	}
	// Without a cookie the kernel would take the listening socket for one that is gone.
	if !s.id.valid() {
		return fmt.Errorf("destroy the connection of %v: %w", s.Remote, ErrGone)
	}
	c.lock()
	defer c.unlock()
	err := c.ask(request{kind: unix.SOCK_DESTROY, flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK, id: s.id, states: 1 << Established})
	for done := false; err == nil && !done; {
		done, err = c.receive(func(message) error { return nil })
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		err = ErrGone
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		err = ErrNotPermitted
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		err = ErrUnsupported
	}
	return fmt.Errorf("destroy the connection of %v: %w", s.Remote, err)
}

// ask asks one question, the next.
func (c *Conn) ask(r request) error {
	c.seq++
	return c.send(r.append(c.buf[:0], c.seq))
}

func (c *Conn) send(b []byte) error {
	if c.fd < 0 {
		return os.ErrClosed
	}
	return ignoringInterrupts(func() error {
		_, err := unix.Write(c.fd, b)
		return err
	})
}

// receive takes one datagram of the answer to the last question. done: it is whole.
func (c *Conn) receive(each func(message) error) (done bool, err error) {
	err = c.read(func(m message) error {
		switch {
		case done || m.seq != c.seq:
			// The late answer to a question that was given up.
		case m.kind == typeError || m.kind == typeDone:
			done = true
			number, err := m.failure()
			if err == nil && number != 0 {
				err = unix.Errno(number)
			}
			return err
		case m.kind == unix.SOCK_DIAG_BY_FAMILY:
			return each(m)
		}
		return nil
	})
	return done, err
}

// read takes one datagram.
func (c *Conn) read(each func(message) error) error {
	var n int
	err := ignoringInterrupts(func() (err error) {
		n, err = unix.Read(c.fd, c.buf[:])
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("read the kernel's answer: %w", err)
	case n == len(c.buf):
		return fmt.Errorf("%w: it has %d bytes, or more", errMalformed, n)
	}
	for rest := c.buf[:n]; len(rest) > 0; {
		var m message
		if m, rest, err = next(rest); err != nil {
			return err
		}
		if err := each(m); err != nil {
			return err
		}
	}
	return nil
}

func ignoringInterrupts(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Do calls f in a network namespace, on a thread of its own that is thrown away
// afterwards. What f opens stays there; what f starts in other goroutines does not run there.
func Do(ns *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with this goroutine, and nobody else
		// ever runs in the wrong namespace.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// But the process's first thread never ends, and would keep the namespace;
			// /proc/self would be there, too. While it is held another one is taken.
			done <- Do(ns, f)
			runtime.UnlockOSThread()
			return
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			if errors.Is(err, unix.EPERM) {
				err = ErrNotPermitted
			}
			done <- fmt.Errorf("enter the network namespace %s: %w", ns.Name(), err)
			return
		}
		done <- f()
	}()
	return <-done
}
