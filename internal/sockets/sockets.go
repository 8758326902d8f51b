// Package sockets reads the TCP sockets of a network namespace as its kernel
// knows them (sock_diag), whatever the processes that hold them are doing, and
// ends established connections (SOCK_DESTROY): the kernel sends the reset, also
// for a process that is stopped. It needs CAP_NET_ADMIN to end connections, and
// CAP_SYS_ADMIN to enter the namespace of another pod. Whose connections those
// are, and which may be ended, is its callers' concern.
//
// It is Linux's alone; elsewhere everything returns ErrUnsupported.
package sockets

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

var (
	// ErrUnsupported: this kernel can't do it.
	ErrUnsupported = errors.New("this kernel has no socket destroy for TCP (Linux with CONFIG_INET_DIAG_DESTROY is needed)")
	// ErrNotPermitted: this process may not.
	ErrNotPermitted = errors.New("not permitted: CAP_NET_ADMIN and CAP_SYS_ADMIN are needed")
	// ErrGone: there is no such socket any more.
	ErrGone = errors.New("the socket is gone")
	// ErrNotConnected: only connections that are established may be ended.
	ErrNotConnected = errors.New("not an established connection")
	// ErrNoNamespace: no network namespace has these addresses.
	ErrNoNamespace = errors.New("no network namespace has the addresses")
	// ErrAmbiguous: several have them, so that nobody can tell which is meant.
	ErrAmbiguous = errors.New("several network namespaces have the same addresses")
)

// State of a TCP socket, as the kernel numbers them (include/net/tcp_states.h).
type State uint8

// The states that are asked for here.
const (
	Established State = 1
	CloseWait   State = 8
	Listen      State = 10
)

func (s State) String() string {
	switch s {
	case Established:
		return "established"
	case CloseWait:
		return "close-wait"
	case Listen:
		return "listen"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Family of a socket, as the kernel numbers them.
type Family uint8

// The families.
const (
	FamilyIPv4 Family = familyIPv4
	FamilyIPv6 Family = familyIPv6
)

// Query says which sockets are listed.
type Query struct {
	// Port is the local one; 0: all.
	Port uint16
	// States to be listed; none: Established.
	States []State
	// Families to be listed, FamilyIPv4 or FamilyIPv6; none: both. A socket for both
	// is one of IPv6, and so are all connections that it takes.
	Families []Family
	// Info asks for what the kernel has counted of each connection.
	Info bool
}

// Socket is one TCP socket, as it was when it was listed.
type Socket struct {
	State State
	// Local and Remote are the two ends. An IPv4 client of a socket for both
	// protocols has its IPv4 address here.
	Local, Remote netip.AddrPort
	// ReadQueue is how many bytes have arrived, and been acknowledged, that the
	// process has not read. Of a listening socket: how many connections it has not accepted.
	ReadQueue uint32
	// WriteQueue is how many bytes the other side has not acknowledged. Of a
	// listening socket: how many connections may wait to be accepted.
	WriteQueue uint32
	// Cookie is the kernel's name for the socket, never given to two.
	Cookie uint64
	// Inode of the process's descriptor; 0: the connection waits to be accepted.
	Inode uint32
	// Info is nil where it was not asked for, or the kernel gave none.
	Info *Info

	id identity
}

// Info is what the kernel has counted of one connection.
type Info struct {
	// SinceReceived is how long ago data last arrived, SinceSent how long ago it
	// was last sent; both in whole milliseconds.
	SinceReceived, SinceSent time.Duration
	// RoundTrip is the kernel's smoothed estimate.
	RoundTrip time.Duration
	// Acknowledged is how many bytes the other side has acknowledged, and
	// Received how many have arrived, since the connection began.
	Acknowledged, Received uint64
	// Retransmitted counts segments since the connection began; Unacknowledged
	// are those that are on their way now.
	Retransmitted, Unacknowledged uint32
}

// Family of the socket.
func (s Socket) Family() Family { return Family(s.id.family) }

// Queue is how full a listening socket's accept queue is.
type Queue struct{ Waiting, Limit uint32 }

// Queue of a listening socket.
func (s Socket) Queue() Queue { return Queue{Waiting: s.ReadQueue, Limit: s.WriteQueue} }
