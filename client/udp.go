package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/rollcall-dev/rollcall/internal/datagram"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// trials is how many beats go by datagram too, before one was answered: who has
// no answer by then has no way for datagrams, and stays on its connection.
const trials = 3

// line is a session's way for datagrams. A session begins on its connection; when
// a datagram was answered, and nothing needs the connection, that is closed.
type line struct {
	conn    net.Conn
	now     func() time.Time
	answers *datagram.Client // of the goroutine that listens

	mu        sync.Mutex
	questions *datagram.Client
	counter   uint32
	sent      []numbered // the last ones, oldest first
	interval  uint32     // that the server is told, in ms; 0: as in CONNECT
	// told is what the server's clock showed, and at when we heard so.
	told uint64
	at   time.Time

	ended chan struct{} // closed when nobody listens any more

	// What follows is the loop's.

	tried int
	works bool // a datagram was answered
	alone bool // the connection is closed
}

// numbered is a datagram that was sent.
type numbered struct {
	counter  uint32
	at       time.Time
	interval uint32
}

// reply is a server's answer to a datagram that was sent at that time, with that
// interval; zero: not known any more.
type reply struct {
	message  datagram.Message
	at       time.Time
	interval uint32
}

// unreachable: no datagram arrives where they are sent.
type unreachable struct{ err error }

// newLine opens the way that a CONNACK offers; nil where it offers none, or none
// that can be used: the client stays on its connection then.
func (c *Client) newLine(ctx context.Context, user paho.UserProperties) *line {
	offer, ok := property(user, wire.PropUDP)
	if !c.cfg.UDP || !ok {
		return nil
	}
	at := c.cfg.Clock.Now()
	l, err := func() (*line, error) {
		g, err := datagram.ParseGrant(offer)
		if err != nil {
			return nil, err
		}
		l := &line{now: c.cfg.Clock.Now, told: g.Time, at: at, ended: make(chan struct{})}
		if l.questions, err = datagram.NewClient(g.Session, g.Key); err != nil {
			return nil, err
		}
		if l.answers, err = datagram.NewClient(g.Session, g.Key); err != nil {
			return nil, err
		}
		l.conn, err = c.cfg.Dialer(ctx, "udp", g.Address)
		return l, err
	}()
	if err != nil {
		c.cfg.Logger.Debug("No beats by datagram", "client", c.cfg.ClientID, "error", err)
		return nil
	}
	return l
}

// ask sends a question, and returns its number. Whether it arrives its answer tells.
// at is when it was decided.
func (l *line) ask(k datagram.Kind, at time.Time) uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counter++
	l.sent = append(l.sent, numbered{l.counter, at, l.interval})
	if len(l.sent) > 16 {
		l.sent = l.sent[1:]
	}
	var b [datagram.Size]byte
	l.questions.Seal(b[:], datagram.Message{
		Kind: k, Counter: l.counter, Time: l.told + uint64(max(l.now().Sub(l.at), 0).Milliseconds()), Interval: l.interval,
	})
	_, _ = l.conn.Write(b[:]) // an error shows in Read
	return l.counter
}

// declare has the next questions say another interval.
func (l *line) declare(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interval = uint32(d.Milliseconds())
}

// heard takes an answer: its question is not waited for any more, nor are those
// before it.
func (l *line) heard(m datagram.Message) (r reply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.message = m
	for len(l.sent) > 0 && l.sent[0].counter <= m.Counter {
		if q := l.sent[0]; q.counter == m.Counter {
			r.at, r.interval = q.at, q.interval
		}
		l.sent = l.sent[1:]
	}
	if m.Kind != datagram.Gone && (m.Time > l.told || m.Kind == datagram.Skewed && !r.at.IsZero()) {
		l.told, l.at = m.Time, l.now()
	}
	return r
}

// listen tells of answers until the line is closed, or leaves.
func (l *line) listen(tell func(any)) {
	defer close(l.ended)
	b := make([]byte, datagram.Size+1)
	for {
		n, err := l.conn.Read(b)
		switch {
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err != nil:
			tell(unreachable{fmt.Errorf("datagrams: %w", err)})
			return
		}
		if m, err := l.answers.Open(b[:n]); err == nil {
			tell(l.heard(m))
		} // else it is not from the server
	}
}

