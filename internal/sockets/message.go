package sockets

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// The kernel's messages (include/uapi/linux/inet_diag.h, sock_diag.h, netlink.h).
// Numbers are in the machine's order, ports and addresses in the network's.
const (
	familyIPv4 = 2
	familyIPv6 = 10

	protocolTCP = 6

	headerSize = 16
	idSize     = 48
	// family, protocol, extensions, padding, states, id
	requestSize = 8 + idSize
	// family, state, timer, retransmissions, id, expires, queues, uid, inode
	socketSize = 4 + idSize + 20

	typeError = 2
	typeDone  = 3

	// attributeInfo is INET_DIAG_INFO: a struct tcp_info.
	attributeInfo = 2
	// infoSize is as much of tcp_info as is read: up to bytes_received. Kernels
	// since 4.1 give more.
	infoSize = 136
)

var errMalformed = errors.New("malformed message of the kernel")

// identity is what the kernel tells one socket from another by: its family, and
// the struct inet_diag_sockid with ports, addresses, interface and cookie.
type identity struct {
	family uint8
	id     [idSize]byte
}

// cookie is never given to two sockets; 0 and all ones name none.
func (i identity) cookie() uint64 { return binary.NativeEndian.Uint64(i.id[idSize-8:]) }

func (i identity) valid() bool {
	c := i.cookie()
	return (i.family == familyIPv4 || i.family == familyIPv6) && c != 0 && c != ^uint64(0)
}

// request asks for sockets, or for one to be destroyed.
type request struct {
	kind, flags uint16
	id          identity
	states      uint32 // a bit for each State
	extensions  uint8  // a bit for each attribute, from the first one on
}

// append appends a whole netlink message.
func (r request) append(b []byte, seq uint32) []byte {
	b = binary.NativeEndian.AppendUint32(b, headerSize+requestSize)
	b = binary.NativeEndian.AppendUint16(b, r.kind)
	b = binary.NativeEndian.AppendUint16(b, r.flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // the sender, whom the kernel knows
	b = append(b, r.id.family, protocolTCP, r.extensions, 0)
	b = binary.NativeEndian.AppendUint32(b, r.states)
	return append(b, r.id.id[:]...)
}

// anyOf is the identity that a listing of a family gives: a local port, and no more.
func anyOf(family uint8, port uint16) identity {
	i := identity{family: family}
	binary.BigEndian.PutUint16(i.id[:], port)
	return i
}

// message is one netlink message.
type message struct {
	kind uint16
	seq  uint32
	body []byte
}

// next takes the first message off b. What it returns shares b's memory.
func next(b []byte) (m message, rest []byte, err error) {
	if len(b) < headerSize {
		return m, nil, fmt.Errorf("%w: %d bytes are no header", errMalformed, len(b))
	}
	size := binary.NativeEndian.Uint32(b)
	if size < headerSize || uint64(size) > uint64(len(b)) {
		return m, nil, fmt.Errorf("%w: it has %d bytes and says %d", errMalformed, len(b), size)
	}
	m = message{kind: binary.NativeEndian.Uint16(b[4:]), seq: binary.NativeEndian.Uint32(b[8:]), body: b[headerSize:size]}
	return m, b[min(align(int(size)), len(b)):], nil
}

// failure is the error number of a message of typeError or typeDone; 0: none.
func (m message) failure() (int32, error) {
	if len(m.body) < 4 {
		if m.kind == typeDone {
			return 0, nil // older kernels give none
		}
		return 0, fmt.Errorf("%w: an error without a number", errMalformed)
	}
	n := int32(binary.NativeEndian.Uint32(m.body))
	if n > 0 || n < -4095 {
		return 0, fmt.Errorf("%w: error number %d", errMalformed, n)
	}
	return -n, nil
}

// parseSocket reads one inet_diag_msg with its attributes.
func parseSocket(b []byte) (Socket, error) {
	if len(b) < socketSize {
		return Socket{}, fmt.Errorf("%w: %d bytes are no socket", errMalformed, len(b))
	}
	s := Socket{State: State(b[1]), id: identity{family: b[0]}}
	copy(s.id.id[:], b[4:])
	var err error
	if s.Local, s.Remote, err = s.id.ends(); err != nil {
		return Socket{}, err
	}
	s.Cookie = s.id.cookie()
	counts := b[4+idSize:]
	s.ReadQueue, s.WriteQueue = binary.NativeEndian.Uint32(counts[4:]), binary.NativeEndian.Uint32(counts[8:])
	s.Inode = binary.NativeEndian.Uint32(counts[16:])
	for rest := b[socketSize:]; len(rest) > 0; {
		var kind uint16
		var value []byte
		if kind, value, rest, err = attribute(rest); err != nil {
			return Socket{}, err
		}
		if kind == attributeInfo && len(value) >= infoSize {
			s.Info = parseInfo(value)
		}
	}
	return s, nil
}

// ends are the two addresses of an identity.
func (i identity) ends() (local, remote netip.AddrPort, err error) {
	var l, r netip.Addr
	switch i.family {
	case familyIPv4:
		l, r = netip.AddrFrom4([4]byte(i.id[4:])), netip.AddrFrom4([4]byte(i.id[20:]))
	case familyIPv6:
		l, r = netip.AddrFrom16([16]byte(i.id[4:])).Unmap(), netip.AddrFrom16([16]byte(i.id[20:])).Unmap()
	default:
		return local, remote, fmt.Errorf("%w: family %d is not of the internet", errMalformed, i.family)
	}
	return netip.AddrPortFrom(l, binary.BigEndian.Uint16(i.id[:])), netip.AddrPortFrom(r, binary.BigEndian.Uint16(i.id[2:])), nil
}

// attribute takes the first one off b: its length with its own four bytes, its type, its value.
func attribute(b []byte) (kind uint16, value, rest []byte, err error) {
	if len(b) < 4 {
		return 0, nil, nil, fmt.Errorf("%w: %d bytes are no attribute", errMalformed, len(b))
	}
	size := int(binary.NativeEndian.Uint16(b))
	if size < 4 || size > len(b) {
		return 0, nil, nil, fmt.Errorf("%w: an attribute has %d bytes and says %d", errMalformed, len(b), size)
	}
	return binary.NativeEndian.Uint16(b[2:]), b[4:size], b[min(align(size), len(b)):], nil
}

// parseInfo reads a struct tcp_info of infoSize bytes at least.
func parseInfo(b []byte) *Info {
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	return &Info{
		Unacknowledged: u32(24),
		SinceSent:      time.Duration(u32(44)) * time.Millisecond,
		SinceReceived:  time.Duration(u32(52)) * time.Millisecond,
		RoundTrip:      time.Duration(u32(68)) * time.Microsecond,
		Retransmitted:  u32(100),
		Acknowledged:   binary.NativeEndian.Uint64(b[120:]),
		Received:       binary.NativeEndian.Uint64(b[128:]),
	}
}

// parseInUse reads how many TCP sockets there are in /proc/net/sockstat, or
// sockstat6: "TCP: inuse 21 orphan 0 …", "TCP6: inuse 3".
func parseInUse(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		name, rest, _ := strings.Cut(string(line), ": inuse ")
		if name != "TCP" && name != "TCP6" {
			continue
		}
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil {
			return 0, fmt.Errorf("%w: %q sockets are in use", errMalformed, number)
		}
		return int(n), nil
	}
	return 0, fmt.Errorf("%w: it does not say how many TCP sockets are in use", errMalformed)
}

// align rounds up to the four bytes that messages and attributes begin at.
func align(n int) int { return (n + 3) &^ 3 }
