package server_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/packets"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/server"
)

// heading is a PROXY protocol header, as a load balancer sends it for a client.
func heading(client string) []byte {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x13")
	a := netip.MustParseAddrPort(client)
	b = append(b, a.Addr().AsSlice()...)
	b = append(b, 10, 0, 0, 1, byte(a.Port()>>8), byte(a.Port()), 0x22, 0xb3)
	return append(b, 1, 0, 4, 'm', 'q', 't', 't')
}

var local = []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// addressed lets everybody in, and remembers from where.
type addressed struct {
	mu  sync.Mutex
	all map[string]string // by client
}

func (a *addressed) Authenticate(_ context.Context, c server.Credentials) (server.Principal, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[string]string{}
	}
	a.all[c.ClientID] = c.RemoteAddr
	return server.Principal{Name: "anyone", Rights: server.Connect}, nil
}

func (a *addressed) of(client string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all[client]
}

// way is how a client's bytes reach a listener: it makes of a plain connection one
// that carries MQTT.
type way struct {
	name string
	at   net.Addr
	over func(t *testing.T, conn net.Conn) (net.Conn, error)
}

// behind are a server's listeners, all behind a load balancer.
func behind(t *testing.T, who server.Authenticator, loops int) (*running, []way) {
	t.Helper()
	files := newPKI(t)
	doors := map[server.Listener]server.Door{}
	for _, l := range []server.Listener{
		server.ListenerPlain, server.ListenerTLS, server.ListenerBalanced, server.ListenerWebSocket, server.ListenerWebSocketTLS,
	} {
		doors[l] = server.Door{Proxied: loopback}
	}
	a := start(t, storetest.Etcd(t), "a", func(c *server.Config) {
		const any = "127.0.0.1:0"
		c.Authenticator, c.TLS, c.Doors, c.Loops = who, files.server.Server(false), doors, loops
		c.ListenTLS, c.ListenBalanced, c.ListenWebSocket, c.ListenWebSocketTLS = any, any, any, any
	})
	plain := func(_ *testing.T, c net.Conn) (net.Conn, error) { return c, nil }
	secure := func(t *testing.T, c net.Conn) (net.Conn, error) {
		s := tls.Client(c, files.client.Client("rollcall"))
		return s, s.HandshakeContext(t.Context())
	}
	web := func(over func(*testing.T, net.Conn) (net.Conn, error)) func(*testing.T, net.Conn) (net.Conn, error) {
		return func(t *testing.T, c net.Conn) (net.Conn, error) {
			c, err := over(t, c)
			if err != nil {
				return c, err
			}
			client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			ws, _, err := websocket.Dial(ctx, "ws://rollcall/mqtt", //nolint:bodyclose // there is none after an upgrade
				&websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"mqtt"}})
			if err != nil {
				return c, err
			}
			return websocket.NetConn(t.Context(), ws, websocket.MessageBinary), nil
		}
	}
	return a, []way{
		{"plain", a.AddrOf(server.ListenerPlain), plain},
		{"tls", a.AddrOf(server.ListenerTLS), secure},
		{"balanced", a.AddrOf(server.ListenerBalanced), secure},
		{"websocket", a.AddrOf(server.ListenerWebSocket), web(plain)},
		{"websocket-tls", a.AddrOf(server.ListenerWebSocketTLS), web(secure)},
	}
}

// come connects a client whose connection begins with these bytes, one by one, and is the
// reason code of the CONNACK; false: there was none.
func (w way) come(t *testing.T, client string, beginning []byte) (net.Conn, byte, bool) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", w.at.String(), patience)
	if err != nil { // reset before it was told that it is connected
		return nil, 0, false
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	for i := range beginning {
		if _, err := conn.Write(beginning[i : i+1]); err != nil {
			return conn, 0, false
		}
	}
	over, err := w.over(t, conn)
	if err != nil {
		return conn, 0, false
	}
	if _, err := over.Write(connect5bytes(client, "im/phone", "", 5)); err != nil {
		return conn, 0, false
	}
	p, err := packets.ReadPacket(over)
	if err != nil {
		return conn, 0, false
	}
	ack, ok := p.Content.(*packets.Connack)
	if !ok {
		t.Fatalf("%s: answered with %v", client, p)
	}
	return conn, ack.ReasonCode, true
}

