package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

// watched applies updates, as every reader of a watch does.
type watched struct {
	resets int
	held   map[string]Server
}

func (w *watched) take(u Update[string, Server]) {
	if u.Reset {
		w.resets++
		w.held = make(map[string]Server)
	}
	maps.Copy(w.held, u.Put)
	for _, k := range u.Deleted {
		delete(w.held, k)
	}
}

// sees reads updates until exactly these servers are held.
func (w *watched) sees(t *testing.T, c <-chan Update[string, Server], want ...string) {
	t.Helper()
	for {
		w.take(next(t, c))
		if slices.Equal(slices.Sorted(maps.Keys(w.held)), want) {
			return
		}
	}
}

func putServers(t *testing.T, raw *clientv3.Client, names ...string) {
	t.Helper()
	for _, n := range names {
		must(raw.Put(context.Background(), serversRoot+n, `{"incarnation":"1"}`))(t)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		// what happens while the watch is cut off, or to etcd itself
		meanwhile func(t *testing.T, etcd *storetest.Server, way *storetest.Proxy)
		want      []string
		resets    int
	}{
		{
			"a watch that was cut off goes on where it was",
			func(t *testing.T, etcd *storetest.Server, way *storetest.Proxy) {
				way.Cut()
				raw := etcd.Client()
				putServers(t, raw, "ns/c")
				must(raw.Delete(context.Background(), serversRoot+"ns/a"))(t)
				way.Mend()
			},
			[]string{"ns/b", "ns/c"}, 1,
		},
		{
			"a watch that was cut off while history was compacted begins again",
			func(t *testing.T, etcd *storetest.Server, way *storetest.Proxy) {
				way.Cut()
				raw := etcd.Client()
				putServers(t, raw, "ns/c")
				must(raw.Delete(context.Background(), serversRoot+"ns/a"))(t)
				putServers(t, raw, "ns/c")
				etcd.Compact()
				way.Mend()
			},
			[]string{"ns/b", "ns/c"}, 2,
		},
		{
			"a watch outlives a restart of etcd",
			func(t *testing.T, etcd *storetest.Server, _ *storetest.Proxy) {
				etcd.Stop()
				etcd.Restart()
				putServers(t, etcd.Client(), "ns/c")
			},
			[]string{"ns/a", "ns/b", "ns/c"}, 1,
		},
		{
			"a watch outlives a restart of etcd that was compacted before",
			func(t *testing.T, etcd *storetest.Server, way *storetest.Proxy) {
				way.Cut()
				putServers(t, etcd.Client(), "ns/c", "ns/d")
				etcd.Compact()
				etcd.Stop()
				way.Mend()
				etcd.Restart()
			},
			[]string{"ns/a", "ns/b", "ns/c", "ns/d"}, 2,
		},
		{
			"a watch begins again when etcd was wiped",
			func(t *testing.T, etcd *storetest.Server, _ *storetest.Proxy) {
				etcd.Wipe()
				putServers(t, etcd.Client(), "ns/z")
			},
			[]string{"ns/z"}, 3,
		},
		{
			"what cannot be read is left out and counted, and the rest goes on",
			func(t *testing.T, etcd *storetest.Server, _ *storetest.Proxy) {
				raw := etcd.Client()
				must(raw.Put(context.Background(), serversRoot+"ns/b", "not ours"))(t)
				must(raw.Put(context.Background(), serversRoot+"a/b/c", "{}"))(t)
				putServers(t, raw, "ns/c")
			},
			[]string{"ns/a", "ns/c"}, 1,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			etcd := storetest.Start(t)
			way := etcd.Proxy()
			s := openStore(t, way.Endpoints())
			putServers(t, etcd.Client(), "ns/a", "ns/b")
			watch := s.WatchServers(s.ctx)
			var w watched
			w.sees(t, watch, "ns/a", "ns/b")
			c.meanwhile(t, etcd, way)
			w.sees(t, watch, c.want...)
			// A wiped etcd may be seen empty first, and filled then.
			if w.resets > c.resets || w.resets < min(c.resets, 2) {
				t.Errorf("%d resets, want %d", w.resets, c.resets)
			}
		})
	}
}

