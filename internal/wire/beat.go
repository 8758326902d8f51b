package wire

import (
	"fmt"
	"regexp"
)

// TopicKeepAlive changes the interval during a session: EMQX's convention. The
// payload is a decimal number of seconds.
const TopicKeepAlive = "$SETOPTS/mqtt/keepalive"

// What a beat may say of its client, in names and in bytes of names and values.
const (
	MaxAttributes     = 16
	MaxAttributeBytes = 1 << 10
)

// CheckAttributes tells what keeps attributes from being taken by a server.
func CheckAttributes(attributes map[string]string) error {
	size := 0
	for name, value := range attributes {
		size += len(name) + len(value)
	}
	if len(attributes) > MaxAttributes || size > MaxAttributeBytes {
		return fmt.Errorf("%d attributes of %d bytes, where %d of %d bytes together are allowed", len(attributes), size, MaxAttributes, MaxAttributeBytes)
	}
	return nil
}

// User properties (MQTT 5) of clients that sign their beats.
const (
	// PropBeatKey, in CONNACK: only beats count that are signed with this key of
	// BeatKeySize bytes (base64url, unpadded). It is this connection's alone.
	PropBeatKey = "rollcall-beat-key"
	// PropSigned, in a PUBLISH on TopicBeat or TopicKeepAlive: the time by the
	// client's clock, a space, and the HMAC-SHA256 under that key (base64url,
	// unpadded) of AppendSigned's text and the payload.
	PropSigned = "rollcall-signed"
)

// BeatKeySize is the length of a key, in bytes.
const BeatKeySize = 32

// AppendSigned appends what is signed before the payload: the topic, the time (Unix
// milliseconds, in decimal) and a line feed after each.
func AppendSigned(b []byte, topic, unixMilli string) []byte {
	b = append(append(b, topic...), '\n')
	return append(append(b, unixMilli...), '\n')
}

// User properties (MQTT 5) in CONNECT that say where a client is, as the fields
// of the same names say in a beat: the kind of its network and its region.
const (
	PropNetwork = "rollcall-network"
	PropRegion  = "rollcall-region"
)

// Kinds of networks; others are words of somebody's own.
const (
	NetworkCell  = "cell"
	NetworkWiFi  = "wifi"
	NetworkWired = "wired"
)

var place = regexp.MustCompile(`^[A-Za-z0-9._-]{0,32}$`)

// ValidPlace tells whether a network or region can be declared; empty: none is.
func ValidPlace(s string) bool { return place.MatchString(s) }

// Outcomes is how often a client's connection survived a silence of about a
// length, and how often it was lost after one.
type Outcomes struct {
	// Interval is that length, in milliseconds.
	Interval int64 `json:"interval"`
	Answered int   `json:"answered,omitempty"`
	Lost     int   `json:"lost,omitempty"`
}

// What a beat may report: so many Outcomes, of so many silences together, so
// that no client outweighs the others.
const (
	MaxOutcomes = 32
	MaxReported = 256
)

// CheckOutcomes tells what keeps outcomes from being taken by a server.
func CheckOutcomes(all []Outcomes) error {
	if len(all) > MaxOutcomes {
		return fmt.Errorf("%d outcomes, where %d are allowed", len(all), MaxOutcomes)
	}
	sum := 0
	for _, o := range all {
		if o.Interval <= 0 || o.Answered < 0 || o.Lost < 0 || o.Answered > MaxReported || o.Lost > MaxReported {
			return fmt.Errorf("outcomes of %d ms, %d answered and %d lost, where an interval and counts up to %d are meant", o.Interval, o.Answered, o.Lost, MaxReported)
		}
		sum += o.Answered + o.Lost
	}
	if sum > MaxReported {
		return fmt.Errorf("%d silences in one report, where %d are allowed", sum, MaxReported)
	}
	return nil
}
