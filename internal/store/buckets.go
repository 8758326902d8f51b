package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// BucketSize is how many sessions a bucket may hold: etcd revokes a lease
	// with all its keys in one step, during which it does nothing else.
	BucketSize = 4096
	// BucketTTL: a bucket only collects garbage, once its server is long gone.
	BucketTTL = 24 * time.Hour
	// bucketEvery is how often a bucket is renewed: three times in its TTL.
	bucketEvery = BucketTTL / 3
)

// BucketID names a bucket.
type BucketID int64

// Bucket is a lease for up to BucketSize sessions of one incarnation, by which
// they can be found when their server is lost. Who calls counts them.
type Bucket struct {
	ID          BucketID
	Server      string // "namespace/pod"
	Incarnation string
}

// bucketRecord is the value of a bucket's own key, which indexes it by server.
type bucketRecord struct {
	Incarnation string `json:"incarnation"`
}

// buckets are those that this Store has made, and renews.
type buckets struct {
	mu   sync.Mutex
	live map[BucketID]bool
}

func (b *buckets) add(id BucketID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.live == nil {
		b.live = make(map[BucketID]bool)
	}
	b.live[id] = true
}

// remove tells whether the bucket was there.
func (b *buckets) remove(id BucketID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.live[id]
	delete(b.live, id)
	return was
}

func (b *buckets) ids() []BucketID {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.live))
}

// NewBucket makes a bucket, which the Store renews until it is closed.
func (s *Store) NewBucket(ctx context.Context, server, incarnation string) (Bucket, error) {
	if err := validServer(server); err != nil {
		return Bucket{}, fmt.Errorf("store: %w", err)
	}
	value, err := json.Marshal(bucketRecord{Incarnation: incarnation})
	if err != nil {
		return Bucket{}, fmt.Errorf("store: encode bucket: %w", err)
	}
	var lease clientv3.LeaseID
	if err := s.retry(ctx, opLease, func(ctx context.Context) (err error) {
		lease, _, err = s.grant(ctx, BucketTTL)
		return err
	}); err != nil {
		return Bucket{}, err
	}
	id := BucketID(lease)
	if err := s.retry(ctx, opLease, func(ctx context.Context) error {
		_, err := s.client.Put(ctx, bucketPath(server, id), string(value), clientv3.WithLease(lease))
		return err
	}); err != nil {
		return Bucket{}, err
	}
	s.buckets.add(id)
	return Bucket{ID: id, Server: server, Incarnation: incarnation}, nil
}

// KeepBuckets renews every bucket of this Store once, and tells which of them
// have ended, with their records. The Store does so by itself every 8 hours; to
// call it sooner is for who has reason to doubt.
func (s *Store) KeepBuckets(ctx context.Context) (gone []BucketID, err error) {
	for _, id := range s.buckets.ids() {
		err := s.retry(ctx, opRenew, func(ctx context.Context) error {
			_, err := s.renew(ctx, clientv3.LeaseID(id))
			return err
		})
		switch {
		case errors.Is(err, ErrLost):
			gone = append(gone, id)
			s.bucketGone(id)
		case err != nil:
			return gone, err
		}
	}
	return gone, nil
}

func (s *Store) bucketGone(id BucketID) {
	if s.buckets.remove(id) {
		s.metrics.leases.WithLabelValues(kindBucket).Inc()
		s.log.Warn("A bucket of sessions has ended", "bucket", int64(id))
	}
}

func (s *Store) keepBuckets() {
	for pause(s.ctx, bucketEvery-rand.N(bucketEvery/10)) == nil {
		if _, err := s.KeepBuckets(s.ctx); err != nil && s.ctx.Err() == nil {
			s.log.Warn("Buckets could not be renewed", "error", err)
		}
	}
}

// goneAmong finds which of a refused batch's leases have ended. Buckets are the
// caller's to replace; leases for tombstones (true) are ours.
func (s *Store) goneAmong(ctx context.Context, leases map[clientv3.LeaseID]bool) (gone []BucketID, ours bool, _ error) {
	for id, own := range leases {
		left := int64(-1)
		err := s.retry(ctx, opLease, func(ctx context.Context) error {
			got, err := s.client.TimeToLive(ctx, id)
			if err == nil {
				left = got.TTL
			}
			return err
		})
		switch {
		case err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound):
			return nil, false, err
		case left > 0:
		case own:
			s.retentions.drop(id)
			ours = true
		default:
			gone = append(gone, BucketID(id))
			s.bucketGone(BucketID(id))
		}
	}
	return gone, ours, nil
}

// SessionsOf finds the sessions that are online on a server, by its buckets;
// with incarnation "" those of every incarnation. It ends at the first error.
// Sessions may come and go while it reads: each is as it was when it was read.
func (s *Store) SessionsOf(ctx context.Context, server, incarnation string) iter.Seq2[KeyedSession, error] {
	return func(yield func(KeyedSession, error) bool) {
		if err := validServer(server); err != nil {
			yield(KeyedSession{}, fmt.Errorf("store: %w", err))
			return
		}
		ids, err := s.bucketsOf(ctx, server, incarnation)
		if err != nil {
			yield(KeyedSession{}, err)
			return
		}
		for _, id := range ids {
			keys, err := s.keysOf(ctx, id)
			if err != nil {
				yield(KeyedSession{}, err)
				return
			}
			for batch := range slices.Chunk(keys, MaxBatch) {
				found, err := s.ReadSessions(ctx, batch)
				if err != nil {
					yield(KeyedSession{}, err)
					return
				}
				for i, f := range found {
					if f.Current == nil || f.Current.Offline || f.Current.Server != server ||
						incarnation != "" && !f.Ours(incarnation) {
						continue
					}
					if !yield(KeyedSession{Key: batch[i], Session: f.Current, Revision: f.Revision}, nil) {
						return
					}
				}
			}
		}
	}
}

func (s *Store) bucketsOf(ctx context.Context, server, incarnation string) ([]BucketID, error) {
	prefix := bucketsPath(server)
	got, err := s.get(ctx, opList, prefix, clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	var ids []BucketID
	for _, kv := range got.Kvs {
		id, ok := parseBucket(strings.TrimPrefix(string(kv.Key), prefix))
		if !ok {
			s.unreadable(kindBucket, kv, errors.New("not a bucket's key"))
			continue
		}
		rec, ok := decode[bucketRecord](s, kindBucket, kv)
		if ok && (incarnation == "" || rec.Incarnation == incarnation) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// keysOf lists the sessions whose records hang on a bucket's lease.
func (s *Store) keysOf(ctx context.Context, id BucketID) ([]SessionKey, error) {
	var got *clientv3.LeaseTimeToLiveResponse
	err := s.retry(ctx, opList, func(ctx context.Context) (err error) {
		got, err = s.client.TimeToLive(ctx, clientv3.LeaseID(id), clientv3.WithAttachedKeys())
		return err
	})
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var keys []SessionKey
	for _, k := range got.Keys {
		rest, ok := strings.CutPrefix(string(k), sessionsRoot)
		if !ok {
			continue // the bucket's own key
		}
		if key, ok := parseSession(rest); ok {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
