package server_test

import (
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/rollcall-dev/rollcall/internal/datagram"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server"
)

func TestKeysAreGivenOverTLSOnly(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	a := start(t, etcd.Endpoints(), "a", byDatagram(files))
	asks := says(wire.PropUDP, "1")
	if got := must(t, a.addr(), asks).ack.Properties.User.Get(wire.PropUDP); got != "" {
		t.Error("over plain TCP a key is given")
	}
	secure := func(change ...func(*paho.Connect)) string {
		c := dialTLS(t, a.AddrTLS().String(), files.client.Client(""), append(change, withPassword("alice"))...)
		if c.err != nil {
			t.Fatal(c.err)
		}
		return c.ack.Properties.User.Get(wire.PropUDP)
	}
	if secure() != "" {
		t.Error("a key is given unasked")
	}
	if secure(asks, user("rollcall-system/nodes"), withPassword("agent")) != "" {
		t.Error("an agent is given a key")
	}
	if secure(asks) == "" {
		t.Error("over TLS none is given")
	}
	b := start(t, etcd.Endpoints(), "b", byDatagram(files), func(c *server.Config) { c.ListenUDP = "" })
	c := dialTLS(t, b.AddrTLS().String(), files.client.Client(""), asks, withPassword("alice"))
	if c.err != nil || c.ack.Properties.User.Get(wire.PropUDP) != "" {
		t.Errorf("a server that takes no datagrams: %v, %v", c.err, c.ack.Properties.User)
	}
}

func TestDatagramsThatAreNotAnswered(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	a := start(t, etcd.Endpoints(), "a", byDatagram(files))
	p := pocketed(t, files, a.AddrTLS().String())
	other := pocketed(t, files, a.AddrTLS().String(), id("other"))
	used := p.says(datagram.Beat)
	p.send(used)
	p.hears()
	forged := p.says(datagram.Beat)
	forged[40] ^= 1
	stolen := p.says(datagram.Beat) // another client's datagram in this one's name
	copy(stolen[20:], other.says(datagram.Beat)[20:])
	for _, c := range []struct {
		name   string
		b      []byte
		reason string
	}{
		{"nothing", nil, "datagram"},
		{"a byte less", p.says(datagram.Beat)[1:], "datagram"},
		{"a byte more", append(p.says(datagram.Beat), 0), "datagram"},
		{"much more", make([]byte, 1400), "datagram"},
		{"forged", forged, "datagram-forged"},
		{"another's", stolen, "datagram-forged"},
		{"replayed", used, "datagram-replayed"},
	} {
		before := a.refused(c.reason)
		p.send(c.b)
		// What comes next is answered next.
		if m := p.ask(datagram.Beat); m.Kind != datagram.OK {
			t.Errorf("after %s: %+v", c.name, m)
		}
		if n := a.refused(c.reason) - before; n != 1 {
			t.Errorf("%s: %v were refused as %q, want 1", c.name, n, c.reason)
		}
	}
}

func TestADatagramOfAnotherTimeDoesNotCountAndHearsWhichItIs(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	a := start(t, etcd.Endpoints(), "a", byDatagram(files))
	p := pocketed(t, files, a.AddrTLS().String())
	for _, c := range []struct {
		name string
		kind datagram.Kind
		by   time.Duration
		want datagram.Kind
	}{
		{"old", datagram.Beat, -31 * time.Second, datagram.Skewed},
		{"of the future", datagram.Beat, 32 * time.Second, datagram.Skewed},
		{"a goodbye that is old", datagram.Leave, -31 * time.Second, datagram.Skewed},
		{"late within bounds", datagram.Beat, -25 * time.Second, datagram.OK},
		{"of now", datagram.Beat, 0, datagram.OK},
	} {
		beats, skewed := a.metric("rollcall_server_beats_total", "", ""), a.refused("datagram-skew")
		var asked uint64
		m := p.ask(c.kind, func(m *datagram.Message) {
			asked = m.Time
			m.Time += uint64(c.by.Milliseconds())
		})
		if m.Kind != c.want || m.Time+10_000 < asked || m.Time > asked+60_000 {
			t.Errorf("%s: at %d answered %+v", c.name, asked, m)
		}
		if counted := a.metric("rollcall_server_beats_total", "", "") > beats; counted != (c.want == datagram.OK) {
			t.Errorf("%s: counted as a beat: %v", c.name, counted)
		}
		if refused := a.refused("datagram-skew") > skewed; refused != (c.want == datagram.Skewed) {
			t.Errorf("%s: counted as refused: %v", c.name, refused)
		}
	}
}

