//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// clients are who connects to a server under measurement, and beats.
type clients interface {
	// connect connects n clients, inFlight at a time, and tells how long it took
	// from the first SYN to the last CONNACK.
	connect(n, inFlight int) (time.Duration, error)
	// ping sends rate PINGREQs a second for a while, from one client after the
	// other, whether answers come or not, and returns how long each answer took. A
	// client that still waits is passed over.
	ping(rate int, d time.Duration) ([]time.Duration, error)
	close()
}

// load is clients over plain TCP: one thread, one epoll, non-blocking sockets.
type load struct {
	to      unix.SockaddrInet4
	ep      int
	clients []client
	byFD    []int32 // index + 1 in clients
	events  []unix.EpollEvent
	buf     []byte
}

type client struct {
	fd   int
	have int   // bytes of the answer that is awaited
	sent int64 // when the PINGREQ was sent, in ns; 0: none awaits its answer
}

// answer is how long a waiting client waits at most.
const answerWithin = 20 * time.Second

func newLoad(address string) (clients, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &load{
		to: unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}, ep: ep,
		byFD: make([]int32, 1<<16), events: make([]unix.EpollEvent, 512), buf: make([]byte, 4096),
	}, nil
}

// close resets all connections, so that none of them lingers in TIME_WAIT.
func (l *load) close() {
	for _, c := range l.clients {
		_ = unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		unix.Close(c.fd)
	}
	unix.Close(l.ep)
}

func (l *load) connect(n, inFlight int) (time.Duration, error) {
	l.clients = make([]client, 0, n)
	start := time.Now()
	connected, last := 0, start
	for connected < n {
		for len(l.clients) < n && len(l.clients)-connected < inFlight {
			if err := l.dial(); err != nil {
				return 0, err
			}
		}
		k, err := l.wait(100 * time.Millisecond)
		if err != nil {
			return 0, err
		}
		for _, ev := range l.events[:k] {
			ok, err := l.progress(ev)
			if err != nil {
				return 0, err
			}
			if ok {
				connected++
				last = time.Now()
			}
		}
		if time.Since(last) > answerWithin {
			return 0, fmt.Errorf("%d of %d clients have not connected in time", n-connected, n)
		}
	}
	return time.Since(start), nil
}

func (l *load) dial() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	i := len(l.clients)
	l.clients = append(l.clients, client{fd: fd, have: -1})
	l.byFD[fd] = int32(i) + 1
	// The kernel's search for a free port is slow where most of them are taken:
	// a thousand clients share an address.
	from := unix.SockaddrInet4{Addr: [4]byte{127, 0, 1, byte(1 + i/1000)}}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.Bind(fd, &from),
	)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, &l.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	return unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET&0xffffffff, Fd: int32(fd)})
}

// progress is the next step of a client that connects; ok: its CONNACK has come.
func (l *load) progress(ev unix.EpollEvent) (ok bool, err error) {
	i := l.byFD[ev.Fd] - 1
	c := &l.clients[i]
	if c.have < 0 && ev.Events&unix.EPOLLOUT != 0 {
		if e, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || e != 0 {
			return false, fmt.Errorf("connect: %w", unix.Errno(e))
		}
		if _, err := unix.Write(c.fd, connectPacket(int(i))); err != nil {
			return false, fmt.Errorf("send CONNECT: %w", err)
		}
		c.have = 0
		return false, nil
	}
	if ev.Events&unix.EPOLLIN == 0 {
		return false, nil
	}
	n, err := unix.Read(c.fd, l.buf)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("await CONNACK: %w", err)
	case n < 4 || l.buf[0] != 0x20 || l.buf[3] != 0:
		return false, fmt.Errorf("client %d was refused: % x", i, l.buf[:n])
	}
	return true, nil
}

// connectPacket is a CONNECT of MQTT 3.1.1 with a clean session, a keep-alive
// of 10 minutes, a client id and a user name.
func connectPacket(i int) []byte {
	id, user := fmt.Sprintf("client-%06d", i), "bench/clients"
	b := []byte{0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', 4, 0x82, 600 >> 8, 600 & 0xff}
	for _, s := range []string{id, user} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	b[1] = byte(len(b) - 2)
	return b
}

func (l *load) ping(rate int, d time.Duration) ([]time.Duration, error) {
	every := time.Second / time.Duration(rate)
	answers := make([]time.Duration, 0, int(d/every))
	start := time.Now()
	next, waiting := 0, 0
	for due := time.Duration(0); ; {
		now := time.Since(start)
		for ; due < d && due <= now; due += every {
			c := &l.clients[next%len(l.clients)]
			next++
			if c.sent != 0 {
				continue
			}
			c.sent = int64(time.Since(start)) + 1
			if _, err := unix.Write(c.fd, []byte{0xc0, 0}); err != nil {
				return nil, fmt.Errorf("send PINGREQ: %w", err)
			}
			waiting++
		}
		if due >= d && waiting == 0 {
			return answers, nil
		}
		if now > d+answerWithin {
			return nil, fmt.Errorf("%d PINGREQs were not answered", waiting)
		}
		pause := 10 * time.Millisecond
		if due < d {
			pause = max(due-time.Since(start), 0)
		}
		k, err := l.wait(pause)
		if err != nil {
			return nil, err
		}
		for _, ev := range l.events[:k] {
			if ev.Events&unix.EPOLLIN == 0 {
				continue
			}
			c := &l.clients[l.byFD[ev.Fd]-1]
			n, err := unix.Read(c.fd, l.buf)
			if err != nil && !errors.Is(err, unix.EAGAIN) || n == 0 {
				return nil, fmt.Errorf("await PINGRESP: connection lost: %w", err)
			}
			if n < 2 || c.sent == 0 {
				continue
			}
			answers = append(answers, time.Since(start)-time.Duration(c.sent-1))
			c.sent = 0
			waiting--
		}
	}
}

// wait is epoll_wait with a time-out in nanoseconds.
func (l *load) wait(d time.Duration) (int, error) {
	ts := unix.NsecToTimespec(int64(d))
	for {
		n, err := epollPwait2(l.ep, l.events, &ts)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}
