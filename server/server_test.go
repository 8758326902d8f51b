package server_test

import (
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server"
)

func TestAClientConnectsBeatsAndLeaves(t *testing.T) {
	endpoints := storetest.Etcd(t)
	a := start(t, endpoints, "a", func(c *server.Config) { c.Zone, c.Node = "z1", "n1" })
	c := must(t, a.addr(), id("c1"), every(20))
	first := online(t, a, "phone", "c1")
	p := c.ack.Properties
	if c.ack.SessionPresent || p.ServerKeepAlive != nil || p.User.Get(wire.PropServer) != a.name || p.User.Get(wire.PropIncarnation) != a.config.Incarnation {
		t.Errorf("CONNACK: %v", c.ack)
	}
	got, _ := record(t, a.store, "phone", "c1")
	if got.Server != a.name || got.Principal != "alice" || got.Interval != 20000 || got.Since == 0 {
		t.Errorf("record: %+v", got)
	}
	eventually(t, "the server's record counts it", func() bool {
		e := entry(t, a.store, a.name)
		return e.Sessions["im/phone"] == 1 && e.Zone == "z1" && e.Node == "n1" && e.Address == a.addr() && e.Capacity == 1000
	})
	beats := a.metric("rollcall_server_beats_total", "", "")
	ping(t, c.conn)
	eventually(t, "the beat is counted", func() bool { return a.metric("rollcall_server_beats_total", "", "") == beats+1 })
	if _, again := record(t, a.store, "phone", "c1"); again != first {
		t.Error("a beat was written to the store")
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is recorded offline", func() bool {
		got, _ := record(t, a.store, "phone", "c1")
		return got.Offline && got.LastSeen > 0
	})
	eventually(t, "the server's record does not count it", func() bool { return len(entry(t, a.store, a.name).Sessions) == 0 })
}

// ping sends a PINGREQ on the connection of a client that does not expect the
// answer: paho drops a PINGRESP that it did not ask for.
func ping(t testing.TB, conn net.Conn) {
	t.Helper()
	if _, err := conn.Write([]byte{0xc0, 0}); err != nil {
		t.Fatal(err)
	}
}

func TestAClientOf311ConnectsAndIsGivenTheMaximum(t *testing.T) {
	endpoints := storetest.Etcd(t)
	a := start(t, endpoints, "a")
	lost := make(chan error, 1)
	options := mqtt3.NewClientOptions().AddBroker("tcp://" + a.addr()).SetClientID("old").SetUsername("im/phone").SetPassword("alice").
		SetKeepAlive(0).SetAutoReconnect(false).SetProtocolVersion(4).SetConnectionLostHandler(func(_ mqtt3.Client, err error) { lost <- err })
	c := mqtt3.NewClient(options)
	if token := c.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("connect: %v", token.Error())
	}
	online(t, a, "phone", "old")
	if got, _ := record(t, a.store, "phone", "old"); got.Interval != 60000 {
		t.Errorf("interval %d ms, want the Presence's maximum", got.Interval)
	}
	if token := c.Publish(wire.TopicBeat, 1, false, `{"attributes":{"app":"chat"}}`); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("beat: %v", token.Error())
	}
	eventually(t, "its attributes are recorded", func() bool {
		got, _ := record(t, a.store, "phone", "old")
		return got.Attributes["app"] == "chat"
	})
	// What has no refusal in 3.1.1 ends the connection.
	c.Publish("elsewhere", 1, false, "x")
	select {
	case <-lost:
	case <-time.After(patience):
		t.Error("a topic that nobody takes was dropped in silence")
	}
	if a.refused("topic") != 1 {
		t.Error("the refusal was not counted")
	}
}

func TestServerKeepAliveBoundsTheInterval(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	for _, c := range []struct {
		name string
		asks uint16
		want uint16 // 0: its own
	}{
		{"none", 0, 60}, {"too-short", 2, 5}, {"too-long", 3600, 60}, {"within", 30, 0},
	} {
		got := must(t, a.addr(), id(c.name), every(c.asks)).ack.Properties.ServerKeepAlive
		switch {
		case c.want == 0 && got != nil:
			t.Errorf("%s: told to beat every %d s", c.name, *got)
		case c.want != 0 && (got == nil || *got != c.want):
			t.Errorf("%s: told %v, want %d", c.name, got, c.want)
		}
	}
}

func TestASilentClientGoesOfflineInTime(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	c := dial(t, a.addr())
	from := time.Now()
	c.send(connect5bytes("silent", "im/late", "alice", 1))
	c.connack(0)
	to := time.Now()
	online(t, a, "late", "silent")
	eventually(t, "the server's record says that it is late", func() bool {
		return entry(t, a.store, a.name).Late["im/late"] == 1
	})
	if got := c.disconnect(); got.ReasonCode != 0x8d {
		t.Errorf("reason %#x, want keep alive timeout", got.ReasonCode)
	}
	took := time.Since(from)
	t.Logf("expired after %v", took)
	if took < 6*time.Second {
		t.Errorf("expired after %v already, want 1.5 × 1 s + 5 s", took)
	}
	eventually(t, "it is recorded offline", func() bool {
		s, _ := record(t, a.store, "late", "silent")
		return s.Offline && s.LastSeen <= to.UnixMilli()+200 && s.LastSeen >= from.UnixMilli()-200
	})
}

