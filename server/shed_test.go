package server_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestSheddingTurnsNewcomersAwayAndKeepsWhoIsHere(t *testing.T) {
	etcd := storetest.Start(t)
	a, b := start(t, etcd.Endpoints(), "a"), start(t, etcd.Endpoints(), "b")
	stays, returns := must(t, a.addr(), id("stays")), must(t, a.addr(), id("returns"))
	l := lead(t, b.store)
	shed := store.Directive{Refuse: true, RetryAfter: 4000}
	direct(t, l, a, shed)
	var new *v5
	came := 0 // one that was let in before the directive arrived is no newcomer
	eventually(t, "newcomers are turned away", func() bool {
		came++
		new = connect5(t, a.addr(), id("new-"+strconv.Itoa(came)))
		return new.err != nil
	})
	wait, err := strconv.Atoi(new.ack.Properties.User.Get(wire.PropRetryAfter))
	if new.ack.ReasonCode != 0x97 || err != nil || wait < 4000 || wait > 8000 || new.ack.Properties.User.Get(wire.PropServers) != "" {
		t.Errorf("a newcomer was told %+v, want quota exceeded, to come back after 4 to 8 s, and nowhere else to go", new.ack)
	}
	old := dial(t, a.addr())
	old.send(connect3bytes(4, "old", "im/phone", "alice"))
	if got := old.rest(); string(got) != "\x20\x02\x00\x03" {
		t.Errorf("a newcomer of 3.1.1 was told % x, want return code 3", got)
	}
	if a.refused("shedding") == 0 {
		t.Error("it was not counted")
	}
	ping(t, stays.conn)
	returns.conn.Close()
	must(t, a.addr(), id("returns"))
	must(t, a.addr(), id("n1:0"), user("rollcall-system/nodes"), password("agent"), every(1))
	must(t, a.addr(), id("probe"), user("rollcall-system/nodes"), password("agent"), says(wire.PropProbe, "1"))
	if e := entry(t, b.store, a.name); e.Drain != nil {
		t.Errorf("its record speaks of a drain: %+v", e.Drain)
	}

	// What a Failover directs is not replaced by it.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	targets := []store.Target{{Server: b.name, Address: b.addr(), Weight: 1}}
	direct(t, l, a, store.Directive{Failover: "im/f1", Drain: true, Targets: targets, Rate: 100, FirstWave: 2})
	direct(t, l, a, shed)
	if got := (<-b.store.WatchDirectives(ctx)).Put[a.name]; got.Failover != "im/f1" || got.Refuse {
		t.Errorf("what stands is %+v", got)
	}
	if d := stays.ends(t); d.ReasonCode != 0x9c {
		t.Errorf("told %#x, want use another server", d.ReasonCode)
	}
}
