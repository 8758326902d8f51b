package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/rollcall-dev/rollcall/internal/datagram"
	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server/session"
)

// datagramSkew is how far from now the time in a datagram may be, either way. A client
// reckons it from what the server told last, so it drifts by less; unless a clock stood
// still, of either.
const datagramSkew = 30 * time.Second

// Why datagrams were refused: none of these is answered, but for skew.
const (
	whyDatagram         why = "datagram"          // it has not the form of one
	whyDatagramFlood    why = "datagram-flood"    // too many from there did not open, and it names no session: not opened
	whyDatagramForged   why = "datagram-forged"   // sealed with another key, or an earlier process's
	whyDatagramReplayed why = "datagram-replayed" // its number was used
	whyDatagramSkew     why = "datagram-skew"     // its time is not now
)

var datagramWhys = []why{whyDatagram, whyDatagramFlood, whyDatagramForged, whyDatagramReplayed, whyDatagramSkew}

// datagrams are what a socket brings, some at a time: those from 0 to the n of the
// last read, whose memory the next one uses again.
type datagrams interface {
	// read waits for some, or for a while: n may be 0. m is the moment of it.
	read(before func() moment) (n int, m moment, err error)
	// at is one as it came, with room for an answer; source stands for where it
	// came from, as far as strangers are told apart, and from is that.
	at(i int) []byte
	source(i int) uint64
	from(i int) netip.AddrPort
	// answer sends the first bytes of one back, at the latest with flush.
	answer(i int)
	flush()
	close() error
}

// udp takes beats by datagrams, from one goroutine: it looks each session up by
// its place, has the table accept the beat, and answers.
type udp struct {
	s *Server
	// socket is whose datagrams those are; its address stays when they have taken it over.
	socket *net.UDPConn
	// advertise is where clients reach it.
	advertise string
	sealed    *datagram.Server
	guard     guard
	// renewals are how fast intervals are changed: each is written, like a CONNECT.
	renewals bucket
}

func listenUDP(s *Server) (*udp, error) {
	at, err := net.ListenPacket("udp", s.cfg.ListenUDP)
	if err != nil {
		return nil, fmt.Errorf("server: ListenUDP: %w", err)
	}
	u := &udp{s: s, socket: at.(*net.UDPConn), guard: guard{seed: maphash.MakeSeed()}, renewals: bucket{rate: s.cfg.ConnectRate, burst: float64(s.cfg.ConnectBurst)}}
	_ = u.socket.SetReadBuffer(udpBuffer) // what the system allows
	var key [datagram.KeySize]byte
	_, _ = rand.Read(key[:]) // it never fails
	if u.sealed, err = datagram.NewServer(key); err == nil {
		u.advertise, err = u.reached()
	}
	if err != nil {
		return nil, errors.Join(err, u.socket.Close())
	}
	return u, nil
}

// udpBuffer is what the kernel may keep for us while we are busy, in bytes: some
// thousands of beats, for a few milliseconds.
const udpBuffer = 4 << 20

// reached is where clients reach the socket: as configured, else at the host that
// is advertised for TCP, else at its own address.
func (u *udp) reached() (string, error) {
	if a := u.s.cfg.AdvertiseUDP; a != "" {
		return a, nil
	}
	own := u.socket.LocalAddr().(*net.UDPAddr).AddrPort()
	if host, _, err := net.SplitHostPort(u.s.cfg.Advertise); err == nil {
		return net.JoinHostPort(host, fmt.Sprint(own.Port())), nil
	}
	if own.Addr().IsUnspecified() {
		return "", fmt.Errorf("server: AdvertiseUDP is needed: at which address do clients reach %v of this very server", own)
	}
	return own.String(), nil
}

// AddrUDP is where the server takes datagrams; nil: nowhere.
func (s *Server) AddrUDP() net.Addr {
	if s.udp == nil {
		return nil
	}
	return s.udp.socket.LocalAddr()
}

// mayDatagram tells whether a client that connects may beat by datagrams: it asks
// to, what it is told nobody else can read, and its Presence takes beats of that age.
func (p *peer) mayDatagram(c mqtt.Connect) bool {
	l, ok := p.link.(interface{ secure() bool })
	return p.s.udp != nil && ok && l.secure() && !p.probe && p.presence.Kind == Clients && p.version == mqtt.V5 &&
		(p.presence.MaxSkew == 0 || p.presence.MaxSkew >= datagramSkew) && property(c.User, wire.PropUDP) == "1"
}