func TestBeatsKeepASessionAndAnyPacketIsOne(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	c := must(t, a.addr(), user("im/quick"), every(3)) // a lease of 5 s
	beat := time.NewTicker(500 * time.Millisecond)
	defer beat.Stop()
	for range 14 { // 7 s
		select {
		case d := <-c.gone:
			t.Fatalf("it was ended: %+v", d)
		case <-beat.C:
			if _, err := c.Publish(t.Context(), &paho.Publish{Topic: wire.TopicBeat, QoS: 0}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestASecondConnectionTakesTheSessionOver(t *testing.T) {
	endpoints := storetest.Start(t)
	a := start(t, endpoints.Endpoints(), "a")
	first := must(t, a.addr(), id("c"))
	epoch := online(t, a, "phone", "c")
	second := must(t, a.addr(), id("c"))
	if d := first.ends(t); d.ReasonCode != 0x8e {
		t.Errorf("the first was told %#x, want session taken over", d.ReasonCode)
	}
	if other := connect5(t, a.addr(), id("c"), password("bob")); other.err == nil || other.ack.ReasonCode != 0x87 {
		t.Errorf("another principal was told %v", other.ack)
	}
	if a.refused("principal") != 1 {
		t.Error("the refusal was not counted")
	}
	if _, again := record(t, a.store, "phone", "c"); again != epoch {
		t.Error("a takeover on the same server was written")
	}
	select {
	case d := <-second.gone:
		t.Errorf("the second was ended: %+v", d)
	default:
	}
}

func TestATakeoverByAnotherServer(t *testing.T) {
	etcd := storetest.Start(t)
	a, b := start(t, etcd.Endpoints(), "a"), start(t, etcd.Endpoints(), "b")
	first := must(t, a.addr(), id("c"))
	epoch := online(t, a, "phone", "c")
	knows(t, a, b)
	second := must(t, b.addr(), id("c"), says(wire.PropLeft, a.addr()+" "+wire.LeftLate))
	if later := onlineBeating(t, b, "phone", "c", second.conn); later <= epoch {
		t.Errorf("epoch %d after %d", later, epoch)
	}
	if d := first.ends(t); d.ReasonCode != 0x8e {
		t.Errorf("the first was told %#x, want session taken over", d.ReasonCode)
	}
	eventually(t, "the takeover is counted by its origin", func() bool {
		got := entry(t, b.store, b.name).Takeovers[a.config.Incarnation]
		return got.OwnTimeout() == 1 && got.Total() == 1
	})
	eventually(t, "the first server holds it no more", func() bool { return entry(t, a.store, a.name).Total() == 0 })
	for _, s := range history(t, etcd.Client(), "phone", "c") {
		if s.Offline {
			t.Error("it was recorded offline on its way")
		}
	}
	// Another principal is found out when it is recorded, and sent away.
	other := must(t, a.addr(), id("c"), password("bob"))
	if d := other.ends(t); d.ReasonCode != 0x87 {
		t.Errorf("another principal was told %#x, want not authorized", d.ReasonCode)
	}
}

// knows waits until a names b to its clients, and nobody else.
func knows(t testing.TB, a, b *running) {
	t.Helper()
	eventually(t, a.name+" knows "+b.name, func() bool {
		c := must(t, a.addr(), id("looks"))
		defer c.Disconnect(&paho.Disconnect{})
		l := wire.ParseServers(c.ack.Properties.User.Get(wire.PropServers))
		return len(l) == 1 && l[0].Address == b.addr()
	})
}

func TestABrokenConnectionThatComesBackElsewhereIsNeverOffline(t *testing.T) {
	etcd := storetest.Start(t)
	a, b := start(t, etcd.Endpoints(), "a"), start(t, etcd.Endpoints(), "b")
	c := must(t, a.addr(), id("c"), user("im/quick"), every(10))
	online(t, a, "quick", "c")
	c.conn.Close()
	again := must(t, b.addr(), id("c"), user("im/quick"), every(10), says(wire.PropLeft, a.addr()+" "+wire.LeftBroken))
	onlineBeating(t, b, "quick", "c", again.conn)
	eventually(t, "the first server lets go", func() bool { return entry(t, a.store, a.name).Total() == 0 })
	got := history(t, etcd.Client(), "quick", "c")
	if len(got) != 2 || got[0].Offline || got[1].Offline {
		t.Errorf("written: %+v, want online at a, then online at b", got)
	}
}

func TestTheEndOfAServer(t *testing.T) {
	etcd := storetest.Start(t)
	a, b := start(t, etcd.Endpoints(), "a"), start(t, etcd.Endpoints(), "b")
	knows(t, a, b)
	c := must(t, a.addr(), id("c"))
	online(t, a, "phone", "c")
	a.stop()
	d := c.ends(t)
	if d.ReasonCode != 0x8b || d.Properties.User.Get(wire.PropServers) == "" {
		t.Errorf("told %+v, want server shutting down, and where else to go", d)
	}
	if e := entry(t, b.store, a.name); e.Address != "" {
		t.Error("its record is still there")
	}
	if got, _ := record(t, b.store, "phone", "c"); got.Offline {
		t.Error("its client was recorded offline")
	}
	if a.Ready() == nil {
		t.Error("it says that it is ready")
	}
}
