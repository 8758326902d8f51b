package server

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// tcpLink writes to a TCP connection that the standard library holds.
type tcpLink struct {
	conn *net.TCPConn
	raw  syscall.RawConn
	who  *guest // nil: its listener asks nothing

	mu sync.Mutex
	// out is what the kernel has not taken; a goroutine waits until it does.
	out    []byte
	ending bool // nothing more is to be written
}

func (l *tcpLink) write(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ending:
		return net.ErrClosed
	case len(l.out) > 0:
		return l.pend(b)
	}
	var n int
	var err error
	if e := l.raw.Write(func(fd uintptr) bool {
		n, err = writeOnce(fd, b)
		return true // never wait
	}); e != nil {
		return e
	}
	if err != nil || n == len(b) {
		return err
	}
	if err := l.pend(b[n:]); err != nil {
		return err
	}
	go l.drain()
	return nil
}

func (l *tcpLink) pend(b []byte) error {
	if len(l.out)+len(b) > maxPending {
		return errNotReading
	}
	l.out = append(l.out, b...)
	return nil
}

// drain writes what the kernel did not take before, until all is written or the
// connection is closed.
func (l *tcpLink) drain() {
	var err error
	attempt := func(fd uintptr) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		var n int
		n, err = writeOnce(fd, l.out)
		if l.out = l.out[n:]; len(l.out) == 0 || err != nil {
			l.out = nil
			return true
		}
		return false
	}
	if e := l.raw.Write(attempt); e != nil || err != nil {
		return // whoever reads learns of it
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending && len(l.out) == 0 {
		_ = l.conn.CloseWrite()
	}
}

// writeOnce writes what the kernel takes at once, which may be nothing.
func writeOnce(fd uintptr, b []byte) (int, error) {
	for {
		n, err := syscall.Write(int(fd), b)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		default:
			return max(n, 0), err
		}
	}
}

func (l *tcpLink) unsent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.out)
}

func (l *tcpLink) finish() {
	l.mu.Lock()
	ok := !l.ending
	l.ending = true
	if ok && len(l.out) == 0 {
		ok = l.conn.CloseWrite() == nil
	}
	l.mu.Unlock()
	if !ok {
		l.abort()
		return
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(finishWithin))
}

func (l *tcpLink) remote() string {
	if a := l.who.address(); a != "" {
		return a
	}
	return l.conn.RemoteAddr().String()
}

func (l *tcpLink) guest() *guest { return l.who }

func (l *tcpLink) abort() {
	_ = l.conn.SetLinger(0)
	_ = l.conn.Close()
}
