package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	// keepalive is what a probe declares, in seconds. It asks far more often;
	// this only bounds how long a server keeps the session of a lost agent.
	keepalive = 5
	// maxPacket is the longest packet that a probe reads: CONNACK with a list
	// of servers is the longest that comes.
	maxPacket = 16 << 10
)

// event is what a session's reader, or a dialer, tells the prober's loop.
type event struct {
	session *session // nil: of a dial that failed
	at      time.Time

	dialed *dialed // the end of a dial
	packet *packet // something was read
	err    error   // the connection ended
}

type dialed struct {
	began  time.Time
	result DialResult
	kernel Kernel // the baseline
	err    error
}

// packet is what a probe needs to know of one that it has read.
type packet struct {
	kind   Kind
	id     uint16
	reason byte
	// goodbye: a DISCONNECT.
	goodbye     bool
	incarnation string        // of a CONNACK; empty: none was given
	retryAfter  time.Duration // of a CONNACK that refuses
	queueDelay  time.Duration // of a PUBACK; negative: none was given
}

// session is one MQTT connection. Its fields belong to the prober's loop.
type session struct {
	id int
	// conn is what MQTT is spoken over, raw the kernel's connection; below counts
	// what is written to raw, where TLS is between them, else nil.
	conn, raw net.Conn
	below     *counted
	socket    socket
	hello     []byte // the CONNECT to send

	// connected: CONNACK said yes. proven: a later question was answered too.
	connected, proven bool
	nextID            uint16
	ticks             int
	asked             time.Time // when ask last was called
}

// read sends what arrives to the loop until the connection ends or the loop does.
// Over TLS it says hello first.
func (s *session) read(hello []byte, events chan<- event, done <-chan struct{}) {
	send := func(e event) bool {
		e.session, e.at = s, time.Now()
		select {
		case events <- e:
			return true
		case <-done:
			return false
		}
	}
	if err := s.greet(hello); err != nil {
		send(event{err: err})
		return
	}
	buf := make([]byte, 0, 1024)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := s.conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		for err == nil {
			size, ferr := mqtt.Frame(buf, maxPacket)
			if ferr != nil {
				err = fmt.Errorf("malformed answer: %w", ferr)
				break
			}
			if size == 0 {
				break
			}
			p, perr := parse(buf[:size])
			if perr != nil {
				err = perr
				break
			}
			if p != nil && !send(event{packet: p}) {
				return
			}
			buf = buf[:copy(buf, buf[size:])]
		}
		if err != nil {
			send(event{err: err})
			return
		}
	}
}

// parse reads one whole packet; nil: nothing that matters to a probe. What it
// returns shares no memory with b.
func parse(b []byte) (*packet, error) {
	body := 1
	for b[body]&0x80 != 0 {
		body++
	}
	body++
	pk := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: b[0] >> 4, Remaining: len(b) - body},
		ProtocolVersion: 5,
	}
	p := &packet{queueDelay: -1}
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(b[body:])
		p.kind = Connect
	case packets.Pingresp:
		p.kind = Ping
	case packets.Puback:
		err = pk.PubackDecode(b[body:])
		p.kind, p.id = Beat, pk.PacketID
	case packets.Disconnect:
		err = pk.DisconnectDecode(b[body:])
		p.goodbye = true
	default:
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("malformed answer of type %d: %w", pk.FixedHeader.Type, err)
	}
	p.reason = pk.ReasonCode
	for _, u := range pk.Properties.User {
		switch u.Key {
		case wire.PropIncarnation:
			p.incarnation = strings.Clone(u.Val) // it shares memory with b
		case wire.PropQueueDelay:
			if us, err := strconv.ParseUint(u.Val, 10, 40); err == nil {
				p.queueDelay = time.Duration(us) * time.Microsecond
			}
		case wire.PropRetryAfter:
			if ms, err := strconv.ParseUint(u.Val, 10, 32); err == nil {
				p.retryAfter = time.Duration(ms) * time.Millisecond
			}
		}
	}
	return p, nil
}

// connectPacket introduces a probe.
func connectPacket(clientID, user, token string) ([]byte, error) {
	pk := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Connect},
		ProtocolVersion: 5,
		Connect: packets.ConnectParams{
			ProtocolName:     []byte("MQTT"),
			Clean:            true,
			Keepalive:        keepalive,
			ClientIdentifier: clientID,
			UsernameFlag:     true,
			Username:         []byte(user),
			PasswordFlag:     token != "",
			Password:         []byte(token),
		},
		Properties: packets.Properties{User: []packets.UserProperty{{Key: wire.PropProbe, Val: "1"}}},
	}
	var b bytes.Buffer
	if err := pk.ConnectEncode(&b); err != nil {
		return nil, fmt.Errorf("encode CONNECT: %w", err)
	}
	return b.Bytes(), nil
}

// beatPacket is a beat without data, of which the server's vitals come back.
func beatPacket(id uint16) ([]byte, error) {
	pk := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Publish, Qos: 1},
		ProtocolVersion: 5,
		TopicName:       wire.TopicBeat,
		PacketID:        id,
	}
	var b bytes.Buffer
	if err := pk.PublishEncode(&b); err != nil {
		return nil, fmt.Errorf("encode beat: %w", err)
	}
	return b.Bytes(), nil
}

// goodbye is a whole DISCONNECT that says that the probe leaves on purpose.
var goodbye = []byte{packets.Disconnect << 4, 0}

// dialResult tells what an attempt to connect says of the other side.
func dialResult(err error) DialResult {
	var ne net.Error
	switch {
	case err == nil:
		return DialConnected
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return DialRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EHOSTDOWN):
		return DialFailed
	case errors.As(err, &ne) && ne.Timeout():
		return DialFailed
	}
	return DialLocal
}

// endedByPeer tells whether the other side ended a connection, rather than we.
func endedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
