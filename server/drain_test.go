package server_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// lead makes the store's owner the leader, until the test ends.
func lead(t testing.TB, s *store.Store) *store.Leadership {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l, err := s.Campaign(ctx, "test")
	if err != nil {
		t.Fatalf("campaign: %v", err)
	}
	t.Cleanup(func() { _ = l.Resign(context.Background()) })
	return l
}

func direct(t testing.TB, l *store.Leadership, to *running, d store.Directive) {
	t.Helper()
	d.Term = l.Term()
	if d.Incarnation == "" {
		d.Incarnation = to.config.Incarnation
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.PutDirective(ctx, to.name, d); err != nil {
		t.Fatalf("put directive: %v", err)
	}
}

func TestADrainMovesEveryoneAndRefusesArrivals(t *testing.T) {
	etcd := storetest.Start(t)
	a, b := start(t, etcd.Endpoints(), "a"), start(t, etcd.Endpoints(), "b")
	var clients []*v5
	for i := range 8 {
		clients = append(clients, must(t, a.addr(), id(fmt.Sprint("c", i))))
	}
	probe := must(t, a.addr(), id("probe"), user("rollcall-system/nodes"), password("agent"), says(wire.PropProbe, "1"))
	broken := must(t, a.addr(), id("broken"))
	broken.conn.Close()
	eventually(t, "all are counted", func() bool { return entry(t, a.store, a.name).Sessions["im/phone"] == 9 })

	l := lead(t, b.store)
	targets := []store.Target{{Server: b.name, Address: b.addr(), Weight: 3}, {Server: "rollcall-system/c", Address: "192.0.2.1:1883", Weight: 1}}
	direct(t, l, a, store.Directive{Failover: "im/f0", Incarnation: "another.1", Drain: true, Targets: targets, Rate: 100, FirstWave: 8})
	direct(t, l, a, store.Directive{Failover: "im/f1", Drain: true, Targets: targets, Rate: 100, FirstWave: 2})
	sent := map[string]int{}
	for _, c := range clients {
		d := c.ends(t)
		if d.ReasonCode != 0x9c {
			t.Fatalf("told %#x, want use another server", d.ReasonCode)
		}
		hints := wire.ParseServers(d.Properties.User.Get(wire.PropServers))
		if len(hints) != 2 || hints[0].Address != d.Properties.ServerReference {
			t.Errorf("told of %v, sent to %s", hints, d.Properties.ServerReference)
		}
		sent[d.Properties.ServerReference]++
	}
	if sent[b.addr()] != 6 || sent["192.0.2.1:1883"] != 2 {
		t.Errorf("sent to %v, want three quarters to %s", sent, b.addr())
	}
	eventually(t, "its record says that the drain is done", func() bool {
		d := entry(t, b.store, a.name).Drain
		return d != nil && *d == store.DrainProgress{Failover: "im/f1", Told: 8, Done: true}
	})

	c := connect5(t, a.addr(), id("new"))
	if c.err == nil || c.ack.ReasonCode != 0x9c || c.ack.Properties.ServerReference == "" || c.ack.Properties.User.Get(wire.PropServers) == "" {
		t.Errorf("an arrival was told %v, want use another server, and which", c.ack)
	}
	old := dial(t, a.addr())
	old.send(connect3bytes(4, "old", "im/phone", "alice"))
	if got := old.rest(); string(got) != "\x20\x02\x00\x03" {
		t.Errorf("an arrival of 3.1.1 was told % x, want return code 3", got)
	}
	ping(t, probe.conn)
	select {
	case d := <-probe.gone:
		t.Errorf("the probe was ended: %+v", d)
	default:
	}
	if p := connect5(t, a.addr(), id("probe-2"), user("rollcall-system/nodes"), password("agent"), says(wire.PropProbe, "1")); p.err != nil {
		t.Errorf("a probe was refused: %v", p.err)
	}
	// Nobody else sends clients to it.
	eventually(t, "b does not name it", func() bool {
		c := must(t, b.addr(), id("looks"))
		defer c.Disconnect(&paho.Disconnect{})
		return c.ack.Properties.User.Get(wire.PropServers) == ""
	})

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.DeleteDirective(ctx, a.name, "im/f1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "arrivals are welcome again", func() bool {
		c := connect5(t, a.addr(), id("again"))
		return c.err == nil
	})
	eventually(t, "its record speaks of no drain", func() bool { return entry(t, b.store, a.name).Drain == nil })
}

func TestADirectiveForACountMovesSoManyAndWelcomesArrivals(t *testing.T) {
	etcd := storetest.Start(t)
	a, b := start(t, etcd.Endpoints(), "a"), start(t, etcd.Endpoints(), "b")
	agent := must(t, a.addr(), id("n1:0"), user("rollcall-system/nodes"), password("agent"), every(1))
	told := make(chan *paho.Disconnect, 10)
	for i := range 10 {
		c := must(t, a.addr(), id(fmt.Sprint("c", i)))
		go func() {
			if d, ok := <-c.gone; ok {
				told <- d
			}
		}()
	}
	l := lead(t, b.store)
	direct(t, l, a, store.Directive{
		Failover: "im/back", Count: 4, Rate: 1000,
		Targets: []store.Target{{Server: b.name, Address: b.addr(), Weight: 1}},
	})
	eventually(t, "it is done", func() bool {
		d := entry(t, b.store, a.name).Drain
		return d != nil && d.Done && d.Told == 4
	})
	for range 4 {
		if d := <-told; d.ReasonCode != 0x9c || d.Properties.ServerReference != b.addr() {
			t.Errorf("told %+v", d)
		}
	}
	if c := connect5(t, a.addr(), id("new")); c.err != nil {
		t.Errorf("an arrival was refused: %v", c.err)
	}
	ping(t, agent.conn)
	select {
	case d := <-told:
		t.Errorf("a fifth was told %+v", d)
	case d := <-agent.gone:
		t.Errorf("an agent was told %+v", d)
	default:
	}
}

func TestNobodyGoesOfflineForADrainWithoutARefuge(t *testing.T) {
	etcd := storetest.Start(t)
	a := start(t, etcd.Endpoints(), "a")
	c := must(t, a.addr(), id("c"), user("im/quick"), every(2))
	online(t, a, "quick", "c")
	l := lead(t, a.store)
	direct(t, l, a, store.Directive{
		Failover: "im/f", Drain: true, Rate: 100, FirstWave: 10,
		Targets: []store.Target{{Server: "rollcall-system/b", Address: "127.0.0.1:1", Weight: 1}},
	})
	if d := c.ends(t); d.ReasonCode != 0x9c {
		t.Fatalf("told %#x", d.ReasonCode)
	}
	eventually(t, "it is let in again", func() bool {
		c = connect5(t, a.addr(), id("c"), user("im/quick"), every(2))
		return c.err == nil
	})
	if stranded := a.metric("rollcall_server_stranded_total", "", ""); stranded != 1 {
		t.Errorf("%v are counted", stranded)
	}
	if n := connect5(t, a.addr(), id("new")); n.err == nil {
		t.Error("a newcomer was let in")
	}
	eventually(t, "the drain has nobody else to tell", func() bool {
		d := entry(t, a.store, a.name).Drain
		return d != nil && d.Done
	})
	ping(t, c.conn)
	select {
	case d := <-c.gone:
		t.Errorf("it was ended: %+v", d)
	default:
	}
	for _, s := range history(t, etcd.Client(), "quick", "c") {
		if s.Offline {
			t.Error("it was recorded offline")
		}
	}
}