// grant is the user property that lets a client beat by datagrams.
func (u *udp) grant(place session.Place, arrival uint64, now session.Tick) mqtt.User {
	of := datagram.Session{Place: uint32(place), Arrival: arrival}
	return mqtt.User{Name: wire.PropUDP, Value: datagram.Grant{
		Address: u.advertise, Session: of, Key: u.sealed.Key(of), Time: milliclock(now),
	}.Format()}
}

// milliclock is a server's own clock, as its clients are told it.
func milliclock(t session.Tick) uint64 {
	return uint64(t) * uint64(session.TickLength/time.Millisecond)
}

// run answers until the context ends.
func (u *udp) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = u.socket.Close() })
	defer stop()
	loops := u.s.cfg.Loops
	if u.s.delayed.faults != nil {
		loops = -1 // late answers are sent by others, who need the socket
	}
	in, err := newDatagrams(u.socket, loops)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("server: UDP: %w", err)
	}
	defer func() { _ = in.close() }()
	before := func() moment {
		return moment{stamp: u.s.clock.Stamp(), revision: u.s.cfg.Store.Revision()}
	}
	for {
		n, m, err := in.read(before)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("server: UDP: %w", err)
		case err != nil: // no memory, or what the network said of an answer
			pause(ctx, 10*time.Millisecond)
			continue
		case n == 0:
			continue
		}
		for i := range n {
			if u.take(in, i, m) && !u.late(in, i) {
				in.answer(i)
			}
		}
		in.flush()
		u.s.vitals.observe(time.Since(m.read))
	}
}

// late has an answer wait, where the server is made slow.
func (u *udp) late(in datagrams, i int) bool {
	if u.s.delayed.faults == nil {
		return false
	}
	b, to := append([]byte(nil), in.at(i)[:datagram.Size]...), in.from(i)
	return u.s.delayed.holdCall(func() { _, _ = u.socket.WriteToUDPAddrPort(b, to) })
}

// take takes one datagram and puts its answer in its place. It is false where
// there is none: to nobody who does not have a key, and not twice.
func (u *udp) take(in datagrams, i int, m moment) bool {
	b := in.at(i)
	bucket := u.guard.bucket(in.source(i), m.stamp.Tick)
	if *bucket >= maxForged && !u.expects(b) {
		return u.refuse(in, i, whyDatagramFlood)
	}
	q, err := u.sealed.Open(b)
	switch {
	case errors.Is(err, datagram.ErrMalformed):
		return u.refuse(in, i, whyDatagram)
	case err != nil:
		*bucket = min(*bucket+1, maxForged)
		return u.refuse(in, i, whyDatagramForged)
	}
	now := milliclock(m.stamp.Tick)
	// It was sent since this process was last stopped, and just now.
	m.trusted = q.Time > milliclock(u.s.clock.Woke()) && int64(now-q.Time) <= session.GapAfter.Milliseconds()
	answer := datagram.Message{Session: q.Session, Counter: q.Counter, Time: now}
	var outcome session.Outcome
	switch skew := int64(now - q.Time); {
	case skew > datagramSkew.Milliseconds() || skew < -datagramSkew.Milliseconds():
		answer.Kind = datagram.Skewed
		outcome = u.s.table.Spend(session.Place(q.Session.Place), q.Session.Arrival, q.Counter)
	case q.Kind == datagram.Leave:
		answer.Kind = datagram.OK
		outcome = u.leave(q)
	default:
		answer.Kind, answer.Interval, outcome = u.beat(q, m)
	}
	switch {
	case outcome == session.Replayed:
		return u.refuse(in, i, whyDatagramReplayed)
	case outcome == session.Accepted && answer.Kind == datagram.Skewed:
		u.refuse(in, i, whyDatagramSkew) // but answered: its client asks again by our clock
	case outcome == session.Ended:
		answer = datagram.Message{Kind: datagram.Gone, Session: q.Session, Counter: q.Counter}
	}
	u.s.metrics.datagrams[answer.Kind].Inc()
	u.sealed.Seal(b, answer)
	return true
}

// expects tells whether a datagram names a session, and a number that it has not used:
// from wherever it comes it is opened then. Anybody can send in a source's name, but
// only who has seen a session's datagrams can name it.
func (u *udp) expects(b []byte) bool {
	of, counter, ok := datagram.Peek(b)
	return ok && u.s.table.Expects(session.Place(of.Place), of.Arrival, counter)
}

