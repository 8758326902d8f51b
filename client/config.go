package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/client/adaptive"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Defaults of Config.
const (
	DefaultInterval   = 10 * time.Second
	DefaultJitter     = 0.1
	DefaultAckTimeout = 2 * time.Second
	// DefaultMinAckTimeout is RFC 6298's least retransmission timeout (section 2.4).
	DefaultMinAckTimeout = time.Second
	DefaultMisses        = 2
	DefaultAvoidFor      = 30 * time.Second
	DefaultMinBackoff    = 50 * time.Millisecond
	DefaultMaxBackoff    = 5 * time.Second
)

// MaxResend is the longest Config.Resend.
const MaxResend = time.Minute

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
	// renewed one is used. It must return when its context ends, and may be
	// called concurrently.
	Token func(context.Context) (string, error)
	// Password is a credential that never changes. At most one of Token and
	// Password; none of both: anonymous.
	Password string

	// Interval is the time between two beats, in the background too where
	// BackgroundInterval is zero. Zero: DefaultInterval. A server may impose
	// another one. The lease that the server keeps follows from it: 1.5 ×
	// Interval, rounded up to seconds, + its grace.
	Interval time.Duration
	// BackgroundInterval replaces Interval between Client.Background and
	// Client.Foreground. Zero: Interval.
	BackgroundInterval time.Duration
	// Jitter is the share of the interval by which each beat is earlier, at
	// most, at random: never later, so that the lease fits. The first beat after
	// the one that follows a connection comes anywhere in the interval, so that
	// clients that came together don't stay together. Zero: DefaultJitter, or
	// none with a Heartbeat; negative: none; below 1.
	Jitter float64
	// Heartbeat chooses the interval instead, for clients behind NATs and on
	// batteries: adaptive.NewBisect or adaptive.NewMars. Nil: the intervals above.
	Heartbeat adaptive.Strategy
	// HeartbeatState is what an earlier process's Client.Heartbeat returned, so
	// that nothing has to be learned twice. Zero: a beginning.
	HeartbeatState adaptive.State
	// Network names the network that the client begins on, for Heartbeat; later
	// ones come with Client.NetworkChanged. Empty: unknown, nothing is learned.
	Network string

	// Place is where the client begins, as far as the bounds of the interval depend
	// on it; later ones come with Client.SetPlace. A client that declares a network
	// also reports which intervals its connections survived there, once in 64 beats or
	// after a loss. Empty: nothing is declared.
	Place Place

	// AckTimeout is how long a beat may stay unanswered, at most. Once answers
	// have come the timeout follows them, as TCP's does (RFC 6298), between
	// MinAckTimeout and this. A phone wants 8 s, as Mars has. Zero:
	// DefaultAckTimeout.
	AckTimeout time.Duration
	// MinAckTimeout is how long a beat may stay unanswered, at least; with
	// AckTimeout the timeout is fixed. Zero: DefaultMinAckTimeout, or AckTimeout
	// where that is less.
	MinAckTimeout time.Duration
	// Misses is the number of late answers in a row at which the server is
	// left. After each miss but the last another beat is sent at once, so that
	// a hung server is left Misses × AckTimeout after the beat. With a Heartbeat
	// they count only where the kernel there has acknowledged the beats: otherwise
	// a NAT may have forgotten the connection, and the strategy decides. Zero:
	// DefaultMisses.
	Misses int
	// AvoidFor is how long a server that was left is avoided, by its address and
	// by its name, so that it works behind the address of a Service too, unless
	// nothing else is left or another server directs the client there. Zero:
	// DefaultAvoidFor.
	AvoidFor time.Duration
	// MinBackoff and MaxBackoff bound the wait between two rounds through all
	// servers: uniform in [0, MinBackoff × 2^round), never above MaxBackoff.
	// Zero: DefaultMinBackoff, DefaultMaxBackoff.
	MinBackoff, MaxBackoff time.Duration

	// Attributes are told to each server that takes the client, and kept with its
	// session's record: at most 16, of 1 KiB together. See Client.SetAttributes.
	Attributes map[string]string
	// Will is published on the client's presence topic when it goes offline
	// without having left on purpose; never on a move. At most 256
	// bytes. Nil: none.
	Will []byte
	// Resend makes Publish stronger: what a server acknowledged less than this
	// before its connection was lost is sent again to the next one, because a
	// server that fails may not have passed on what it took. At most MaxResend,
	// and 64 publications of 64 KiB together. Receivers see doubles. Zero: only what was
	// not acknowledged is sent again.
	Resend time.Duration

	// Exclude tells addresses that are never used, whoever named them. It must
	// not block. Nil: none.
	Exclude func(address string) bool
	// OnEvent is told of each change, in order, never concurrently. It may
	// block without delaying beats, and may use the client, except for Close,
	// which waits for it. Nil: nobody.
	OnEvent func(Event)
	// Dialer opens connections. Nil: a net.Dialer. It must return when its
	// context ends, and may be called concurrently. Where it returns a
	// *net.TCPConn, or something with a NetConn method that leads to one, the
	// kernel's keepalive and user timeout are set to fit the heartbeat.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS makes the client speak TLS, over what Dialer opened. Without a
	// ServerName, a server must be the one of its address. Nil: plain TCP.
	TLS *tls.Config
	// UDP has the client beat by datagrams where the server takes them, and close its
	// connection: a session without one costs both ends less. It needs TLS, over which
	// the server gives the key. Where datagrams get no answer the client stays on its
	// connection; a publication, or a Watch, has it connect anew for that. Dialer is
	// then asked for the network "udp" too.
	UDP bool
	// Logger. Nil: silent.
	Logger *slog.Logger
	// Registerer gets the client's metrics; clients with the same one share
	// them. Nil: none.
	Registerer prometheus.Registerer
	// Clock tells the time and wakes the client; the deadlines of connections
	// and of attempts are the system's. Nil: the system's.
	Clock Clock
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
	orDuration(&c.BackgroundInterval, c.Interval)
	orDuration(&c.AckTimeout, DefaultAckTimeout)
	orDuration(&c.MinAckTimeout, min(DefaultMinAckTimeout, c.AckTimeout))
	orDuration(&c.AvoidFor, DefaultAvoidFor)
	orDuration(&c.MinBackoff, DefaultMinBackoff)
	orDuration(&c.MaxBackoff, max(DefaultMaxBackoff, c.MinBackoff))
	switch {
	case c.Jitter == 0 && c.Heartbeat == nil:
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
	if c.Clock == nil {
		c.Clock = systemClock{}
	}
	c.Attributes = maps.Clone(c.Attributes)
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
	interval := func(field string, d time.Duration) {
		if d <= 0 || d.Seconds() > math.MaxUint16 {
			fault(field, "%v is not between 0 and %d s", d, math.MaxUint16)
		}
	}
	interval("Interval", c.Interval)
	interval("BackgroundInterval", c.BackgroundInterval)
	if !(c.Jitter < 1) {
		fault("Jitter", "%v is not below 1", c.Jitter)
	}
	if err := checkState(c.Heartbeat, c.HeartbeatState); err != nil {
		fault("HeartbeatState", "%w", err)
	}
	if len(c.Network) > adaptive.MaxNetworkName {
		fault("Network", "longer than %d bytes", adaptive.MaxNetworkName)
	}
	if err := c.Place.check(); err != nil {
		fault("Place", "%w", err)
	}
	if c.AckTimeout < 0 {
		fault("AckTimeout", "%v is negative", c.AckTimeout)
	}
	if c.MinAckTimeout < 0 || c.AckTimeout >= 0 && c.MinAckTimeout > c.AckTimeout {
		fault("MinAckTimeout", "%v is not between 0 and AckTimeout, %v", c.MinAckTimeout, c.AckTimeout)
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
	if c.UDP && c.TLS == nil {
		fault("UDP", "needs TLS, over which alone a server gives keys")
	}
	if err := wire.CheckAttributes(c.Attributes); err != nil {
		fault("Attributes", "%w", err)
	}
	if len(c.Will) > wire.MaxWill {
		fault("Will", "longer than %d bytes", wire.MaxWill)
	}
	if c.Resend < 0 || c.Resend > MaxResend {
		fault("Resend", "%v is not between 0 and %v", c.Resend, MaxResend)
	}
	return errors.Join(faults...)
}

// checkState tells what keeps s from being a state that a program has stored.
func checkState(strategy adaptive.Strategy, s adaptive.State) error {
	if s.Strategy == "" {
		return nil
	}
	if strategy == nil {
		return errors.New("given without a Heartbeat")
	}
	data, err := json.Marshal(s)
	if err == nil {
		_, err = adaptive.Decode(data)
	}
	return err
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
