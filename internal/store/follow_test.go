package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

// followed is what FollowPresence has told.
type followed struct {
	mu   sync.Mutex
	told []PresenceChanges
}

func (f *followed) add(c PresenceChanges) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, c)
}

// changes are the revisions told of a client, and how many gaps there were.
func (f *followed) changes(name string) (revisions []int64, gaps int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.told {
		if t.Gap {
			gaps++
		}
		for _, c := range t.Changes {
			if c.Key == client(name) {
				revisions = append(revisions, c.Revision)
			}
		}
	}
	return revisions, gaps
}

func TestFollowPresenceTellsEveryChangeInOrder(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	way := etcd.Proxy()
	s, other := openStore(t, way.Endpoints()), openStore(t, etcd.Endpoints())
	bucket := other.bucket(t, serverB, "1")
	put := func(name string, rev int64) int64 {
		t.Helper()
		r := other.write(t, SessionWrite{Key: client(name), Session: session(serverB), Bucket: bucket, Revision: rev})
		expectWins(t, r, true)
		return r[0].Revision
	}
	var f followed
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan struct{})
	key := client("a")
	go func() {
		defer close(ended)
		s.FollowPresence(ctx, key.Namespace, key.Presence, f.add)
	}()
	until(t, "it has begun", func() bool { _, gaps := f.changes("a"); return gaps == 1 })

	var want []int64
	rev := int64(0)
	for range 50 {
		rev = put("a", rev)
		want = append(want, rev)
	}
	until(t, "all are told", func() bool { got, _ := f.changes("a"); return len(got) == len(want) })
	if got, _ := f.changes("a"); !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
	// Broken and mended, nothing is missed...
	way.Cut()
	rev = put("a", rev)
	way.Mend()
	want = append(want, rev)
	until(t, "what came meanwhile is told", func() bool { got, _ := f.changes("a"); return slices.Equal(got, want) })
	if _, gaps := f.changes("a"); gaps != 1 {
		t.Errorf("%d gaps, want that of the beginning", gaps)
	}
	// ...and where it is, that is told.
	way.Cut()
	put("a", put("a", rev))
	etcd.Compact()
	way.Mend()
	until(t, "a gap is told", func() bool { _, gaps := f.changes("a"); return gaps == 2 })
	cancel()
	closes(t, "it ends", ended)
}

func TestListPresence(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	s := openStore(t, etcd.Endpoints())
	bucket := s.bucket(t, serverB, "1")
	const n = 2*pageSize + 5
	var last int64
	for i := 0; i < n; i += MaxBatch {
		var writes []SessionWrite
		for j := i; j < min(i+MaxBatch, n); j++ {
			writes = append(writes, SessionWrite{Key: client(fmt.Sprint("c", j)), Session: session(serverB), Bucket: bucket})
		}
		last = s.write(t, writes...)[0].Revision
	}
	key := client("c0")
	seen := map[string]bool{}
	rev, err := s.ListPresence(s.ctx, key.Namespace, key.Presence, func(k KeyedSession) error {
		seen[k.Key.Client] = k.Session.Server == serverB && k.Revision > 0
		return nil
	})
	if err != nil || len(seen) != n || rev < last || !seen["c0"] || !seen[fmt.Sprint("c", n-1)] {
		t.Errorf("listed %d of %d at %d, %v", len(seen), n, rev, err)
	}
	if _, err := s.ListPresence(s.ctx, key.Namespace, "another", func(KeyedSession) error { return errors.New("one") }); err != nil {
		t.Errorf("another Presence's list has somebody: %v", err)
	}
	enough, calls := errors.New("enough"), 0
	if _, err := s.ListPresence(s.ctx, key.Namespace, key.Presence, func(KeyedSession) error { calls++; return enough }); !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%v after %d", err, calls)
	}
}
