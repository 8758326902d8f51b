package server_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// recordedBy waits until a client is recorded online by an incarnation.
func recordedBy(t *testing.T, s *store.Store, incarnation, client string) {
	t.Helper()
	eventually(t, client+" is online at "+incarnation, func() bool {
		got, _ := record(t, s, "quick", client)
		return got.Incarnation == incarnation && !got.Offline
	})
}

func TestAStoppedServerThatWakesWritesNothingOfWhatItLost(t *testing.T) {
	etcd := storetest.Start(t)
	b := start(t, etcd.Endpoints(), "b")
	a := startChild(t, etcd.Endpoints()[0])
	c := etcd.Client()

	const moved = 20
	var old []*raw
	for i := range moved {
		r := dial(t, a.addr)
		r.conn.SetDeadline(time.Now().Add(5 * time.Minute))
		r.send(connect5bytes(fmt.Sprint("moved-", i), "im/quick", "alice", 3)) // a lease of 5 s
		r.connack(0)
		old = append(old, r)
	}
	stays := dial(t, a.addr)
	stays.conn.SetDeadline(time.Now().Add(5 * time.Minute))
	stays.send(connect5bytes("stays", "im/quick", "alice", 10))
	stays.connack(0)
	beat := func() {
		for _, r := range old {
			r.send(pingreq)
		}
	}
	for i := range moved {
		beat()
		recordedBy(t, b.store, "child.1", fmt.Sprint("moved-", i))
	}
	recordedBy(t, b.store, "child.1", "stays")
	beat()
	stays.send(pingreq)
	hears(t, stays.conn, pingresp, "who stays")

	a.signal(syscall.SIGSTOP)
	stopped := time.Now()
	// What comes while it is stopped lies in its sockets: beats of clients that
	// have left since, and a CONNECT of one that was never let in.
	beat()
	ghost := dial(t, a.addr)
	ghost.send(connect5bytes("ghost", "im/quick", "alice", 1))
	// Others have given up, but for the last.
	for i := range 5 {
		r := dial(t, a.addr)
		r.send(connect5bytes(fmt.Sprint("waited-", i), "im/phone", "alice", 60)) // a lease of 95 s
		if i < 4 {
			r.conn.Close()
		}
	}
	for i := range moved {
		ping(t, must(t, b.addr(), id(fmt.Sprint("moved-", i)), user("im/quick"), every(10), says(wire.PropLeft, a.addr+" "+wire.LeftLate)).conn)
	}
	must(t, b.addr(), id("ghost"), user("im/quick"), every(10))
	for i := range moved {
		online(t, b, "quick", fmt.Sprint("moved-", i))
	}
	online(t, b, "quick", "ghost")
	eventually(t, "all are counted as takeovers", func() bool {
		return entry(t, b.store, b.name).Takeovers["child.1"].OwnTimeout() == moved
	})
	eventually(t, "its lease is gone", func() bool { return entry(t, b.store, "rollcall-system/child").Address == "" })
	eventually(t, "it is stopped for longer than the leases of its clients", func() bool { return time.Since(stopped) > 6*time.Second })

	a.signal(syscall.SIGCONT)
	for i, r := range old {
		for {
			p := r.packet()
			if p.Type == packets.PINGRESP {
				continue // it may answer until it knows
			}
			if d, ok := p.Content.(*packets.Disconnect); !ok || d.ReasonCode != 0x8e {
				t.Errorf("moved-%d was told %v, want session taken over", i, p)
			}
			break
		}
	}
	eventually(t, "it is registered again, with what it has", func() bool {
		return entry(t, b.store, "rollcall-system/child").Sessions["im/quick"] >= 1
	})
	// The one that stayed was not held silent while it could not be heard.
	stays.send([]byte{0xc0, 0})
	if p := stays.packet(); p.Type != packets.PINGRESP {
		t.Errorf("the one that stayed was told %v", p)
	}
	eventually(t, "the ghost is gone from it too", func() bool {
		return entry(t, b.store, "rollcall-system/child").Sessions["im/quick"] == 1
	})
	eventually(t, "who had given up is not counted", func() bool {
		return entry(t, b.store, "rollcall-system/child").Sessions["im/phone"] == 1
	})
	for i := range moved {
		checkMovedOnce(t, c, fmt.Sprint("moved-", i), b)
	}
	if got := history(t, c, "quick", "ghost"); len(got) != 1 || got[0].Incarnation != b.config.Incarnation {
		t.Errorf("the ghost: %+v", got)
	}
	if got := history(t, c, "quick", "stays"); len(got) != 1 || got[0].Incarnation != "child.1" {
		t.Errorf("the one that stayed: %+v", got)
	}
}

// checkMovedOnce: a client was online at the child, then at b, and nothing else
// was ever written about it.
func checkMovedOnce(t *testing.T, c *clientv3.Client, client string, b *running) {
	t.Helper()
	got := history(t, c, "quick", client)
	if len(got) != 2 || got[0].Incarnation != "child.1" || got[1].Incarnation != b.config.Incarnation || got[0].Offline || got[1].Offline {
		t.Errorf("%s: %+v", client, got)
	}
}
