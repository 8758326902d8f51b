package server_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/rollcall-dev/rollcall/internal/certificate"
	"github.com/rollcall-dev/rollcall/internal/certificate/certificatetest"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/server"
)

// doorman knows clients by their certificates and passwords, and what they may
// do now.
type doorman struct {
	clients
	refused atomic.Pointer[string] // a principal
	asked   atomic.Int64
}

func (d *doorman) Authenticate(ctx context.Context, c server.Credentials) (server.Principal, error) {
	if c.Certificate != nil && len(c.Password) == 0 {
		return server.Principal{Name: c.Certificate.Subject.CommonName, Rights: server.Connect}, nil
	}
	return d.clients.Authenticate(ctx, c)
}

func (d *doorman) Revalidate(_, _, principal string) server.Rights {
	d.asked.Add(1)
	if r := d.refused.Load(); r != nil && *r == principal {
		return 0
	}
	return server.AllRights
}

// pki are the files of a server and a client.
type pki struct {
	authority        *certificatetest.Authority
	cert, key, ca    string
	server, client   *certificate.Files
	clientCert, ckey string
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	p := &pki{authority: certificatetest.New(t, "test"), cert: in("tls.crt"), key: in("tls.key"), ca: in("ca.crt"), clientCert: in("client.crt"), ckey: in("client.key")}
	p.authority.Write(p.ca)
	p.authority.Issue("rollcall", p.cert, p.key)
	p.authority.Issue("car-1", p.clientCert, p.ckey)
	files := func(c certificate.Config) *certificate.Files {
		c.Logger = logger(t)
		f, err := certificate.New(c)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	p.server = files(certificate.Config{Cert: p.cert, Key: p.key, CA: p.ca})
	p.client = files(certificate.Config{Cert: p.clientCert, Key: p.ckey, CA: p.ca})
	return p
}

// dialTLS is connect5 over TLS.
func dialTLS(t *testing.T, addr string, config *tls.Config, change ...func(*paho.Connect)) *v5 {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	secure, err := certificate.Handshake(t.Context(), conn, addr, config)
	if err != nil {
		t.Fatal(err)
	}
	c := &v5{conn: secure, gone: make(chan *paho.Disconnect, 8)}
	c.Client = paho.NewClient(paho.ClientConfig{
		Conn:               packets.NewThreadSafeConn(secure),
		PacketTimeout:      patience,
		OnServerDisconnect: func(d *paho.Disconnect) { c.gone <- d },
		OnClientError:      func(error) { c.gone <- nil },
	})
	cp := &paho.Connect{ClientID: "c", KeepAlive: 5, CleanStart: true, UsernameFlag: true, Username: "im/phone", Properties: &paho.ConnectProperties{}}
	for _, f := range change {
		f(cp)
	}
	c.ack, c.err = c.Client.Connect(t.Context(), cp)
	t.Cleanup(func() { secure.Close() })
	return c
}

func withPassword(p string) func(*paho.Connect) {
	return func(c *paho.Connect) { c.PasswordFlag, c.Password = true, []byte(p) }
}

func TestClientsOverTLS(t *testing.T) {
	etcd := storetest.Start(t)
	files := newPKI(t)
	a := start(t, etcd.Endpoints(), "a", func(c *server.Config) {
		c.Authenticator, c.ListenTLS, c.TLS = &doorman{}, "127.0.0.1:0", files.server.Server(false)
	})
	addr := a.AddrTLS().String()
	plain, err := certificate.New(certificate.Config{CA: files.ca, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}

	c := dialTLS(t, addr, plain.Client(""), id("c"), withPassword("alice"))
	if c.err != nil {
		t.Fatal(c.err)
	}
	for i := range 20 { // among them packets larger than what a server reads at once
		payload := fmt.Appendf(nil, `{"attributes":{"text":%q}}`, strings.Repeat("x", 40*i))
		if _, err := c.Publish(t.Context(), &paho.Publish{QoS: 1, Topic: "$rollcall/beat", Payload: payload}); err != nil {
			t.Fatal(err)
		}
	}
	online(t, a, "phone", "c")
	second := dialTLS(t, addr, plain.Client(""), id("c"), withPassword("alice"))
	if d := c.ends(t); d.ReasonCode != 0x8E {
		t.Errorf("the first of two was told %#x, want session taken over", d.ReasonCode)
	}
	if err := second.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}

	car := dialTLS(t, addr, files.client.Client(""), id("car-1"))
	if car.err != nil {
		t.Fatalf("with a certificate: %v", car.err)
	}
	online(t, a, "phone", "car-1")
	if s, _ := record(t, a.store, "phone", "car-1"); s.Principal != "car-1" {
		t.Errorf("the principal of a certificate is %q", s.Principal)
	}
	if nobody := dialTLS(t, addr, plain.Client(""), id("car-1")); nobody.err == nil {
		t.Error("who shows nothing is let in")
	}

	stranger, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := stranger.Write(connect5bytes("c", "im/phone", "alice", 5)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "plain MQTT on the port for TLS is refused", func() bool { return a.refused("tls") == 1 })
	must(t, a.addr(), id("plain"))

	other := certificatetest.New(t, "another")
	other.Issue("rollcall", files.cert, files.key)
	eventually(t, "the server shows its new certificate", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = certificate.Handshake(t.Context(), conn, addr, plain.Client(""))
		return err != nil
	})
	a.stop()
	if d := car.ends(t); d.ReasonCode != 0x8B {
		t.Errorf("at the end the car was told %#x, want server shutting down", d.ReasonCode)
	}
}

func TestARightThatIsTakenBackEndsSessions(t *testing.T) {
	etcd := storetest.Start(t)
	d := &doorman{}
	a := start(t, etcd.Endpoints(), "a", func(c *server.Config) { c.Authenticator, c.RevalidateEvery = d, 20*time.Millisecond })
	alice := must(t, a.addr(), id("a1"), password("alice"))
	second := must(t, a.addr(), id("a2"), password("alice"))
	must(t, a.addr(), id("b"), password("bob"))
	online(t, a, "phone", "a1")
	before := d.asked.Load()
	eventually(t, "rights are asked for", func() bool { return d.asked.Load() > before })

	who := "alice"
	d.refused.Store(&who)
	for _, c := range []*v5{alice, second} {
		if got := c.ends(t); got.ReasonCode != 0x87 {
			t.Errorf("told %#x, want not authorized", got.ReasonCode)
		}
	}
	eventually(t, "she is offline", func() bool { s, _ := record(t, a.store, "phone", "a1"); return s.Offline })
	if n := a.metric("rollcall_server_revoked_total", "", ""); n != 2 {
		t.Errorf("%v sessions were ended, want 2", n)
	}
	if n := a.metric("rollcall_server_sessions", "kind", "client"); n != 1 {
		t.Errorf("%v sessions are left, want bob's", n)
	}
}
