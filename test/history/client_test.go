package history

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// answerWithin is how long clients wait for an answer.
const answerWithin = 400 * time.Millisecond

// member is one client: it comes, beats, goes elsewhere in every way that there
// is, and often beats once more where it was before.
type member struct {
	w    *world
	name string
	rand *rand.Rand
	conn *conn
	// old is a connection that it has not closed yet.
	old *conn
}

// conn is a connection, and the packets sent on it whose answers have not come.
type conn struct {
	net.Conn
	record  *recorder
	server  int
	pending []*beat
}

var errRefused = errors.New("the server refused")

// run lives until the context ends, and then stays with a server that answers,
// beating, until done ends.
func (m *member) run(ctx, done context.Context) {
	for ctx.Err() == nil {
		m.live(ctx, 1+m.rand.IntN(12))
	}
	for done.Err() == nil {
		m.live(done, 1<<30)
	}
	m.close(&m.conn)
	m.close(&m.old)
}

// live is a stay with one server, of so many beats.
func (m *member) live(ctx context.Context, beats int) {
	m.wait(ctx)
	c, err := m.dial(m.w.pick(m.rand))
	if err != nil {
		return
	}
	m.conn = c
	if m.old != nil {
		if m.rand.IntN(2) == 0 {
			_ = m.old.send(m.name, ping) // a last packet to where it was
		}
		m.close(&m.old)
	}
	for range beats {
		m.wait(ctx)
		if ctx.Err() != nil || c.beat(m.name) != nil {
			break
		}
	}
	switch m.rand.IntN(4) {
	case 0:
		_ = c.send(m.name, []byte{0xe0, 0}) // DISCONNECT
		m.close(&m.conn)
	case 1:
		_ = c.send(m.name, ping) // and does not wait for the answer
		m.close(&m.conn)
	case 2:
		m.close(&m.conn)
	default:
		m.old, m.conn = m.conn, nil
	}
}

// wait takes a moment, of a random length.
func (m *member) wait(ctx context.Context) {
	pause(ctx, time.Duration(10+m.rand.IntN(150))*time.Millisecond)
}

func (m *member) close(c **conn) {
	if *c != nil {
		(*c).end(true)
		*c = nil
	}
}

func (m *member) dial(l *life) (*conn, error) {
	return dial(m.w.record, l, m.name, interval)
}

// dial connects a client that promises a beat every so many seconds.
func dial(r *recorder, l *life, client string, seconds byte) (*conn, error) {
	raw, err := net.DialTimeout("tcp", l.addr, answerWithin)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, record: r, server: l.number}
	if err := errors.Join(c.send(client, connect(client, seconds)), c.answer([]byte{0x20, 2, 0, 0})); err != nil {
		c.end(true)
		return nil, err
	}
	return c, nil
}

var ping = []byte{0xc0, 0}

// send sends a packet of a client.
func (c *conn) send(client string, packet []byte) error {
	c.pending = append(c.pending, c.record.sent(client, c.server))
	c.SetWriteDeadline(time.Now().Add(answerWithin))
	_, err := c.Write(packet)
	return err
}

// answer reads the answer to the oldest packet that has none yet.
func (c *conn) answer(want []byte) error {
	c.SetReadDeadline(time.Now().Add(answerWithin))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil {
		var late net.Error
		if !errors.As(err, &late) || !late.Timeout() {
			c.end(false) // the server has ended it, and reads no more
		}
		return err
	}
	c.record.ended(&c.pending[0].back)
	c.pending = c.pending[1:]
	if string(got) != string(want) {
		return errRefused
	}
	return nil
}

func (c *conn) beat(client string) error {
	return errors.Join(c.send(client, ping), c.answer([]byte{0xd0, 0}))
}

// end closes the connection: by the client's own will, or because the server has.
func (c *conn) end(own bool) {
	c.Close()
	for _, b := range c.pending {
		if own {
			c.record.ended(&b.closed)
		} else {
			c.record.ended(&b.back)
		}
	}
	c.pending = nil
}

// interval is what members promise, in seconds.
const interval = 2

// connect is a CONNECT of version 3.1.1.
func connect(client string, seconds byte) []byte {
	text := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	b := text(nil, "MQTT")
	b = append(b, 4, 0x82, 0, seconds) // version, user name and clean session, keep alive
	b = text(text(b, client), presence)
	return append([]byte{0x10, byte(len(b))}, b...)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
