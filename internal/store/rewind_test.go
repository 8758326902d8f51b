package store

import (
	"testing"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

func TestAHistoryThatIsLostIsToldBeforeAnythingOfTheNextOne(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		lose func(etcd *storetest.Server, saved storetest.Copy)
	}{
		{"wiped", func(etcd *storetest.Server, _ storetest.Copy) { etcd.Wipe() }},
		{"restored", func(etcd *storetest.Server, saved storetest.Copy) { etcd.Restore(saved) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			etcd := storetest.Start(t)
			s := openStore(t, etcd.Endpoints())
			bucket := s.bucket(t, serverA, "1")
			s.write(t, SessionWrite{Key: client("a"), Session: session(serverA), Bucket: bucket})
			saved := etcd.Save()
			events := must(s.WatchSessions(s.ctx, 0))(t)
			writeMany(t, s, s.bucket(t, serverA, "1"), 300)
			high := s.Revision()

			var told []uint32 // Rewinds at each call
			var at []int64
			all := make(chan struct{})
			s.OnRewind(func() {
				if told, at = append(told, s.Rewinds()), append(at, s.Revision()); len(told) == 2 {
					close(all)
				}
			})
			c.lose(etcd, saved)
			closes(t, "who wants to know is told twice", all)
			if len(told) != 2 || told[0] != 0 || told[1] != 1 || at[0] != high || at[1] >= high {
				t.Errorf("told at rewinds %v, revisions %v; it was %d", told, at, high)
			}
			if now := s.Revision(); now >= high {
				t.Errorf("the revision is %d, it was %d", now, high)
			}

			gap := false
			until(t, "the watch has caught up with the new history", func() bool {
				target := must(s.Sync(s.ctx))(t)
				if err := s.RequestProgress(s.ctx); err != nil {
					t.Fatal(err)
				}
				for {
					select {
					case e := <-events:
						gap = gap || e.Gap && e.History == 1
						if e.History == 1 && !gap {
							t.Errorf("%+v came before the gap was told", e)
						}
						if e.History == 1 && e.Revision >= target {
							return true
						}
					default:
						return false
					}
				}
			})
			bucket = s.bucket(t, serverA, "1")
			key := SessionKey{Namespace: "im", Presence: "android", Client: "new"}
			s.write(t, SessionWrite{Key: key, Session: session(serverA), Bucket: bucket})
			until(t, "the watch shows what is written", func() bool {
				for _, change := range next(t, events).Changes {
					if change.Key == key {
						return true
					}
				}
				return false
			})
		})
	}
}
