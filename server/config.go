package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// DefaultRevalidateEvery is how soon a right that was taken back ends sessions,
// at the latest: with what a watch of the API takes, well within 60 s.
const DefaultRevalidateEvery = 30 * time.Second

// MinWebSocketPing is how often clients over WebSocket may be pinged at the most.
const MinWebSocketPing = time.Second

// Config is what a heartbeat server needs to know.
type Config struct {
	// Name is the pod's, Namespace its namespace: together they are the
	// server's identity. Incarnation is this life of it, without a slash.
	Name, Namespace, Incarnation string
	// Zone and Node are where it runs; may be empty.
	Zone, Node string
	// Listen is the address for MQTT over TCP, host:port; empty: none. Advertise
	// is where clients reach this very server; empty: the address listened on,
	// TLS's where there is one.
	Listen, Advertise string
	// ListenTLS is the address for MQTT over TLS, host:port; empty: none. TLS is
	// how it is spoken, and goes with it; client certificates that it verifies are
	// credentials. One of Listen and ListenTLS is needed.
	ListenTLS string
	TLS       *tls.Config
	// ListenWebSocket and ListenWebSocketTLS are the addresses for MQTT over
	// WebSocket, host:port, without TLS and with it; empty: none.
	ListenWebSocket, ListenWebSocketTLS string
	// ListenBalanced is a second address for MQTT, host:port, behind a load balancer that
	// speaks the PROXY protocol: over TLS where ListenTLS is given. Empty: none. Its Door
	// has Proxied.
	ListenBalanced string
	// ListenBeats and ListenBeatsTLS are the addresses for beats by HTTP, host:port, without
	// TLS and with it; empty: none. AdvertiseBeats is where clients reach this very server so;
	// empty: the host of Advertise, and the port that is listened on, TLS's where there is one.
	ListenBeats, ListenBeatsTLS, AdvertiseBeats string
	// WebSocketPing is how often clients over WebSocket are pinged, by WebSocket's own
	// ping; one that does not answer until the next is disconnected. Its answers are no beats: a
	// browser gives them by itself, whatever its page does. 0: never; else at least MinWebSocketPing.
	WebSocketPing time.Duration
	// Doors are what listeners ask of connections; one that is not named asks nothing.
	Doors map[Listener]Door
	// ConnectionsPerAddress is how many one address may have at once, over all listeners:
	// the client's where a load balancer says it, and of IPv6 a network of 64 bits; 0: any
	// number. Up to a quarter more are told so when they CONNECT, others are closed.
	// Many clients may share an address (NAT, a Service's nodes).
	ConnectionsPerAddress int
	// MaxConnections is how many there may be in all, those included that have not
	// connected yet; 0: as many as there may be sessions, and 8192 more.
	MaxConnections int
	// SessionsPerPresence is how many one Presence of clients may have on this server; 0: any number.
	SessionsPerPresence int
	// ListenUDP is the address for beats by datagrams, host:port; empty: none. Keys
	// for them are given over TLS only. AdvertiseUDP is where clients reach it at this
	// very server, host:port; empty: the host of Advertise, or else of ListenUDP.
	ListenUDP, AdvertiseUDP string
	// Loops is how many event loops serve plain TCP, on Linux, and how many TLS after its
	// handshake: 0: one for every two processors (of GOMAXPROCS); negative: none, but a
	// goroutine for each connection, as everywhere else.
	Loops int
	// Capacity is how many sessions the server is meant to hold. Beyond 1.25
	// times that, it refuses new ones.
	Capacity int
	// ConnectRate is how many CONNECTs are admitted per second, in the long
	// run; 0: 2000. ConnectBurst is how many at once; 0: as many as in a second.
	// Beyond it clients are given a time to come back.
	ConnectRate  float64
	ConnectBurst int
	// Observes is the Boot of the agent/witness.Witness that runs beside the server;
	// 0: none does.
	Observes int64
	// DrainFor is how long a server that is to end may take to have its clients go
	// elsewhere first; 0: they are told all at once. DrainRate is how many of them a
	// second; 0: 500; more where they would not all be told in time.
	DrainFor  time.Duration
	DrainRate float64
	// Store, Presences and Authenticator are needed. Authenticate may take its
	// time: the connection waits, and nobody else.
	Store         *store.Store
	Presences     Presences
	Authenticator Authenticator
	// RevalidateEvery is how often an Authenticator that is a Revalidator is
	// asked about those who are here; 0: DefaultRevalidateEvery.
	RevalidateEvery time.Duration
	// Faults, in demonstrations and tests, make the server slow; nil: never.
	Faults *Faults
	// Logger is needed; Registerer may be nil.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c *Config) validate() error {
	for _, f := range []struct{ name, value string }{
		{"Name", c.Name}, {"Namespace", c.Namespace}, {"Incarnation", c.Incarnation},
	} {
		if f.value == "" {
			return fmt.Errorf("server: %s is needed", f.name)
		}
		if strings.Contains(f.value, "/") {
			return fmt.Errorf("server: %s %q has a slash", f.name, f.value)
		}
	}
	for name, address := range map[string]string{"Advertise": c.Advertise, "AdvertiseBeats": c.AdvertiseBeats} {
		if _, _, err := net.SplitHostPort(address); address != "" && err != nil {
			return fmt.Errorf("server: %s %q is not host:port", name, address)
		}
	}
	if c.AdvertiseUDP != "" {
		if _, _, err := net.SplitHostPort(c.AdvertiseUDP); err != nil {
			return fmt.Errorf("server: AdvertiseUDP %q is not host:port", c.AdvertiseUDP)
		}
	}
	switch {
	case c.Listen == "" && c.ListenTLS == "":
		return errors.New("server: Listen or ListenTLS is needed")
	case (c.ListenTLS == "" && c.ListenWebSocketTLS == "" && c.ListenBeatsTLS == "") != (c.TLS == nil):
		return errors.New("server: TLS goes with ListenTLS, ListenWebSocketTLS or ListenBeatsTLS")
	case c.ListenBalanced != "" && len(c.Doors[ListenerBalanced].Proxied) == 0:
		return errors.New("server: ListenBalanced needs the load balancer's networks, Doors[balanced-listen].Proxied")
	case c.ConnectionsPerAddress < 0, c.MaxConnections < 0, c.SessionsPerPresence < 0:
		return errors.New("server: ConnectionsPerAddress, MaxConnections or SessionsPerPresence is negative")
	case c.WebSocketPing < 0, c.WebSocketPing > 0 && c.WebSocketPing < MinWebSocketPing:
		return fmt.Errorf("server: WebSocketPing %v is not at least %v, or 0", c.WebSocketPing, MinWebSocketPing)
	case c.ListenUDP != "" && c.TLS == nil:
		return errors.New("server: ListenUDP needs ListenTLS or ListenWebSocketTLS: over those alone clients are given keys for it")
	case c.ListenUDP == "" && c.AdvertiseUDP != "":
		return errors.New("server: AdvertiseUDP goes with ListenUDP")
	case c.RevalidateEvery < 0:
		return fmt.Errorf("server: RevalidateEvery %v is negative", c.RevalidateEvery)
	case c.Capacity < 1:
		return fmt.Errorf("server: Capacity %d is not positive", c.Capacity)
	case c.ConnectRate < 0, c.ConnectBurst < 0:
		return errors.New("server: ConnectRate or ConnectBurst is negative")
	case c.DrainFor < 0, c.DrainRate < 0:
		return errors.New("server: DrainFor or DrainRate is negative")
	case c.Store == nil, c.Presences == nil, c.Authenticator == nil, c.Logger == nil:
		return errors.New("server: Store, Presences, Authenticator and Logger are needed")
	}
	for name, d := range c.Doors {
		if c.address(name) == "" {
			return fmt.Errorf("server: Doors names %q, on which nothing listens", name)
		}
		if err := d.validate(name); err != nil {
			return err
		}
	}
	c.MaxConnections = cmp.Or(c.MaxConnections, c.Capacity+c.Capacity/4+maxStrangers)
	c.RevalidateEvery = cmp.Or(c.RevalidateEvery, DefaultRevalidateEvery)
	c.ConnectRate = cmp.Or(c.ConnectRate, 2000)
	c.DrainRate = cmp.Or(c.DrainRate, 500)
	c.ConnectBurst = cmp.Or(c.ConnectBurst, int(max(c.ConnectRate, 1)))
	return nil
}

