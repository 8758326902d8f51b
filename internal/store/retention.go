package store

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// DefaultRetention of tombstones.
	DefaultRetention = 24 * time.Hour
	// retentionShare: a lease is shared by the tombstones of this part of their
	// retention, and lasts that much longer.
	retentionShare = 24
)

// retentions are the leases that tombstones hang on: never renewed, one for
// each retention asked for, replaced when it is full or has run for a while.
type retentions struct {
	mu   sync.Mutex
	open map[time.Duration]*retention
}

type retention struct {
	id    clientv3.LeaseID
	keys  int
	until time.Time // afterwards another is begun
}

// lease gives the lease for one more tombstone that is to be kept for so long.
func (r *retentions) lease(ctx context.Context, s *Store, keep time.Duration) (clientv3.LeaseID, error) {
	if keep == 0 {
		keep = DefaultRetention
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := s.clock()
	if t := r.open[keep]; t != nil && t.keys < BucketSize && now.Before(t.until) {
		t.keys++
		return t.id, nil
	}
	share := keep / retentionShare
	var id clientv3.LeaseID
	if err := s.attempt(ctx, opLease, func(ctx context.Context) (err error) {
		id, _, err = s.grant(ctx, keep+share)
		return err
	}); err != nil {
		return 0, err
	}
	if r.open == nil {
		r.open = make(map[time.Duration]*retention)
	}
	r.open[keep] = &retention{id: id, keys: 1, until: now.Add(share)}
	return id, nil
}

// drop forgets a lease that has ended.
func (r *retentions) drop(id clientv3.LeaseID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for keep, t := range r.open {
		if t.id == id {
			delete(r.open, keep)
		}
	}
}
