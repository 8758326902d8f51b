package store

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

const (
	serverA = "rollcall/server-a"
	serverB = "rollcall/server-b"
)

func TestWriteSessions(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	way := etcd.Proxy()
	s := openStore(t, way.Endpoints())
	raw := etcd.Client()
	inA, inB := s.bucket(t, serverA, serverA+".1"), s.bucket(t, serverB, serverB+".1")
	online := func(name, server string, bucket BucketID, revision int64) SessionWrite {
		return SessionWrite{Key: client(name), Session: session(server), Bucket: bucket, Revision: revision}
	}
	arrive := func(t *testing.T, name string) int64 {
		t.Helper()
		r := s.write(t, online(name, serverA, inA, 0))
		expectWins(t, r, true)
		return r[0].Revision
	}

	for _, c := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"a new client's record is written, at a revision that is its epoch", func(t *testing.T) {
			rev := arrive(t, "new")
			got := s.read(t, client("new"))
			if got.Won || got.Revision != rev || got.Current == nil || got.Current.Server != serverA {
				t.Errorf("read %+v, want the record at %d", got, rev)
			}
			if s.Revision() < rev {
				t.Errorf("known revision %d is below our own write %d", s.Revision(), rev)
			}
		}},
		{"a record that must not exist loses to the one that does, and is told which", func(t *testing.T) {
			rev := arrive(t, "there")
			r := s.write(t, online("there", serverB, inB, 0))
			expectWins(t, r, false)
			if r[0].Revision != rev || r[0].Current.Server != serverA || r[0].Ours(serverB+".1") {
				t.Errorf("told %+v", r[0])
			}
		}},
		{"a write for a record that has gone is told that there is none", func(t *testing.T) {
			r := s.write(t, online("gone", serverA, inA, 7))
			expectWins(t, r, false)
			if r[0].Current != nil || r[0].Revision != 0 {
				t.Errorf("told %+v", r[0])
			}
		}},
		{"each client of a batch stands or falls by its own epoch", func(t *testing.T) {
			one, two := arrive(t, "one"), arrive(t, "two")
			taken := s.write(t, online("one", serverB, inB, one))
			expectWins(t, taken, true)
			r := s.write(t,
				online("one", serverA, inA, one), // taken over meanwhile
				online("two", serverA, inA, two),
				online("three", serverA, inA, 0),
			)
			expectWins(t, r, false, true, true)
			if r[0].Revision != taken[0].Revision || r[0].Current.Server != serverB {
				t.Errorf("the loser is told %+v", r[0])
			}
			if r[1].Revision != r[2].Revision || r[1].Revision <= two {
				t.Errorf("winners have epochs %d and %d", r[1].Revision, r[2].Revision)
			}
		}},
		{"a server that slept finds its session taken, and writes nothing", func(t *testing.T) {
			old := arrive(t, "sleeper")
			taken := s.write(t, online("sleeper", serverB, inB, old))
			tomb := SessionWrite{Key: client("sleeper"), Session: Session{Offline: true, Server: serverA}, Revision: old}
			remove := SessionWrite{Key: client("sleeper"), Revision: old, Delete: true}
			for _, w := range []SessionWrite{online("sleeper", serverA, inA, old), tomb, remove} {
				expectWins(t, s.write(t, w), false)
			}
			if got := s.read(t, client("sleeper")); got.Revision != taken[0].Revision || got.Current.Server != serverB {
				t.Errorf("the record is %+v", got)
			}
		}},
		{"an own write whose answer was lost is found and adopted", func(t *testing.T) {
			way.Mute()
			ctx, cancel := context.WithCancel(s.ctx)
			defer cancel()
			written := make(chan error, 1)
			go func() {
				_, err := s.WriteSessions(ctx, []SessionWrite{online("mine", serverA, inA, 0)})
				written <- err
			}()
			until(t, "the write has arrived", func() bool { return count(t, raw, sessionsRoot+"im/android/mine") == 1 })
			cancel()
			err := next(t, written)
			way.Mend()
			if !errors.Is(err, ErrUnknownOutcome) {
				t.Fatalf("error %v, want %v", err, ErrUnknownOutcome)
			}
			r := s.write(t, online("mine", serverA, inA, 0))
			expectWins(t, r, false)
			if !r[0].Ours(serverA + ".1") {
				t.Fatalf("told %+v, want our own", r[0])
			}
			expectWins(t, s.write(t, online("mine", serverA, inA, r[0].Revision)), true)
		}},
		{"a revoked bucket fails the batch whole, and is named", func(t *testing.T) {
			dead := s.bucket(t, serverA, serverA+".1")
			must(raw.Revoke(s.ctx, clientv3.LeaseID(dead)))(t)
			_, err := s.WriteSessions(s.ctx, []SessionWrite{online("x", serverA, inA, 0), online("y", serverA, dead, 0)})
			var gone *BucketGoneError
			if !errors.As(err, &gone) || !slices.Equal(gone.Buckets, []BucketID{dead}) {
				t.Fatalf("error %v, want bucket %d named", err, dead)
			}
			if got := s.read(t, client("x")); got.Current != nil {
				t.Errorf("the other client was written: %+v", got)
			}
			if slices.Contains(s.buckets.ids(), dead) {
				t.Error("the bucket is still renewed")
			}
		}},
		{"a tombstone without a bucket is kept for its retention", func(t *testing.T) {
			rev := arrive(t, "leaver")
			expectWins(t, s.write(t, SessionWrite{
				Key: client("leaver"), Session: Session{Offline: true, Server: serverA, LastSeen: 5}, Revision: rev,
				Retention: time.Hour,
			}), true)
			if got := s.read(t, client("leaver")); !got.Current.Offline || got.Current.LastSeen != 5 {
				t.Errorf("read %+v", got.Current)
			}
			kv := must(raw.Get(s.ctx, sessionPath(client("leaver"))))(t).Kvs[0]
			ttl := must(raw.TimeToLive(s.ctx, clientv3.LeaseID(kv.Lease)))(t).GrantedTTL
			if ttl < 3600 || ttl > 3800 {
				t.Errorf("its lease was granted for %d s, want an hour and a little", ttl)
			}
		}},
		{"a tombstone's lease that was revoked is replaced without a word", func(t *testing.T) {
			tomb := func(name string) SessionWrite {
				return SessionWrite{Key: client(name), Session: Session{Offline: true, Server: serverA}}
			}
			expectWins(t, s.write(t, tomb("tomb-1")), true)
			kv := must(raw.Get(s.ctx, sessionPath(client("tomb-1"))))(t).Kvs[0]
			must(raw.Revoke(s.ctx, clientv3.LeaseID(kv.Lease)))(t)
			expectWins(t, s.write(t, tomb("tomb-2")), true)
		}},
		{"a record that cannot be read is nobody's, and may be replaced", func(t *testing.T) {
			must(raw.Put(s.ctx, sessionPath(client("foreign")), "not ours"))(t)
			r := s.write(t, online("foreign", serverA, inA, 0))
			expectWins(t, r, false)
			if r[0].Current == nil || r[0].Ours("") {
				t.Fatalf("told %+v", r[0])
			}
			expectWins(t, s.write(t, online("foreign", serverA, inA, r[0].Revision)), true)
		}},
		{"128 clients are too many for one batch", func(t *testing.T) {
			_, err := s.WriteSessions(s.ctx, make([]SessionWrite, MaxBatch+1))
			if !errors.Is(err, ErrTooMany) {
				t.Errorf("error %v, want %v", err, ErrTooMany)
			}
		}},
		{"127 clients fit into one batch", func(t *testing.T) {
			var writes []SessionWrite
			for i := range MaxBatch {
				writes = append(writes, SessionWrite{Key: numbered(i), Session: session(serverA), Bucket: inA})
			}
			for _, r := range s.write(t, writes...) {
				if !r.Won {
					t.Fatalf("lost: %+v", r)
				}
			}
		}},
		{"what makes no sense is refused before it is sent", func(t *testing.T) {
			twice := online("twice", serverA, inA, 0)
			for what, writes := range map[string][]SessionWrite{
				"a slash in a key":        {online("a/b", serverA, inA, 0)},
				"an empty key":            {online("", serverA, inA, 0)},
				"online without a bucket": {online("z", serverA, 0, 0)},
				"a delete of anything":    {{Key: client("z"), Delete: true}},
				"the same client twice":   {twice, twice},
				"a retention in the past": {{Key: client("z"), Session: Session{Offline: true}, Retention: -1}},
			} {
				before := s.count(opWrite, outcomeOK) + s.count(opWrite, outcomeRefused)
				if _, err := s.WriteSessions(s.ctx, writes); err == nil {
					t.Errorf("%s was accepted", what)
				}
				if s.count(opWrite, outcomeOK)+s.count(opWrite, outcomeRefused) != before {
					t.Errorf("%s was sent", what)
				}
			}
		}},
	} {
		t.Run(c.name, c.run)
	}
}

func TestAWriteThatWasNeverSentSaysSo(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	way := etcd.Proxy()
	s := openStore(t, way.Endpoints())
	bucket := s.bucket(t, serverA, serverA+".1")
	way.Cut()
	until(t, "a write is not even sent", func() bool {
		_, err := s.WriteSessions(s.ctx, []SessionWrite{{Key: client("a"), Session: session(serverA), Bucket: bucket}})
		return err != nil && !errors.Is(err, ErrUnknownOutcome)
	})
	way.Mend()
	until(t, "etcd answers", func() bool { return s.Away(time.Now()) == 0 })
	expectWins(t, s.write(t, SessionWrite{Key: client("a"), Session: session(serverA), Bucket: bucket}), true)
}