// address is where a listener listens; empty: nowhere.
func (c *Config) address(name Listener) string {
	switch name {
	case ListenerPlain:
		return c.Listen
	case ListenerTLS:
		return c.ListenTLS
	case ListenerBalanced:
		return c.ListenBalanced
	case ListenerWebSocket:
		return c.ListenWebSocket
	case ListenerWebSocketTLS:
		return c.ListenWebSocketTLS
	case ListenerBeats:
		return c.ListenBeats
	case ListenerBeatsTLS:
		return c.ListenBeatsTLS
	}
	return ""
}

// Kind is what a Presence's members are.
type Kind string

// The kinds of Presences.
const (
	Nodes   Kind = "Nodes"
	Servers Kind = "Servers"
	Clients Kind = "Clients"
)

// Presence is what a server needs to know of a Presence object.
type Presence struct {
	Kind Kind
	// MinInterval and MaxInterval bound how often clients beat.
	MinInterval, MaxInterval time.Duration
	// Overrides are other bounds, by where clients are; nil: there are none. Those
	// of one Presence should be the same while nothing in them changes.
	Overrides *Overrides
	// MaxSkew is how far the clocks of clients that must sign their beats may be
	// from ours; 0: they need not sign.
	MaxSkew time.Duration
	// network is the kind that a client has declared, of those that are told apart.
	network string
	// Grace is added to every lease.
	Grace time.Duration
	// MissesUntilLate is how many intervals may pass without a beat before a
	// session counts as late; MissesUntilOffline how many times 1.5 intervals
	// before it ends. 0: 1.
	MissesUntilLate, MissesUntilOffline int
	// Foreign: it belongs to another installation, and its clients are not let in
	// here. Installation is which; empty: the cluster's default.
	Foreign      bool
	Installation string
}

