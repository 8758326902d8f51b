//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// tlsLoad is clients over TLS: a goroutine each, which awaits answers. They cost this
// process more than the server; only the server's cost is measured.
type tlsLoad struct {
	address string
	conns   []*tls.Conn
	// sent is when each sent the PINGREQ that awaits its answer, in ns since start,
	// and 1; 0: none does.
	sent    []atomic.Int64
	start   time.Time
	answers chan time.Duration
	broken  chan error // holds the first
}

func newTLSLoad(address string) (clients, error) {
	return &tlsLoad{address: address, broken: make(chan error, 1)}, nil
}

func (l *tlsLoad) close() {
	for _, c := range l.conns {
		if c == nil {
			continue
		}
		if t, ok := c.NetConn().(*net.TCPConn); ok {
			_ = t.SetLinger(0) // a reset: nothing lingers in TIME_WAIT
			_ = t.Close()
		}
	}
}

func (l *tlsLoad) connect(n, inFlight int) (time.Duration, error) {
	l.conns, l.sent = make([]*tls.Conn, n), make([]atomic.Int64, n)
	l.answers = make(chan time.Duration, n)
	l.start = time.Now()
	group, ctx := errgroup.WithContext(context.Background())
	group.SetLimit(inFlight)
	for i := range n {
		group.Go(func() (err error) {
			l.conns[i], err = l.dial(ctx, i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	took := time.Since(l.start)
	for i := range n {
		go l.listen(i)
	}
	return took, nil
}

// dial connects one client, until its CONNACK has come.
func (l *tlsLoad) dial(ctx context.Context, i int) (*tls.Conn, error) {
	d := tls.Dialer{
		NetDialer: &net.Dialer{
			// As in load.dial: a thousand clients share an address.
			LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i/1000))},
			Control: func(_, _ string, c syscall.RawConn) error {
				var err error
				return errors.Join(c.Control(func(fd uintptr) {
					err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
				}), err)
			},
		},
		Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}, //nolint:gosec // it is our own child, on loopback
	}
	c, err := d.DialContext(ctx, "tcp", l.address)
	if err != nil {
		return nil, err
	}
	err = c.SetDeadline(time.Now().Add(answerWithin))
	if err == nil {
		_, err = c.Write(connectPacket(i))
	}
	var ack [4]byte
	if err == nil {
		_, err = io.ReadFull(c, ack[:])
	}
	if err == nil && (ack[0] != 0x20 || ack[3] != 0) {
		err = fmt.Errorf("client %d was refused: % x", i, ack)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c.(*tls.Conn), c.SetDeadline(time.Time{})
}

// listen takes a client's answers, until its connection ends.
func (l *tlsLoad) listen(i int) {
	var pong [2]byte
	for {
		if _, err := io.ReadFull(l.conns[i], pong[:]); err != nil {
			select {
			case l.broken <- fmt.Errorf("await PINGRESP: %w", err):
			default:
			}
			return
		}
		if at := l.sent[i].Swap(0); at != 0 {
			l.answers <- time.Since(l.start) - time.Duration(at-1)
		}
	}
}

func (l *tlsLoad) ping(rate int, d time.Duration) ([]time.Duration, error) {
	every := time.Second / time.Duration(rate)
	answers := make([]time.Duration, 0, int(d/every))
	start := time.Now()
	next, waiting := 0, 0
	for due := time.Duration(0); due < d || waiting > 0; {
		for ; due < d && due <= time.Since(start); due += every {
			i := next % len(l.conns)
			next++
			if l.sent[i].Load() != 0 {
				continue
			}
			l.sent[i].Store(int64(time.Since(l.start)) + 1)
			if _, err := l.conns[i].Write([]byte{0xc0, 0}); err != nil {
				return nil, fmt.Errorf("send PINGREQ: %w", err)
			}
			waiting++
		}
		pause := 10 * time.Millisecond
		if due < d {
			pause = max(due-time.Since(start), 0)
		}
		timer := time.NewTimer(pause)
		for more := true; more; {
			select {
			case took := <-l.answers:
				answers = append(answers, took)
				waiting--
			case err := <-l.broken:
				return nil, err
			case <-timer.C:
				more = false
			}
		}
		if time.Since(start) > d+answerWithin {
			return nil, fmt.Errorf("%d PINGREQs were not answered", waiting)
		}
	}
	return answers, nil
}
