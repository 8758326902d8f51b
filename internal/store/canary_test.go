package store

import (
	"testing"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

func TestWhatAWatchBringsBeforeEtcdWasAskedIsNoCanary(t *testing.T) {
	c := &canary{}
	c.connections.Store(1)
	c.asked.Store(1)
	c.witness(0, "known", 5)
	c.connections.Store(2)
	c.witness(0, "of the backup", 9)
	if key, revision := c.known(0); key != "known" || revision != 5 {
		t.Errorf("%s at %d is asked for, want what was known before the connection", key, revision)
	}
	c.asked.Store(2)
	c.witness(0, "next", 10)
	if key, revision := c.known(0); key != "next" || revision != 10 {
		t.Errorf("%s at %d is asked for, want the latest", key, revision)
	}
}

func TestAfterAnAbsenceEtcdIsKnownByTheLatestChange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		meanwhile func(t *testing.T, etcd *storetest.Server, before, after storetest.Copy)
		want      uint32 // rewinds
	}{
		{"nothing has happened", func(*testing.T, *storetest.Server, storetest.Copy, storetest.Copy) {}, 0},
		{"it was restarted", func(_ *testing.T, etcd *storetest.Server, _, _ storetest.Copy) { etcd.Stop(); etcd.Restart() }, 0},
		{"it was compacted", func(t *testing.T, etcd *storetest.Server, _, _ storetest.Copy) {
			putServers(t, etcd.Client(), "ns/x", "ns/y")
			etcd.Compact()
		}, 0},
		{"a backup that has all that is known was restored", func(_ *testing.T, etcd *storetest.Server, _, after storetest.Copy) {
			etcd.Restore(after)
		}, 0},
		{"an older backup was restored", func(_ *testing.T, etcd *storetest.Server, before, _ storetest.Copy) {
			etcd.Restore(before)
		}, 1},
		{"an older backup was restored, and more was written than was lost", func(t *testing.T, etcd *storetest.Server, before, _ storetest.Copy) {
			etcd.Restore(before)
			putServers(t, etcd.Client(), "ns/p", "ns/q", "ns/r", "ns/s", "ns/t", "ns/u", "ns/v", "ns/w")
		}, 1},
		{"the same, and it was compacted", func(t *testing.T, etcd *storetest.Server, before, _ storetest.Copy) {
			etcd.Restore(before)
			putServers(t, etcd.Client(), "ns/p", "ns/q", "ns/r", "ns/s", "ns/t", "ns/u", "ns/v", "ns/w")
			etcd.Compact()
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			etcd := storetest.Start(t)
			way := etcd.Proxy()
			s := openStore(t, way.Endpoints())
			putServers(t, etcd.Client(), "ns/a", "ns/b")
			before := etcd.Save()
			var w watched
			watch := s.WatchServers(s.ctx)
			w.sees(t, watch, "ns/a", "ns/b")
			putServers(t, etcd.Client(), "ns/a", "ns/b") // again
			putServers(t, etcd.Client(), "ns/c")
			w.sees(t, watch, "ns/a", "ns/b", "ns/c")
			// What was changed last is there in the copy too, but older.
			putServers(t, etcd.Client(), "ns/a")
			until(t, "the last change is known", func() bool {
				key, _ := s.canary.known(0)
				return key == serversRoot+"ns/a" && s.Revision() == must(s.Sync(s.ctx))(t)
			})
			after := etcd.Save()
			way.Cut()
			connections := s.canary.connections.Load()
			c.meanwhile(t, etcd, before, after)
			way.Mend()
			until(t, "etcd was asked after a new connection", func() bool {
				return s.canary.connections.Load() > connections && s.canary.asked.Load() == s.canary.connections.Load()
			})
			if got := s.Rewinds(); got != c.want {
				t.Errorf("%d rewinds, want %d", got, c.want)
			}
		})
	}
}