// farewells is how often a goodbye is said, until it is answered.
const farewells = 3

// leave says goodbye. Nobody listens any more then.
func (l *line) leave(within time.Duration) error {
	_ = l.conn.SetReadDeadline(time.Now())
	<-l.ended
	b, first := make([]byte, datagram.Size+1), uint32(0)
	for range farewells {
		said := l.ask(datagram.Leave, l.now())
		first = cmp.Or(first, said)
		_ = l.conn.SetReadDeadline(time.Now().Add(within / farewells))
		for {
			n, err := l.conn.Read(b)
			if err != nil {
				break
			}
			m, err := l.answers.Open(b[:n])
			if err == nil && m.Kind == datagram.Skewed {
				l.heard(m)
				break // it is said again, by the server's clock
			}
			if err == nil && (m.Kind == datagram.Gone || m.Kind == datagram.OK && m.Counter >= first) {
				return nil
			}
		}
	}
	return fmt.Errorf("datagrams: %w", ErrTimeout)
}

// byDatagram tells whether a session's connection is closed: it lives by datagrams.
func (s *session) byDatagram() bool { return s.line != nil && s.line.alone }

// beatBy beats by datagram where that is the way, or may become it. It is false
// where the connection must carry the beat.
func (l *loop) beatBy(s *session) bool {
	if s.line == nil {
		return false
	}
	if s.line.alone || !s.line.works && s.line.tried < trials {
		s.line.tried++
		s.line.ask(datagram.Beat, l.now)
	}
	return s.line.alone
}

// replied takes an answer to a datagram, for the core. What answers nothing that is
// waited for was sent twice, by the network or by a stranger.
func (l *loop) replied(s *session, r reply) {
	switch k := r.message.Kind; {
	case r.at.IsZero():
		return
	case k == datagram.Gone && s.line.alone:
		l.step(forgotten{})
		return
	case k == datagram.Gone:
		return // the connection will say so
	case k == datagram.Skewed: // a clock stood still, of either; now we know the server's
		s.line.ask(datagram.Beat, r.at)
		return
	case !s.line.works:
		s.line.works = true
		l.settleBy(s)
	case s.line.alone:
		l.metrics.answer.Observe(l.cfg.Clock.Now().Sub(r.at).Seconds())
		l.step(heard{pong: true, at: r.at})
	}
	if l.current != s || !s.line.alone {
		return
	}
	switch held := r.message.Interval; {
	case r.message.Kind == datagram.Draining:
		l.step(dismissed{refusal: &Refusal{"datagram", packets.DisconnectUseAnotherServer, "clients are moved away from here"}})
	case held < r.interval && r.interval == 1000*uint32(l.core.rhythm.declared): // it is too long
		l.step(declined{uint16(held / 1000)})
	}
}

// settleBy closes a session's connection, where datagrams have been answered and
// nothing needs it any more.
func (l *loop) settleBy(s *session) {
	if s == nil || s.line == nil || !s.line.works || s.line.alone || l.needs.Load() > 0 || len(l.watches.all()) > 0 {
		return
	}
	s.line.alone = true
	s.hushed.Store(true)
	l.cfg.Logger.Debug("Beats go by datagram", "client", l.cfg.ClientID, "server", s.server, "address", s.address)
	l.wg.Go(func() { _ = s.conn.Close() }) // without a DISCONNECT: the session goes on
	s.line.declare(time.Duration(l.core.rhythm.declared) * time.Second)
	l.step(heard{}) // it proves that the server is there; and what the connection owes will not come
}

// hold keeps a connection that is there, until release is called; not by the loop.
func (c *Client) hold() (release func()) {
	c.needs.Add(1)
	return func() {
		if c.needs.Add(-1) == 0 && c.cfg.UDP {
			c.say(spared{})
		}
	}
}

// need keeps the connection, and has the client connect where it is closed, until
// release is called.
func (c *Client) need() (release func()) {
	release = c.hold()
	if c.cfg.UDP {
		c.say(summoned{})
	}
	return release
}

// What the loop is told of the need for a connection.
type (
	summoned struct{}
	spared   struct{}
)