func TestWhatStrangersSendDoesNotSilenceAClient(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	a := start(t, etcd.Endpoints(), "a", byDatagram(files))
	p := pocketed(t, files, a.AddrTLS().String())
	var key [datagram.KeySize]byte // an earlier process's
	forger, err := datagram.NewClient(datagram.Session{Place: p.grant.Session.Place, Arrival: 7}, key)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, datagram.Size)
	for n := uint32(1); n <= 10_000 || a.refused("datagram-flood") == 0; n++ {
		forger.Seal(b, datagram.Message{Kind: datagram.Beat, Counter: n})
		p.send(b)
		if n%100 != 0 { // else the socket's buffer would be full
			continue
		}
		if m := p.ask(datagram.Beat); m.Kind != datagram.OK {
			t.Fatalf("after %d that were forged: %+v", n, m)
		}
	}
}

func TestAPresenceThatTakesYoungerBeatsOnlyGivesNoKeys(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	a := start(t, etcd.Endpoints(), "a", byDatagram(files), func(c *server.Config) {
		signed := func(skew time.Duration) server.Presence {
			p := known["im/phone"]
			p.MaxSkew = skew
			return p
		}
		c.Presences = presences{"im/strict": signed(29 * time.Second), "im/lax": signed(30 * time.Second)}
	})
	for presence, want := range map[string]bool{"im/strict": false, "im/lax": true} {
		c := dialTLS(t, a.AddrTLS().String(), files.client.Client(""), says(wire.PropUDP, "1"), withPassword("alice"), user(presence))
		if c.err != nil {
			t.Fatal(c.err)
		}
		if given := c.ack.Properties.User.Get(wire.PropUDP) != ""; given != want {
			t.Errorf("%s: given a key: %v", presence, given)
		}
	}
}

func TestAServerThatHasRestartedSaysNothing(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	a := start(t, etcd.Endpoints(), "a", byDatagram(files))
	p := pocketed(t, files, a.AddrTLS().String())
	if m := p.ask(datagram.Beat); m.Kind != datagram.OK {
		t.Fatalf("answered %+v", m)
	}
	at := a.AddrUDP().String()
	a.stop()
	again := start(t, etcd.Endpoints(), "a", byDatagram(files), func(c *server.Config) { c.ListenUDP = at })
	p.send(p.says(datagram.Beat))
	eventually(t, "it is refused", func() bool { return again.refused("datagram-forged") == 1 })
	fresh := pocketed(t, files, again.AddrTLS().String(), id("fresh"))
	fresh.conn = p.conn // an answer to the old one would be read first
	if m := fresh.ask(datagram.Beat); m.Kind != datagram.OK {
		t.Errorf("answered %+v", m)
	}
}

func TestConfigsOfDatagramsThatAreRefused(t *testing.T) {
	files := newPKI(t)
	good := server.Config{
		Name: "a", Namespace: "n", Incarnation: "i", Capacity: 1, ListenTLS: "127.0.0.1:0", TLS: files.server.Server(false),
		Store: &store.Store{}, Presences: known, Authenticator: clients{}, Logger: logger(t),
	}
	for _, c := range []struct {
		name   string
		change func(*server.Config)
		want   string
	}{
		{"without TLS", func(c *server.Config) {
			c.Listen, c.ListenTLS, c.TLS, c.ListenUDP = "127.0.0.1:0", "", nil, "127.0.0.1:0"
		},
			"server: ListenUDP needs ListenTLS or ListenWebSocketTLS: over those alone clients are given keys for it"},
		{"advertised only", func(c *server.Config) { c.AdvertiseUDP = "10.0.0.1:1885" }, "server: AdvertiseUDP goes with ListenUDP"},
		{"advertised without a port", func(c *server.Config) { c.ListenUDP, c.AdvertiseUDP = "127.0.0.1:0", "10.0.0.1" },
			`server: AdvertiseUDP "10.0.0.1" is not host:port`},
	} {
		config := good
		c.change(&config)
		if _, err := server.New(config); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}
