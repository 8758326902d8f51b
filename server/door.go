package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rollcall-dev/rollcall/internal/proxyproto"
)

// Listener names one of the addresses that a server listens on, as the flags do.
type Listener string

// The listeners that there may be.
const (
	ListenerPlain        Listener = "listen"
	ListenerTLS          Listener = "tls-listen"
	ListenerBalanced     Listener = "balanced-listen"
	ListenerWebSocket    Listener = "websocket-listen"
	ListenerWebSocketTLS Listener = "websocket-tls-listen"
	ListenerBeats        Listener = "beats-listen"
	ListenerBeatsTLS     Listener = "beats-tls-listen"
)

// Door is what a listener asks of every connection, before anything is read of a client.
type Door struct {
	// Proxied are the networks of load balancers: a connection comes from one of
	// them and begins with a header of the PROXY protocol, version 2, which says whose
	// it is; all others are refused. Empty: no header is expected, nor taken.
	Proxied []netip.Prefix
	// Connections is how many there may be at once; 0: any number. Up to a quarter
	// more are told so when they CONNECT, others are closed.
	Connections int
}

func (d Door) validate(name Listener) error {
	for _, p := range d.Proxied {
		if !p.IsValid() {
			return fmt.Errorf("server: Doors[%s].Proxied has a network that is not valid", name)
		}
	}
	if d.Connections < 0 {
		return fmt.Errorf("server: Doors[%s].Connections %d is negative", name, d.Connections)
	}
	return nil
}

// door is a listener's Door, and who has come through it.
type door struct {
	Door
	s *Server
	n atomic.Int64
}

// door is that of a listener; nil: nothing is asked there.
func (s *Server) door(name Listener) *door {
	d := &door{Door: s.cfg.Doors[name], s: s}
	if len(d.Proxied) == 0 && d.Connections == 0 && s.cfg.ConnectionsPerAddress == 0 {
		return nil
	}
	return d
}

// errTurnedAway: the connection was refused, counted and logged.
var errTurnedAway = errors.New("the connection was refused")

// guest is one connection that came through a door. Only address may be called by
// anyone; the rest belongs to the goroutine that feeds, or accepts.
type guest struct {
	d *door
	// from is the client's address as a header says it; nil: the connection's own.
	from atomic.Pointer[netip.AddrPort]
	// expects: a header is to come.
	expects bool
	fault   error      // why what came is none; nil: nothing was wrong
	counted netip.Addr // what was counted as its address; not valid: nothing
	// over is a limit that this connection is beyond, by so little that its client is told.
	over why
	left atomic.Bool
}

// enter lets a connection in, or not: errTurnedAway. Of a nil door nobody is a guest.
func (d *door) enter(remote net.Addr) (*guest, error) {
	if d == nil {
		return nil, nil
	}
	var from netip.AddrPort
	if t, ok := remote.(*net.TCPAddr); ok {
		from = t.AddrPort()
	}
	return d.admit(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
}

func (d *door) admit(from netip.AddrPort) (*guest, error) {
	if !from.IsValid() { // it was reset before anybody could ask whose it is
		return nil, errTurnedAway
	}
	g := &guest{d: d, expects: len(d.Proxied) > 0}
	if g.expects && !slices.ContainsFunc(d.Proxied, func(p netip.Prefix) bool { return p.Contains(from.Addr()) }) {
		d.s.turnedAway(whyUntrusted, from.String())
		return nil, errTurnedAway
	}
	if n := d.n.Add(1); beyond(int(n), d.Connections) {
		d.n.Add(-1)
		d.s.turnedAway(whyListener, from.String())
		return nil, errTurnedAway
	} else if d.Connections > 0 && int(n) > d.Connections {
		g.over = whyListener
	}
	if !g.expects && !g.count(from) {
		g.leave()
		return nil, errTurnedAway
	}
	return g, nil
}

// count counts the connection as its client's address's.
func (g *guest) count(from netip.AddrPort) bool {
	s := g.d.s
	most := s.cfg.ConnectionsPerAddress
	if most == 0 {
		return true
	}
	key := host(from.Addr())
	n := s.addresses.add(key)
	g.counted = key
	if beyond(n, most) {
		s.turnedAway(whyAddress, from.String())
		return false
	}
	if n > most && g.over == "" {
		g.over = whyAddress
	}
	return true
}

// header takes what a connection has begun with. n is how long its header is, in bytes;
// 0: it is not whole yet.
func (g *guest) header(b []byte, remote string) (n int, err error) {
	if g.fault != nil {
		return 0, g.fault
	}
	client, n, err := proxyproto.Parse(b)
	switch {
	case err != nil:
		g.fault = err
		g.d.s.metrics.refused(whyProxy)
		g.d.s.log.Debug("Connection was refused", "reason", whyProxy, "detail", err.Error(), "remote", remote)
		return 0, err
	case n == 0:
		return 0, nil
	}
	g.expects = false
	if client.IsValid() { // else it is the load balancer's own
		g.from.Store(&client)
		if !g.count(client) {
			g.fault = errTurnedAway
			return 0, errTurnedAway
		}
	}
	return n, nil
}

// address is the client's as a header said it; empty: the connection's own is.
func (g *guest) address() string {
	if g == nil {
		return ""
	}
	if a := g.from.Load(); a != nil {
		return a.String()
	}
	return ""
}

// leave is the end of a connection; of nil it does nothing.
func (g *guest) leave() {
	if g == nil || g.left.Swap(true) {
		return
	}
	g.d.n.Add(-1)
	if g.counted.IsValid() {
		g.d.s.addresses.remove(g.counted)
	}
}

// guestOf is the guest behind a link; nil: there is none.
func guestOf(l link) *guest {
	if x, ok := l.(interface{ guest() *guest }); ok {
		return x.guest()
	}
	return nil
}

// beyond tells whether the nth of at most so many is more than a quarter over it; of
// at most 0 none is.
func beyond(n, most int) bool { return most > 0 && n > most+most/4+1 }

// turnedAway counts a connection that is closed without a word.
func (s *Server) turnedAway(w why, remote string) {
	s.metrics.refused(w)
	s.log.Debug("Connection was refused", "reason", w, "remote", remote)
}

// host is what counts as one address: of IPv6 the network of 64 bits, all of which one
// machine may have.
func host(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// addresses counts connections by address. It holds those alone that have one, so that
// it is no larger than the number of connections.
type addresses struct {
	mu  sync.Mutex
	all map[netip.Addr]int
}

func (x *addresses) add(a netip.Addr) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.all == nil {
		x.all = map[netip.Addr]int{}
	}
	x.all[a]++
	return x.all[a]
}

func (x *addresses) remove(a netip.Addr) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.all[a]--; x.all[a] <= 0 {
		delete(x.all, a)
	}
}

func (x *addresses) len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.all)
}