func TestAWatchListsMoreThanOnePageAtOneRevision(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	s := openStore(t, etcd.Endpoints())
	bucket := s.bucket(t, serverA, "1")
	const n = pageSize + 3*MaxBatch
	writeMany(t, s, bucket, n)
	other := SessionKey{Namespace: "im", Presence: "android2", Client: "x"}
	s.write(t, SessionWrite{Key: other, Session: session(serverA), Bucket: bucket})
	got := next(t, s.WatchPresence(s.ctx, "im", "android"))
	if !got.Reset || len(got.Put) != n {
		t.Errorf("began with %d of %d clients", len(got.Put), n)
	}
	if _, there := got.Put[other]; there {
		t.Error("another Presence's client is among them")
	}
}

func TestPauseIsSetSeenAndCleared(t *testing.T) {
	t.Parallel()
	s := openStore(t, storetest.Etcd(t))
	watch := s.WatchPause(s.ctx)
	if got := next(t, watch); !got.Reset || len(got.Put) > 0 {
		t.Fatalf("began with %+v", got)
	}
	if err := s.SetPause(s.ctx, Pause{By: "me", Why: "maintenance"}); err != nil {
		t.Fatal(err)
	}
	if got := next(t, watch); got.Put[PauseKey].By != "me" {
		t.Errorf("then came %+v", got)
	}
	if err := s.ClearPause(s.ctx); err != nil {
		t.Fatal(err)
	}
	if got := next(t, watch); !slices.Equal(got.Deleted, []string{PauseKey}) {
		t.Errorf("then came %+v", got)
	}
}

func TestAWatchEndsWithItsContextAndWithTheStore(t *testing.T) {
	t.Parallel()
	s := openStore(t, storetest.Etcd(t))
	ctx, cancel := context.WithCancel(s.ctx)
	byContext, byStore := s.WatchServers(ctx), s.WatchServers(s.ctx)
	sessions := must(s.WatchSessions(s.ctx, 0))(t)
	cancel()
	drain(t, byContext)
	next(t, byStore)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	drain(t, byStore)
	drain(t, sessions)
	drain(t, s.WatchServers(context.Background())) // begun after the end
}

func drain[T any](t *testing.T, c <-chan T) {
	t.Helper()
	until(t, "the channel is closed", func() bool {
		select {
		case _, open := <-c:
			return !open
		default:
			return false
		}
	})
}

// A reader who takes updates merged ends up with what one who takes each has.
func TestMergedUpdatesMeanTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type state = map[int]int
		apply := func(s state, u Update[int, int]) state {
			if u.Reset {
				s = state{}
			}
			s = maps.Clone(s)
			maps.Copy(s, u.Put)
			for _, k := range u.Deleted {
				delete(s, k)
			}
			return s
		}
		one, merged := state{1: 1, 2: 2, 3: 3}, state{1: 1, 2: 2, 3: 3}
		var g updates[int, int]
		key := rapid.IntRange(1, 5)
		for i := range rapid.IntRange(1, 12).Draw(t, "updates") {
			u := Update[int, int]{
				Reset:    rapid.IntRange(0, 5).Draw(t, "reset") == 0,
				Revision: int64(i),
				Put:      rapid.MapOf(key, rapid.Int()).Draw(t, "put"),
			}
			if !u.Reset {
				for _, k := range rapid.SliceOf(key).Draw(t, "deleted") {
					if _, put := u.Put[k]; !put {
						u.Deleted = append(u.Deleted, k)
					}
				}
			}
			one = apply(one, u)
			g.add(u)
			if rapid.Bool().Draw(t, "taken") {
				merged = apply(merged, g.take())
			}
		}
		merged = apply(merged, g.take())
		if !maps.Equal(one, merged) {
			t.Fatalf("one by one %v, merged %v", one, merged)
		}
	})
}

func writeMany(t testing.TB, s *opened, bucket BucketID, n int) {
	t.Helper()
	for i := 0; i < n; i += MaxBatch {
		var writes []SessionWrite
		for j := i; j < min(n, i+MaxBatch); j++ {
			writes = append(writes, SessionWrite{Key: numbered(j), Session: session(serverA), Bucket: bucket})
		}
		for _, r := range s.write(t, writes...) {
			if !r.Won {
				t.Fatal(fmt.Errorf("lost: %+v", r))
			}
		}
	}
}
