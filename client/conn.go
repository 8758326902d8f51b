package client

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

const (
	// maxPacket is the greatest packet that the client takes, in bytes without
	// its fixed header; it is declared in CONNECT. paho reserves the length
	// that a header claims before it reads: 256 MiB, where nothing checks it.
	maxPacket = 64 << 10
	// lastWords is how long a connection is read after a write to it failed: a
	// server that sent DISCONNECT and closed has said where to go.
	lastWords = 100 * time.Millisecond
)

// conn is a connection as paho sees it: it lets through only what a heartbeat
// server may send (paho trusts its peer, in places with a panic), tells of each
// packet, and bounds each write.
type conn struct {
	net.Conn
	sync.Locker // held by packets.ControlPacket.WriteTo, so that packets don't mix

	reader       *bufio.Reader
	frames       frames
	writeTimeout time.Duration
	onPacket     func(kind byte) // by the reading goroutine, after CONNACK; may block

	mu       sync.Mutex
	writeErr error // the first
}

func newConn(c net.Conn, writeTimeout time.Duration, onPacket func(byte)) *conn {
	return &conn{
		Conn:         c,
		Locker:       &sync.Mutex{},
		reader:       bufio.NewReaderSize(c, 256),
		writeTimeout: writeTimeout,
		onPacket:     onPacket,
	}
}

// Read checks what it returns, and is called by one goroutine at a time.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.reader.Read(p)
	for i := range p[:n] {
		kind, done, bad := c.frames.feed(p[i])
		if bad != nil {
			return 0, bad
		}
		if done && kind != packets.CONNACK {
			c.onPacket(kind)
		}
	}
	return n, err
}

// Write fails within the write timeout. After it has failed, reads fail too,
// at once or after the server's last words.
func (c *conn) Write(p []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(c.writeTimeout))
	n, err := c.Conn.Write(p)
	if err == nil {
		return n, nil
	}
	c.mu.Lock()
	if c.writeErr == nil {
		c.writeErr = fmt.Errorf("write: %w", err)
	}
	c.mu.Unlock()
	if os.IsTimeout(err) {
		_ = c.Close() // half a packet may have left
	} else {
		_ = c.SetReadDeadline(time.Now().Add(lastWords))
	}
	return n, err
}

// cause is why the connection failed, given the error that reading it returned:
// the failed write that came before, if there was one.
func (c *conn) cause(readErr error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeErr != nil {
		return c.writeErr
	}
	return readErr
}

var pingreq = []byte{packets.PINGREQ << 4, 0}

// ping sends a PINGREQ. Its error shows in Read.
func (c *conn) ping() {
	c.Lock()
	defer c.Unlock()
	_, _ = c.Write(pingreq)
}

// frames follows the packets in a stream of bytes, and refuses what a heartbeat
// server never sends to a client that subscribes to nothing with QoS 2 and
// authenticates in CONNECT: anything but CONNACK at first, and afterwards
// anything but PUBLISH (QoS 0, 1), PUBACK, SUBACK, UNSUBACK, PINGRESP and DISCONNECT.
type frames struct {
	kind      byte
	connected bool // CONNACK has passed
	where     int  // in the packet: 0 type, 1 to 4 length, 5 content
	left      int  // bytes of content to come
}

// feed takes the next byte. done: it is the last one of a packet of that kind.
func (f *frames) feed(b byte) (kind byte, done bool, err error) {
	switch f.where {
	case 0:
		if !f.permits(b) {
			return 0, false, fmt.Errorf("%w: a packet begins with 0x%02X", ErrProtocol, b)
		}
		f.kind, f.where, f.left = b>>4, 1, 0
		return 0, false, nil
	case 5:
		f.left--
	default:
		f.left |= int(b&0x7F) << (7 * (f.where - 1))
		if b&0x80 != 0 {
			if f.where == 4 {
				return 0, false, fmt.Errorf("%w: a length of more than 4 bytes", ErrProtocol)
			}
			f.where++
			return 0, false, nil
		}
		if f.left > maxPacket {
			return 0, false, fmt.Errorf("%w: a packet of %d bytes, more than the %d that were declared", ErrProtocol, f.left, maxPacket)
		}
		if !f.connected && f.left < 3 {
			return 0, false, fmt.Errorf("%w: a CONNACK of an older version", ErrProtocol)
		}
		f.where = 5
	}
	if f.left > 0 {
		return 0, false, nil
	}
	f.where, f.connected = 0, true
	return f.kind, true, nil
}

func (f *frames) permits(b byte) bool {
	if !f.connected {
		return b == packets.CONNACK<<4
	}
	switch b >> 4 {
	case packets.PUBLISH:
		return b&0x06 < 0x04
	case packets.PUBACK, packets.SUBACK, packets.UNSUBACK, packets.PINGRESP, packets.DISCONNECT:
		return b&0x0F == 0
	}
	return false
}
