package store

import (
	"context"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

func TestWhatAWatchBringsBeforeEtcdWasAskedProvesNothing(t *testing.T) {
	c := &canary{}
	c.connections.Store(1)
	c.asked.Store(1)
	c.witness(0, "known", nil, 5)
	c.connections.Store(2)
	c.witness(0, "of the backup", nil, 9)
	backup := landmark{"of the backup", "", 9}
	if proven, latest := c.known(0); proven != (landmark{"known", "", 5}) || latest != backup {
		t.Errorf("%+v and %+v are asked for, want what was known before the connection, and since", proven, latest)
	}
	c.prove(0, backup)
	c.asked.Store(2)
	c.witness(0, "next", nil, 10)
	if proven, latest := c.known(0); proven != (landmark{"next", "", 10}) || latest != proven {
		t.Errorf("%+v and %+v are asked for, want the latest", proven, latest)
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
		{"the same, and what was known last has been written at the same revision", func(t *testing.T, etcd *storetest.Server, before, _ storetest.Copy) {
			etcd.Restore(before)
			raw := etcd.Client()
			putServers(t, raw, "ns/p", "ns/q", "ns/r")
			must(raw.Put(t.Context(), serversRoot+"ns/a", `{"incarnation":"2"}`))(t)
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
				proven, _ := s.canary.known(0)
				return proven.key == serversRoot+"ns/a" && s.Revision() == must(s.Sync(s.ctx))(t)
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

// What is learnt before etcd could be asked counts when it is: nothing else may
// be written later by which a restore would show.
func TestWhatWasSeenBeforeEtcdWasAskedIsAskedForLater(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	s := openStore(t, etcd.Endpoints())
	raw := etcd.Client()
	putServers(t, raw, "ns/a")
	before := etcd.Save()
	var w watched
	watch := s.WatchServers(s.ctx)
	w.sees(t, watch, "ns/a")
	until(t, "the connection is known", s.canary.sure)
	s.canary.connections.Add(1) // another, which the pulse asks about within a second
	putServers(t, raw, "ns/b")
	until(t, "the change is known, and the connection", func() bool {
		proven, _ := s.canary.known(0)
		return proven.key == serversRoot+"ns/b" && s.canary.sure()
	})
	etcd.Restore(before)
	putServers(t, etcd.Client(), "ns/p", "ns/q")
	until(t, "the restore shows", func() bool { return s.Rewinds() == 1 })
}

// A server whose clients stay asks for nothing but its leases, which are in the
// backup too.
func TestARestoreShowsWhereNothingButLeasesIsAskedFor(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	s := openStore(t, etcd.Endpoints())
	before := etcd.Save()
	putServers(t, etcd.Client(), "ns/a", "ns/b")
	must(s.Sync(s.ctx))(t)
	busy, idle := context.WithCancel(s.ctx)
	defer idle()
	go func() { // as renewals do, but without a pause for the pulse to ask in
		for pause(busy, pulseEvery/100) == nil {
			s.pulse.answered(s.clock())
		}
	}()
	until(t, "nothing else is asked", func() bool { return s.canary.sure() })
	etcd.Restore(before)
	until(t, "the restore shows", func() bool { return s.Rewinds() == 1 })
}