// beat has the table accept a beat.
func (u *udp) beat(q datagram.Message, m moment) (answer datagram.Kind, interval uint32, o session.Outcome) {
	s, place := u.s, session.Place(q.Session.Place)
	h, o := s.table.Datagram(place, q.Session.Arrival, q.Counter, m.stamp.Tick, m.trusted)
	if o != session.Accepted {
		return 0, 0, o
	}
	s.metrics.beats.Inc()
	if h.Attend && m.trusted {
		s.recorder.Packet(keyOf(h.Class, h.Client), m.revision, m.stamp.Gaps)
	}
	if asked := time.Duration(q.Interval) * time.Millisecond; q.Interval != 0 && asked != h.Interval {
		h.Interval = u.renew(q, h, asked)
	}
	answer = datagram.OK
	if s.stands(h.Told) {
		answer = datagram.Draining
		if s.table.HasHeard(place, q.Session.Arrival) {
			s.drain.heard(time.Now(), keyOf(h.Class, h.Client))
		}
	} else if h.Told != 0 { // not any more
		s.table.Tell(h.Class, h.Client, q.Session.Arrival, 0)
	}
	return answer, uint32(h.Interval / time.Millisecond), o
}

// renew changes a session's interval, within the bounds of its Presence wherever a
// client is (a datagram does not say where), and returns the one that counts: what
// is too long is not taken, because the client would count as gone, nor what comes
// faster than clients are let in.
func (u *udp) renew(q datagram.Message, h session.Heard, asked time.Duration) time.Duration {
	presence, known := u.s.cfg.Presences.Lookup(h.Class.Namespace, h.Class.Presence)
	interval := presence.anywhere().interval(asked, false)
	if !known || asked > interval || interval == h.Interval || !u.renewals.take(time.Now()) ||
		!u.s.table.RenewAt(session.Place(q.Session.Place), q.Session.Arrival, presence.lease(interval)) {
		return h.Interval
	}
	u.s.recorder.Renew(keyOf(h.Class, h.Client), q.Session.Arrival, interval)
	return interval
}

// anywhere is the Presence with bounds that hold for clients of every place.
func (p Presence) anywhere() Presence {
	o := p.Overrides
	if o == nil {
		return p
	}
	p.MinInterval, p.MaxInterval = o.Min, o.Max
	for _, x := range o.All {
		p.MinInterval = max(p.MinInterval, x.Min)
		if x.Max > 0 {
			p.MaxInterval = min(p.MaxInterval, x.Max)
		}
	}
	p.MinInterval = min(p.MinInterval, p.MaxInterval)
	return p
}

// leave: the member left on purpose.
func (u *udp) leave(q datagram.Message) session.Outcome {
	v, o := u.s.table.Depart(session.Place(q.Session.Place), q.Session.Arrival, q.Counter)
	if o != session.Accepted {
		return o
	}
	key := keyOf(v.Class, v.Client)
	u.s.recordDescriptions(u.s.descriptions.last(key))
	u.s.recorder.Left(key, v.Arrival, time.Now())
	u.s.ended.Add(1)
	if v.Link != nil {
		v.Link.bye(nil)
	}
	return o
}

func keyOf(c *session.Class, client string) store.SessionKey {
	return store.SessionKey{Namespace: c.Namespace, Presence: c.Presence, Client: client}
}

// refuse counts a datagram that is not answered.
func (u *udp) refuse(in datagrams, i int, w why) bool {
	u.s.metrics.refused(w)
	if u.s.log.Enabled(u.s.ctx(), slog.LevelDebug) {
		u.s.log.Debug("Datagram was refused", "reason", w, "remote", in.from(i).String())
	}
	return false
}

const (
	// maxForged is how many datagrams of one source may fail to open in a second:
	// what else comes from there in that second is opened only where it names a session
	// and its next number. With so many buckets, strangers who forge their addresses cost
	// less than a fifth of a processor, at some 0.5 µs for each.
	maxForged  = 256
	forgeryLog = 1024
)

// guard bounds what is spent on datagrams that nobody's key opens. Sources share
// its buckets: it does not grow with them.
type guard struct {
	seed   maphash.Seed
	since  session.Tick
	failed [forgeryLog]uint16
}

// bucket counts a source's failures of this second.
func (g *guard) bucket(source uint64, now session.Tick) *uint16 {
	if now-g.since >= second {
		g.since = now
		clear(g.failed[:])
	}
	return &g.failed[maphash.Comparable(g.seed, source)%forgeryLog]
}
