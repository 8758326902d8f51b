package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Defaults of Config.
const (
	DefaultInterval   = 10 * time.Second
	DefaultJitter     = 0.1
	DefaultAckTimeout = 2 * time.Second
	DefaultMisses     = 2
	DefaultAvoidFor   = 30 * time.Second
	DefaultMinBackoff = 50 * time.Millisecond
	DefaultMaxBackoff = 5 * time.Second
)

// Config is what a Client is made of. Servers, Presence and ClientID are required.
type Config struct {
	// Servers are the addresses (host:port) to begin with, and the last resort
	// when the servers that a server named are all unreachable.
	Servers []string
	// Presence is the "namespace/name" of the Presence to be a member of.
	Presence string
	// ClientID is the member's name: 1 to 128 of A-Z a-z 0-9 . _ : -
	ClientID string

	// Token is asked for a credential at each attempt to connect, so that a
	// renewed one is used. It must return when its context ends.
	Token func(context.Context) (string, error)
	// Password is a credential that never changes. At most one of Token and
	// Password; none of both: anonymous.
	Password string

	// Interval is the time between two beats. Zero: DefaultInterval. A server
	// may impose another one. The lease that the server keeps follows from it:
	// 1.5 × (Interval × (1 + Jitter), rounded up to seconds) + its grace.
	Interval time.Duration
	// Jitter is the share of Interval by which each beat is moved, either way,
	// at random. Zero: DefaultJitter; negative: none; below 1.
	Jitter float64
	// AckTimeout is how long a beat may stay unanswered. Zero: DefaultAckTimeout.
	AckTimeout time.Duration
	// Misses is the number of late answers in a row at which the server is
	// left. After each miss but the last another beat is sent at once, so that
	// a hung server is left Misses × AckTimeout after the beat. Zero: DefaultMisses.
	Misses int
	// AvoidFor is how long a server that was left is avoided, unless nothing
	// else is left or another server directs the client there. Zero: DefaultAvoidFor.
	AvoidFor time.Duration
	// MinBackoff and MaxBackoff bound the wait between two rounds through all
	// servers: uniform in [0, MinBackoff × 2^round), never above MaxBackoff.
	// Zero: DefaultMinBackoff, DefaultMaxBackoff.
	MinBackoff, MaxBackoff time.Duration

	// Exclude tells addresses that are never used, whoever named them. It must
	// not block. Nil: none.
	Exclude func(address string) bool
	// OnEvent is told of each change, in order, never concurrently. It may
	// block without delaying beats, and may use the client, except for Close,
	// which waits for it. Nil: nobody.
	OnEvent func(Event)
	// Dialer opens connections. Nil: a net.Dialer. It must return when its
	// context ends.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS makes the client speak TLS, over what Dialer opened. Without a
	// ServerName, a server must be the one of its address. Nil: plain TCP.
	TLS *tls.Config
	// Logger. Nil: silent.
	Logger *slog.Logger
}

// Validate returns every fault of a Config in one error, each naming its field.
// New and Dial do it too.
func (c Config) Validate() error { return c.settle().validate() }

// settle fills in the defaults.
func (c Config) settle() Config {
	orDuration := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	orDuration(&c.Interval, DefaultInterval)
	orDuration(&c.AckTimeout, DefaultAckTimeout)
	orDuration(&c.AvoidFor, DefaultAvoidFor)
	orDuration(&c.MinBackoff, DefaultMinBackoff)
	orDuration(&c.MaxBackoff, max(DefaultMaxBackoff, c.MinBackoff))
	switch {
	case c.Jitter == 0:
		c.Jitter = DefaultJitter
	case c.Jitter < 0:
		c.Jitter = 0
	}
	if c.Misses == 0 {
		c.Misses = DefaultMisses
	}
	if c.Dialer == nil {
		c.Dialer = (&net.Dialer{}).DialContext
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate returns every fault of a settled Config, each naming its field.
func (c Config) validate() error {
	var faults []error
	fault := func(field, format string, args ...any) {
		faults = append(faults, fmt.Errorf(field+": "+format, args...))
	}
	if len(c.Servers) == 0 {
		fault("Servers", "none given")
	}
	for _, a := range c.Servers {
		if err := checkAddress(a); err != nil {
			fault("Servers", "%w", err)
		}
	}
	if _, _, err := wire.ParseUserName(c.Presence); err != nil {
		fault("Presence", "%q is not namespace/name", c.Presence)
	}
	if !wire.ValidClientID(c.ClientID) {
		fault("ClientID", "%q is not 1 to %d of A-Z a-z 0-9 . _ : -", c.ClientID, wire.MaxClientID)
	}
	if c.Token != nil && c.Password != "" {
		fault("Token", "given together with Password")
	}
	if c.Interval < 0 || c.Interval.Seconds()*(1+c.Jitter) > math.MaxUint16 {
		fault("Interval", "%v is not between 0 and %d s, jitter included", c.Interval, math.MaxUint16)
	}
	if !(c.Jitter < 1) {
		fault("Jitter", "%v is not below 1", c.Jitter)
	}
	if c.AckTimeout < 0 {
		fault("AckTimeout", "%v is negative", c.AckTimeout)
	}
	if c.Misses < 0 {
		fault("Misses", "%d is negative", c.Misses)
	}
	if c.AvoidFor < 0 {
		fault("AvoidFor", "%v is negative", c.AvoidFor)
	}
	if c.MinBackoff < 0 {
		fault("MinBackoff", "%v is negative", c.MinBackoff)
	}
	if c.MaxBackoff < c.MinBackoff {
		fault("MaxBackoff", "%v is less than MinBackoff, %v", c.MaxBackoff, c.MinBackoff)
	}
	return errors.Join(faults...)
}

// checkAddress tells what keeps s from being an address to dial.
func checkAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return fmt.Errorf("%q is not host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q: the port is not between 1 and 65535", s)
	}
	return nil
}

// keepAlive is the interval to declare, in seconds: no beat is further from
// the one before.
func (c Config) keepAlive() uint16 {
	longest := c.Interval.Seconds() * (1 + c.Jitter)
	return uint16(min(max(math.Ceil(longest-1e-6), 1), math.MaxUint16))
}