func TestTheClientsAddressComesThroughALoadBalancer(t *testing.T) {
	for name, loops := range map[string]int{"event loops": 0, "the standard library": -1} {
		t.Run(name, func(t *testing.T) {
			who := &addressed{}
			a, ways := behind(t, who, loops)
			for _, w := range ways {
				client := w.name + "-c"
				if _, code, ok := w.come(t, client, heading("203.0.113.7:54321")); !ok || code != 0 || who.of(client) != "203.0.113.7:54321" {
					t.Errorf("%s: answered %v with %#x, and it is from %q", w.name, ok, code, who.of(client))
				}
				client = w.name + "-health"
				conn, code, ok := w.come(t, client, local)
				if !ok {
					t.Errorf("%s: the load balancer's own was not answered", w.name)
				} else if code != 0 || who.of(client) != conn.LocalAddr().String() {
					t.Errorf("%s: the load balancer's own: answered with %#x, and it is from %q", w.name, code, who.of(client))
				}
				before := a.refused("proxy")
				for what, beginning := range map[string][]byte{
					"no header": nil, "version 1": []byte("PROXY TCP4 203.0.113.7 10.0.0.1 54321 8883\r\n"),
					"a header that is none": append(heading("203.0.113.7:1")[:12], 0x31),
				} {
					if _, code, ok := w.come(t, w.name+"-stranger", beginning); ok {
						t.Errorf("%s: %s was answered with %#x", w.name, what, code)
					}
				}
				eventually(t, w.name+": three are counted", func() bool { return a.refused("proxy") == before+3 })
			}
			if got := who.of("plain-stranger"); got != "" {
				t.Errorf("a stranger came to the authenticator, from %s", got)
			}
		})
	}
}

