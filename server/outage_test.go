package server_test

import (
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

func TestWhileTheStoreIsAwayBeatsAreAnsweredAndNobodyGoesOffline(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes the store ten seconds to count as away")
	}
	etcd := storetest.Start(t)
	a, b := start(t, etcd.Endpoints(), "a"), start(t, etcd.Endpoints(), "b")
	stays, moves, leaves := dial(t, a.addr()), must(t, a.addr(), id("moves"), user("im/quick"), every(3)), must(t, a.addr(), id("leaves"), user("im/quick"))
	stays.conn.SetDeadline(time.Now().Add(5 * time.Minute))
	stays.send(connect5bytes("stays", "im/quick", "alice", 10))
	stays.connack(0)
	for _, name := range []string{"stays", "moves", "leaves"} {
		online(t, a, "quick", name)
	}
	stays.send(pingreq)
	hears(t, stays.conn, pingresp, "who stays")
	etcd.Stop()
	away := time.Now()
	eventually(t, "the store is away", func() bool { return a.store.Away(time.Now()) > 6*time.Second })

	stays.send([]byte{0xc0, 0})
	if p := stays.packet(); p.Type != packets.PINGRESP {
		t.Fatalf("%v, want PINGRESP", p.PacketType())
	}
	// One goes to the other server, and its session here ends meanwhile; one
	// leaves, comes back and leaves again.
	moves.conn.Close()
	moved := must(t, b.addr(), id("moves"), user("im/quick"), every(10))
	for range 2 {
		if err := leaves.Disconnect(&paho.Disconnect{}); err != nil {
			t.Fatal(err)
		}
		leaves = must(t, a.addr(), id("leaves"), user("im/quick"))
	}
	if err := leaves.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session that moved has ended here", func() bool {
		return a.metric("rollcall_server_sessions", "kind", "client") == 1
	})
	if err := a.Ready(); err != nil {
		t.Errorf("it is not ready any more: %v", err)
	}
	t.Logf("the store was away for %v", time.Since(away))
	etcd.Restart()

	// Their leases were lost meanwhile: what was not written needs another beat.
	eventually(t, "the one that moved is online where it went", func() bool {
		ping(t, moved.conn)
		ping(t, stays.conn)
		s, _ := record(t, b.store, "quick", "moves")
		return s.Incarnation == b.config.Incarnation
	})
	eventually(t, "the one that left is offline", func() bool {
		s, _ := record(t, b.store, "quick", "leaves")
		return s.Offline
	})
	c := etcd.Client()
	for _, name := range []string{"stays", "moves"} {
		for _, s := range history(t, c, "quick", name) {
			if s.Offline {
				t.Errorf("%s was recorded offline: %+v", name, s)
			}
		}
	}
	if got := history(t, c, "quick", "leaves"); len(got) != 2 {
		t.Errorf("what was queued was written %d times, want once: %+v", len(got)-1, got)
	}
	eventually(t, "the servers are registered again", func() bool {
		return entry(t, b.store, a.name).Address != "" && entry(t, b.store, b.name).Address != ""
	})
}
