package client

import (
	"errors"
	"fmt"

	"github.com/eclipse/paho.golang/packets"
)

// What callers tell apart with errors.Is.
var (
	// ErrClosed: the client has been closed.
	ErrClosed = errors.New("client is closed")
	// ErrCredentials: a server refused the credentials. Others would too, so
	// that the next attempt waits MaxBackoff or nearly so.
	ErrCredentials = errors.New("credentials refused")
	// ErrProtocol: what answers is not an MQTT 5 server, or breaks its rules.
	ErrProtocol = errors.New("not MQTT 5")
	// ErrTimeout: connected, or not even that, and no CONNACK in time.
	ErrTimeout = errors.New("no answer in time")
	// ErrLate: Misses answers in a row were late, or the Heartbeat gave up.
	ErrLate = errors.New("answers are late")
	// ErrNetworkChanged: the program said so (Client.NetworkChanged).
	ErrNetworkChanged = errors.New("the network has changed")
	// ErrForgotten: the server has no session of the client any more (datagrams only:
	// over a connection it says why).
	ErrForgotten = errors.New("the server holds no session of the client")
	// ErrMoved: the program wanted another server (Client.Move).
	ErrMoved = errors.New("another server is wanted")
)

// AttemptError is why one address did not take the client.
type AttemptError struct {
	Address string
	Err     error
}

func (e *AttemptError) Error() string { return fmt.Sprintf("connect to %s: %v", e.Address, e.Err) }

// Unwrap returns the cause.
func (e *AttemptError) Unwrap() error { return e.Err }

// Refusal is a server's no, in words of MQTT 5.
type Refusal struct {
	// Packet that carried it: CONNACK, PUBACK, DISCONNECT or datagram.
	Packet string
	// Code is the reason code, 0x80 or more (in a DISCONNECT any but 0x04).
	Code byte
	// Reason is the server's reason string, where it gave one.
	Reason string
}

func (r *Refusal) Error() string {
	if r.Reason == "" {
		return fmt.Sprintf("%s with reason code 0x%02X", r.Packet, r.Code)
	}
	return fmt.Sprintf("%s with reason code 0x%02X: %s", r.Packet, r.Code, r.Reason)
}

// Is makes a refusal of credentials ErrCredentials.
func (r *Refusal) Is(target error) bool {
	if target != ErrCredentials {
		return false
	}
	switch r.Code {
	case packets.ConnackBadUsernameOrPassword, packets.ConnackNotAuthorized, packets.ConnackBanned, packets.ConnackBadAuthenticationMethod:
		return true
	}
	return false
}

// personal tells whether the server refuses the client and is well itself: it does not
// take the credentials or the time of the beats (0x83), or got none that counted (0x8D).
func (r *Refusal) personal() bool {
	switch r.Code {
	case packets.DisconnectImplementationSpecificError, packets.DisconnectKeepAliveTimeout:
		return true
	}
	return r.Is(ErrCredentials)
}

// hopeless tells whether any server would refuse the same.
func (r *Refusal) hopeless() bool {
	switch r.Code {
	case packets.ConnackMalformedPacket, packets.ConnackProtocolError, packets.ConnackUnsupportedProtocolVersion,
		packets.ConnackInvalidClientID, packets.ConnackPacketTooLarge:
		return true
	}
	return r.Is(ErrCredentials)
}

// busy tells whether the server would take the client later.
func (r *Refusal) busy() bool {
	switch r.Code {
	case packets.ConnackServerBusy, packets.ConnackQuotaExceeded, packets.ConnackConnectionRateExceeded:
		return true
	}
	return false
}

// directed tells whether the server sends the client elsewhere.
func (r *Refusal) directed() bool {
	return r.Code == packets.DisconnectUseAnotherServer || r.Code == packets.DisconnectServerMoved
}