// Presences knows the Presence objects. One that also has Synced() bool is
// asked whether it knows them all yet; until then nobody is refused for good.
type Presences interface {
	Lookup(namespace, name string) (Presence, bool)
}

// Credentials are what a client has shown.
type Credentials struct {
	Namespace, Presence, ClientID string
	// Kind is that of the Presence.
	Kind       Kind
	Password   []byte
	RemoteAddr string
	// Certificate is the client's, verified; nil: it has shown none.
	Certificate *x509.Certificate
}

// Rights are what a principal may do.
type Rights uint8

// The rights of a principal.
const (
	// Connect: hold a session.
	Connect Rights = 1 << iota
	// Report: publish reports, and hold probes. Agents have it.
	Report
	// Watch: subscribe to who is here.
	Watch
	// Impersonate: hold sessions of clients that the credential does not name.
	// An Authenticator gives it where the session depends on it.
	Impersonate
)

// AllRights are all that there are.
const AllRights = Connect | Report | Watch | Impersonate

// Has tells whether all of the rights are among these.
func (r Rights) Has(rights Rights) bool { return r&rights == rights }

// Principal is who has shown credentials. A session belongs to the principal
// that began it.
type Principal struct {
	Name   string
	Rights Rights
}

// ErrCredentials: the credentials are not anybody's. Any other error of an
// Authenticator means that it can't tell now.
var ErrCredentials = errors.New("bad credentials")

// Authenticator tells who a client is.
type Authenticator interface {
	Authenticate(ctx context.Context, c Credentials) (Principal, error)
}

// Watchers is an Authenticator that knows who may watch a Presence other than
// the one that they were let in to. Without it nobody may. It must not wait.
type Watchers interface {
	MayWatch(namespace, presence, principal string) bool
}

// Revalidator is an Authenticator whose principals may lose rights. It is asked
// every Config.RevalidateEvery, once for each principal of each Presence, and
// must not wait.
type Revalidator interface {
	// Revalidate tells what a principal may do now. A session that was given more
	// rights than that ends.
	Revalidate(namespace, presence, principal string) Rights
}
