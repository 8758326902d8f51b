// Package mqtt turns bytes into MQTT packets and back, for a heartbeat server:
// it reads what clients send and writes what a server answers, in versions
// 3.1.1 and 5. It does no I/O, keeps no state and never panics, whatever the
// bytes; what it returns may share memory with its input.
//
// References such as [MQTT-3.1.2-1] are statements of MQTT 5.0, and [3.1.1: …]
// sections of MQTT 3.1.1, both OASIS standards.
package mqtt

import "fmt"

// Type is a packet's type, the upper four bits of its first byte.
type Type byte

// The packet types of MQTT 5; AUTH does not exist in 3.1.1.
const (
	CONNECT Type = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

// Version is a protocol level, as CONNECT declares it.
type Version byte

// The versions that a heartbeat server speaks.
const (
	V311 Version = 4
	V5   Version = 5
)

// MaxRemaining is the greatest remaining length that MQTT can express.
const MaxRemaining = 268_435_455

// Error is why bytes are not a packet, with the reason code that the standard
// gives for it: Malformed, ProtocolError, TooLarge and so on.
type Error struct {
	Reason Reason
	Detail string
}

func (e *Error) Error() string { return e.Reason.String() + ": " + e.Detail }

func malformed(format string, args ...any) error {
	return &Error{Malformed, fmt.Sprintf(format, args...)}
}

func violation(format string, args ...any) error {
	return &Error{ProtocolError, fmt.Sprintf(format, args...)}
}

// Ping is a whole PINGREQ, and Pong its answer. Not to be written to.
var (
	Ping = []byte{byte(PINGREQ) << 4, 0}
	Pong = []byte{byte(PINGRESP) << 4, 0}
)

// TypeOf is the type of the packet that begins with b.
func TypeOf(b byte) Type { return Type(b >> 4) }

// IsPing tells whether a whole frame is a PINGREQ: the hot path.
func IsPing(frame []byte) bool { return len(frame) == 2 && frame[0] == byte(PINGREQ)<<4 }

// Frame finds the packet that buf begins with: n is its length, header
// included, or 0 where more bytes are needed to tell. It checks the fixed
// header, so that nonsense is refused at its first byte, and that the packet is
// at most limit bytes long, before anything is kept for it.
func Frame(buf []byte, limit int) (n int, err error) {
	if len(buf) == 0 {
		return 0, nil
	}
	if err := checkFirst(buf[0]); err != nil {
		return 0, err
	}
	remaining, used, err := varint(buf[1:])
	if err != nil {
		return 0, err
	}
	if used == 0 {
		return 0, nil
	}
	n = 1 + used + remaining
	if n > limit {
		return 0, &Error{TooLarge, fmt.Sprintf("a packet of %d bytes, where %d are allowed", n, limit)}
	}
	switch t := TypeOf(buf[0]); {
	case (t == PINGREQ || t == PINGRESP) && remaining != 0:
		return 0, malformed("%v with a remaining length of %d", t, remaining)
	case len(buf) < n:
		return 0, nil
	}
	return n, nil
}

// checkFirst checks type and flags: the first byte of a packet from a client.
func checkFirst(b byte) error {
	t, flags := TypeOf(b), b&0x0f
	switch t {
	case 0:
		return malformed("packet type 0 is reserved")
	case PUBLISH:
		if qos := flags >> 1 & 3; qos == 3 {
			return malformed("a PUBLISH with both QoS bits set") // [MQTT-3.3.1-4]
		} else if qos == 0 && flags&8 != 0 {
			return malformed("a PUBLISH of QoS 0 that claims to be a duplicate") // [MQTT-3.3.1-2]
		}
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		if flags != 2 {
			return malformed("%v with the flags %#x, not 0x2", t, flags) // [MQTT-2.1.3-1]
		}
	default:
		if flags != 0 {
			return malformed("%v with the flags %#x, not 0x0", t, flags)
		}
	}
	return nil
}

// body is a whole frame without its fixed header.
func body(frame []byte) (*reader, error) {
	if len(frame) == 0 {
		return nil, malformed("no bytes")
	}
	remaining, used, err := varint(frame[1:])
	if err != nil {
		return nil, err
	}
	if used == 0 || len(frame) != 1+used+remaining {
		return nil, malformed("a frame of %d bytes that is not one packet", len(frame))
	}
	return &reader{b: frame[1+used:]}, nil
}

func (t Type) String() string {
	names := [...]string{
		"type 0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
		"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
	}
	return names[t&15]
}
