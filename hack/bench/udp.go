//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/rollcall-dev/rollcall/internal/datagram"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// pockets are clients that have connected over TLS, closed that, and beat by
// datagrams, all from one socket.
type pockets struct {
	fd      int
	clients []pocketClient
	byPlace map[uint32]int32
	buf     []byte
}

type pocketClient struct {
	box     *datagram.Client
	time    uint64 // of the server, when this was at
	at      time.Time
	counter uint32
	sent    time.Duration // since the start, and 1 ns; 0: none awaits its answer
}

// newPockets has n clients connect and close their connections, so many at a time,
// and tells how long that took.
func newPockets(ctx context.Context, address string, n, inFlight int) (*pockets, time.Duration, error) {
	p := &pockets{fd: -1, clients: make([]pocketClient, n), byPlace: make(map[uint32]int32, n), buf: make([]byte, 2*datagram.Size)}
	grants := make([]datagram.Grant, n)
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inFlight)
	for i := range n {
		group.Go(func() error {
			var err error
			grants[i], err = granted(ctx, address, i)
			if err == nil {
				p.clients[i].time, p.clients[i].at = grants[i].Time, time.Now()
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, 0, err
	}
	took := time.Since(start)
	for i, g := range grants {
		box, err := datagram.NewClient(g.Session, g.Key)
		if err != nil {
			return nil, 0, err
		}
		p.clients[i].box = box
		p.byPlace[g.Session.Place] = int32(i)
	}
	to, err := net.ResolveUDPAddr("udp", grants[0].Address)
	if err != nil {
		return nil, 0, err
	}
	if p.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, 0, err
	}
	_ = unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20) // what the system allows
	return p, took, unix.Connect(p.fd, &unix.SockaddrInet4{Port: to.Port, Addr: to.AddrPort().Addr().As4()})
}

// granted connects a client, and closes the connection once it has its key.
func granted(ctx context.Context, address string, i int) (datagram.Grant, error) {
	var g datagram.Grant
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // it is our own child, on loopback
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return g, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return g, err
	}
	connect := packets.Connect{
		ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: fmt.Sprintf("client-%06d", i), CleanStart: true, KeepAlive: 600,
		UsernameFlag: true, Username: "bench/clients",
		Properties: &packets.Properties{User: []packets.User{{Key: wire.PropUDP, Value: "1"}}},
	}
	if _, err := connect.WriteTo(c); err != nil {
		return g, fmt.Errorf("send CONNECT: %w", err)
	}
	answer, err := packets.ReadPacket(c)
	if err != nil {
		return g, fmt.Errorf("await CONNACK: %w", err)
	}
	ack, ok := answer.Content.(*packets.Connack)
	if !ok || ack.ReasonCode != 0 {
		return g, fmt.Errorf("client %d was refused: %v", i, answer)
	}
	for _, u := range ack.Properties.User {
		if u.Key == wire.PropUDP {
			return datagram.ParseGrant(u.Value)
		}
	}
	return g, fmt.Errorf("client %d was given no key", i)
}

func (p *pockets) close() { unix.Close(p.fd) }

// beat sends rate beats a second for a while, as load.ping does, and returns how
// long each answer took. Of what is lost it is no error: answers tell.
func (p *pockets) beat(rate int, d time.Duration) ([]time.Duration, error) {
	every := time.Second / time.Duration(rate)
	answers := make([]time.Duration, 0, int(d/every))
	start := time.Now()
	for i := range p.clients {
		p.clients[i].sent = 0
	}
	next := 0
	for due := time.Duration(0); ; {
		now := time.Since(start)
		for ; due < d && due <= now; due += every {
			c := &p.clients[next%len(p.clients)]
			next++
			if c.sent != 0 {
				continue
			}
			c.counter++
			c.sent = time.Since(start) + 1
			c.box.Seal(p.buf, datagram.Message{Kind: datagram.Beat, Counter: c.counter, Time: c.time + uint64(time.Since(c.at).Milliseconds())})
			if _, err := unix.Write(p.fd, p.buf[:datagram.Size]); err != nil && !errors.Is(err, unix.EAGAIN) {
				return nil, fmt.Errorf("send a beat: %w", err)
			}
		}
		if now > d+time.Second || due >= d && len(answers) == next {
			return answers, nil
		}
		wait := unix.NsecToTimespec(int64(max(due-time.Since(start), 0)))
		if due >= d {
			wait = unix.NsecToTimespec(int64(10 * time.Millisecond))
		}
		if _, err := unix.Ppoll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, &wait, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		for {
			n, err := unix.Read(p.fd, p.buf)
			if err != nil {
				break // nothing more, or what the network says
			}
			if took, ok := p.answered(p.buf[:n], time.Since(start)); ok {
				answers = append(answers, took)
			}
		}
	}
}

// answered takes an answer.
func (p *pockets) answered(b []byte, now time.Duration) (took time.Duration, ok bool) {
	if len(b) != datagram.Size {
		return 0, false
	}
	i, known := p.byPlace[uint32(b[4])<<24|uint32(b[5])<<16|uint32(b[6])<<8|uint32(b[7])]
	if !known {
		return 0, false
	}
	c := &p.clients[i]
	m, err := c.box.Open(b)
	if err != nil || m.Kind != datagram.OK || m.Counter != c.counter || c.sent == 0 {
		return 0, false
	}
	took = now - (c.sent - 1)
	c.sent = 0
	return took, true
}

// measureUDP is measure for clients that beat by datagrams.
func (p plan) measureUDP(ctx context.Context, server *running) (f figures, err error) {
	warm, _, err := newPockets(ctx, server.address, max(p.warm, 1), 16)
	if err != nil {
		return f, err
	}
	if _, err := warm.beat(1000, 200*time.Millisecond); err != nil {
		return f, err
	}
	warm.close()
	if err := rest(ctx, p.settle); err != nil {
		return f, err
	}
	before, err := resident(server.pid)
	if err != nil {
		return f, err
	}
	cpu := processorTime(server.pid)
	l, took, err := newPockets(ctx, server.address, p.connections, 16)
	if err != nil {
		return f, err
	}
	defer l.close()
	f.connects = float64(p.connections) / took.Seconds()
	f.connectCPU = (processorTime(server.pid) - cpu) / time.Duration(p.connections)
	if err := rest(ctx, p.settle); err != nil {
		return f, err
	}
	after, err := resident(server.pid)
	if err != nil {
		return f, err
	}
	f.memory = float64(after-before) / float64(max(p.connections-p.warm, 1)) // those of the warm-up come again
	if _, err := l.beat(p.rate, time.Second); err != nil {                   // warm
		return f, err
	}
	cpu = processorTime(server.pid)
	answers, err := l.beat(p.rate, p.beating)
	if err != nil || len(answers) == 0 {
		return f, errors.Join(err, errors.New("beats were not answered"))
	}
	f.pingCPU = float64(processorTime(server.pid)-cpu) / float64(len(answers))
	f.answered = float64(len(answers)) / p.beating.Seconds()
	f.p50, f.p99, f.p999 = quantile(answers, 0.5), quantile(answers, 0.99), quantile(answers, 0.999)
	return f, nil
}
