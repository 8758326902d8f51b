package store

import (
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

func sessionsOf(t *testing.T, s *opened, server, incarnation string) []string {
	t.Helper()
	var names []string
	for k, err := range s.SessionsOf(s.ctx, server, incarnation) {
		if err != nil {
			t.Fatal(err)
		}
		if got := s.read(t, k.Key); got.Revision != k.Revision {
			t.Errorf("%v is at %d, not %d", k.Key, got.Revision, k.Revision)
		}
		names = append(names, k.Key.Client)
	}
	slices.Sort(names)
	return names
}

func TestSessionsOfALostServer(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	lost, other, reader := openStore(t, etcd.Endpoints()), openStore(t, etcd.Endpoints()), openStore(t, etcd.Endpoints())
	first, second := lost.bucket(t, serverA, serverA+".1"), lost.bucket(t, serverA, serverA+".1")
	elsewhere := other.bucket(t, serverB, serverB+".1")
	reborn := other.bucket(t, serverA, serverA+".2")
	put := func(name, server, incarnation string, bucket BucketID) int64 {
		t.Helper()
		w := SessionWrite{Key: client(name), Session: session(server), Bucket: bucket}
		w.Session.Incarnation = incarnation
		r := lost.write(t, w)
		expectWins(t, r, true)
		return r[0].Revision
	}
	put("a", serverA, serverA+".1", first)
	put("b", serverA, serverA+".1", second)
	moved := put("moved", serverA, serverA+".1", first)
	left := put("left", serverA, serverA+".1", first)
	put("reborn", serverA, serverA+".2", reborn)
	put("elsewhere", serverB, serverB+".1", elsewhere)
	expectWins(t, other.write(t,
		SessionWrite{Key: client("moved"), Session: session(serverB), Bucket: elsewhere, Revision: moved},
		SessionWrite{Key: client("left"), Session: Session{Offline: true, Server: serverA, Incarnation: serverA + ".1"}, Revision: left},
	), true, true)
	if err := lost.Close(); err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		name, server, incarnation string
		want                      []string
	}{
		{"those still online there are found, those that moved or left are not", serverA, serverA + ".1", []string{"a", "b"}},
		{"another incarnation has its own", serverA, serverA + ".2", []string{"reborn"}},
		{"without an incarnation all are found", serverA, "", []string{"a", "b", "reborn"}},
		{"one that took a session over has it", serverB, serverB + ".1", []string{"elsewhere", "moved"}},
		{"a server without buckets has none", "rollcall/nobody", "", nil},
		{"a name that begins like another's is another's", "rollcall/server", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sessionsOf(t, reader, c.server, c.incarnation); !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v", got, c.want)
			}
		})
	}
	t.Run("a name that is none is an error", func(t *testing.T) {
		for _, err := range reader.SessionsOf(reader.ctx, "server-a", "") {
			if err == nil {
				t.Error("no error")
			}
		}
	})
	t.Run("a bucket that has ended holds nobody", func(t *testing.T) {
		must(etcd.Client().Revoke(reader.ctx, clientv3.LeaseID(second)))(t)
		if got, want := sessionsOf(t, reader, serverA, serverA+".1"), []string{"a"}; !slices.Equal(got, want) {
			t.Errorf("found %v, want %v", got, want)
		}
	})
}

func TestKeepBuckets(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	s := openStore(t, etcd.Endpoints())
	kept, dead := s.bucket(t, serverA, "1"), s.bucket(t, serverA, "1")
	must(etcd.Client().Revoke(s.ctx, clientv3.LeaseID(dead)))(t)
	if gone := must(s.KeepBuckets(s.ctx))(t); !slices.Equal(gone, []BucketID{dead}) {
		t.Errorf("gone: %v, want %v", gone, dead)
	}
	if gone := must(s.KeepBuckets(s.ctx))(t); len(gone) > 0 || !slices.Equal(s.buckets.ids(), []BucketID{kept}) {
		t.Errorf("gone again: %v; kept: %v", gone, s.buckets.ids())
	}
}