func TestHeadersAreTakenFromLoadBalancersAlone(t *testing.T) {
	for name, loops := range map[string]int{"event loops": 0, "the standard library": -1} {
		t.Run(name, func(t *testing.T) {
			a := start(t, storetest.Etcd(t), "a", onWeb, func(c *server.Config) {
				elsewhere := server.Door{Proxied: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
				c.Loops, c.Doors = loops, map[server.Listener]server.Door{server.ListenerPlain: elsewhere, server.ListenerWebSocket: elsewhere}
			})
			for i, l := range []server.Listener{server.ListenerPlain, server.ListenerWebSocket} {
				w := way{at: a.AddrOf(l), over: func(_ *testing.T, c net.Conn) (net.Conn, error) { return c, nil }}
				if _, code, ok := w.come(t, "c", heading("203.0.113.7:1")); ok {
					t.Errorf("%s: answered with %#x", l, code)
				}
				eventually(t, "it is counted", func() bool { return a.refused("untrusted") == float64(i+1) })
			}
		})
	}
}

func TestAHeaderThatDoesNotComeIsNotWaitedForLongerThanACONNECT(t *testing.T) {
	a, ways := behind(t, &addressed{}, loops())
	r := dial(t, ways[0].at.String())
	r.send(heading("203.0.113.7:1")[:20])
	r.rest()
	if a.refused("timeout") != 1 {
		t.Errorf("%v were counted", a.refused("timeout"))
	}
}

// Of two addresses behind one load balancer each has its own connections.
func TestConnectionsOfOneAddressAreLimited(t *testing.T) {
	for name, loops := range map[string]int{"event loops": 0, "the standard library": -1} {
		t.Run(name, func(t *testing.T) {
			a := start(t, storetest.Etcd(t), "a", func(c *server.Config) {
				c.Authenticator, c.Loops, c.ConnectionsPerAddress = &addressed{}, loops, 2
				c.Doors = map[server.Listener]server.Door{server.ListenerPlain: {Proxied: loopback}}
			})
			w := way{at: a.Addr(), over: func(_ *testing.T, c net.Conn) (net.Conn, error) { return c, nil }}
			var held []net.Conn
			for i, want := range []struct {
				code byte
				ok   bool
			}{{0, true}, {0, true}, {0x97, true}} {
				conn, code, ok := w.come(t, string(rune('a'+i)), heading("203.0.113.7:1"))
				if code != want.code || ok != want.ok {
					t.Fatalf("connection %d: answered %v with %#x", i+1, ok, code)
				}
				held = append(held, conn)
			}
			if _, code, ok := w.come(t, "other", heading("203.0.113.8:1")); !ok || code != 0 {
				t.Errorf("another address: answered %v with %#x", ok, code)
			}
			if a.refused("address") != 1 {
				t.Errorf("%v were counted", a.refused("address"))
			}
			for _, c := range held {
				c.Close()
			}
			eventually(t, "who has gone counts no more", func() bool { return a.metric("rollcall_server_connections", "", "") == 1 })
			eventually(t, "who has gone is forgotten", func() bool { return a.metric("rollcall_server_addresses", "", "") == 1 })
			if _, code, ok := w.come(t, "again", heading("203.0.113.7:1")); !ok || code != 0 {
				t.Errorf("after they have gone: answered %v with %#x", ok, code)
			}
		})
	}
}

func TestConnectionsFarBeyondALimitAreClosedUnread(t *testing.T) {
	for name, loops := range map[string]int{"event loops": 0, "the standard library": -1} {
		for limit, change := range map[string]func(*server.Config){
			"address": func(c *server.Config) { c.ConnectionsPerAddress = 4 },
			"listener": func(c *server.Config) {
				c.Doors = map[server.Listener]server.Door{server.ListenerPlain: {Connections: 4}}
			},
			"connections": func(c *server.Config) { c.MaxConnections = 6 },
		} {
			t.Run(name+"/"+limit, func(t *testing.T) {
				a := start(t, storetest.Etcd(t), "a", change, func(c *server.Config) { c.Loops = loops })
				for range 6 {
					dial(t, a.addr())
				}
				eventually(t, "they are here", func() bool { return a.metric("rollcall_server_connections", "", "") == 6 })
				seventh, err := net.DialTimeout("tcp", a.addr(), patience)
				if err == nil { // else it was reset at once
					defer seventh.Close()
					seventh.SetDeadline(time.Now().Add(patience))
					if n, err := seventh.Read(make([]byte, 1)); err == nil {
						t.Errorf("it was sent %d bytes", n)
					}
				}
				eventually(t, "it is counted", func() bool { return a.refused(limit) == 1 })
			})
		}
	}
}

func TestDoorsThatCannotBeAreRefused(t *testing.T) {
	st := open(t, storetest.Etcd(t))
	for name, change := range map[string]func(*server.Config){
		"a listener that there is not": func(c *server.Config) {
			c.Doors = map[server.Listener]server.Door{server.ListenerTLS: {Connections: 1}}
		},
		"a network that is none": func(c *server.Config) {
			c.Doors = map[server.Listener]server.Door{server.ListenerPlain: {Proxied: []netip.Prefix{{}}}}
		},
		"a load balancer from nowhere": func(c *server.Config) { c.ListenBalanced = "127.0.0.1:0" },
		"fewer than none":              func(c *server.Config) { c.ConnectionsPerAddress = -1 },
	} {
		c := server.Config{
			Name: "a", Namespace: "im", Incarnation: "1", Listen: "127.0.0.1:0", Capacity: 1, Store: st, Presences: known, Authenticator: clients{}, Logger: logger(t),
		}
		change(&c)
		if s, err := server.New(c); err == nil {
			s.Close()
			t.Errorf("%s is taken", name)
		}
	}
}
