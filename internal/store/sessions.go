package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// MaxBatch is how many sessions fit into one transaction: etcd takes 128
// operations (its max-txn-ops), and counts the nested one.
const MaxBatch = 127

const (
	resultWon  = "won"
	resultLost = "lost"
)

// SessionWrite is one session's change, made only if the record still is at
// Revision.
type SessionWrite struct {
	Key     SessionKey
	Session Session
	// Revision is the modification revision that the record must have; 0: there
	// must be none.
	Revision int64
	// Bucket takes the record of a session that is Online. Tombstones leave it 0:
	// the store gives them a lease that ends Retention later.
	Bucket BucketID
	// Retention of a tombstone without a Bucket; 0: 24 h.
	Retention time.Duration
	// Delete the record instead of writing Session.
	Delete bool
}

func (w SessionWrite) validate() error {
	if err := w.Key.validate(); err != nil {
		return err
	}
	switch {
	case w.Delete && w.Revision == 0:
		return fmt.Errorf("session %q: a delete needs a revision", w.Key)
	case !w.Delete && !w.Session.Offline && w.Bucket == 0:
		return fmt.Errorf("session %q: online, and without a bucket", w.Key)
	case w.Retention < 0:
		return fmt.Errorf("session %q: negative retention", w.Key)
	}
	return nil
}

// SessionResult is what became of a write, or what a read found.
type SessionResult struct {
	// Won: our compare held, and the write was made.
	Won bool
	// Revision of our write when Won, else of Current: the session's new epoch.
	Revision int64
	// AsOf is the revision of etcd at which the record was so: a change that is
	// told with a higher one came later.
	AsOf int64
	// Current is what the record was instead, when not Won; nil: there is none.
	// A record that cannot be read is an empty Session, which is nobody's.
	Current *Session
}

// Ours tells whether the record found is this incarnation's own: an earlier
// write of it whose outcome was unknown. Adopt the revision.
func (r SessionResult) Ours(incarnation string) bool {
	return r.Current != nil && incarnation != "" && r.Current.Incarnation == incarnation
}

// WriteSessions makes up to MaxBatch writes in one transaction; each stands or
// falls by its own compare. Results are in the order of writes. It tries once:
// whoever calls must judge anew before trying again.
//
// Errors: ErrTooMany; *BucketGoneError (nothing was written); ErrUnknownOutcome
// (any of it may have been written: read, and adopt what is Ours); any other
// (nothing was written).
func (s *Store) WriteSessions(ctx context.Context, writes []SessionWrite) ([]SessionResult, error) {
	return s.writeSessions(ctx, opWrite, writes)
}

// writeSessions also takes what must hold for any of it to be written; if it
// does not, ErrNotLeader.
func (s *Store) writeSessions(ctx context.Context, op string, writes []SessionWrite, guard ...clientv3.Cmp) ([]SessionResult, error) {
	if len(writes) > MaxBatch {
		return nil, fmt.Errorf("store: %s: %d: %w", op, len(writes), ErrTooMany)
	}
	if len(writes) == 0 {
		return nil, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	history := s.Rewinds()
	for again := true; ; again = false {
		ops, leases, err := s.sessionOps(ctx, writes)
		if err != nil {
			return nil, err
		}
		var resp *clientv3.TxnResponse
		err = s.attempt(ctx, op, func(ctx context.Context) (err error) {
			resp, err = s.client.Txn(ctx).If(guard...).Then(ops...).Commit()
			if err == nil && !resp.Succeeded {
				return ErrNotLeader
			}
			return err
		})
		switch {
		case err == nil:
			return s.sessionResults(writes, ops, resp, history), nil
		case !errors.Is(err, rpctypes.ErrLeaseNotFound):
			return nil, err
		}
		// Only leases of our own for tombstones are replaced without asking: a
		// bucket's end means that its other records are gone as well.
		gone, ours, askErr := s.goneAmong(ctx, leases)
		switch {
		case askErr != nil:
			return nil, askErr
		case len(gone) > 0:
			return nil, &BucketGoneError{Buckets: gone}
		case !ours || !again:
			return nil, err
		}
		s.metrics.retries.WithLabelValues(op).Inc()
	}
}

// sessionOps builds one nested transaction per write, and tells the leases that
// it uses: true for those of tombstones, which are the store's own.
func (s *Store) sessionOps(ctx context.Context, writes []SessionWrite) ([]clientv3.Op, map[clientv3.LeaseID]bool, error) {
	ops := make([]clientv3.Op, len(writes))
	leases := make(map[clientv3.LeaseID]bool)
	keys := make(map[SessionKey]bool, len(writes))
	for i, w := range writes {
		if err := w.validate(); err != nil {
			return nil, nil, fmt.Errorf("store: %w", err)
		}
		if keys[w.Key] {
			return nil, nil, fmt.Errorf("store: session %q is twice in one batch", w.Key)
		}
		keys[w.Key] = true
		path := sessionPath(w.Key)
		change := clientv3.OpDelete(path)
		if !w.Delete {
			value, err := json.Marshal(w.Session)
			if err != nil {
				return nil, nil, fmt.Errorf("store: encode session %q: %w", w.Key, err)
			}
			lease := clientv3.LeaseID(w.Bucket)
			own := lease == 0
			if own {
				if lease, err = s.retentions.lease(ctx, s, w.Retention); err != nil {
					return nil, nil, err
				}
			}
			leases[lease] = own
			change = clientv3.OpPut(path, string(value), clientv3.WithLease(lease))
		}
		ops[i] = clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(path), "=", w.Revision)},
			[]clientv3.Op{change},
			[]clientv3.Op{clientv3.OpGet(path)},
		)
	}
	return ops, leases, nil
}

func (s *Store) sessionResults(writes []SessionWrite, ops []clientv3.Op, resp *clientv3.TxnResponse, history uint32) []SessionResult {
	results := make([]SessionResult, len(writes))
	won := 0
	for i := range writes {
		one := resp.Responses[i].GetResponseTxn()
		if one.Succeeded {
			results[i] = SessionResult{Won: true, Revision: resp.Header.Revision, AsOf: resp.Header.Revision}
			won++
			if !writes[i].Delete {
				_, put, _ := ops[i].Txn()
				s.canary.witness(history, sessionPath(writes[i].Key), put[0].ValueBytes(), resp.Header.Revision)
			}
			continue
		}
		results[i] = s.sessionFound(one.Responses[0].GetResponseRange().Kvs, resp.Header.Revision)
	}
	s.metrics.sessions.WithLabelValues(resultWon).Add(float64(won))
	s.metrics.sessions.WithLabelValues(resultLost).Add(float64(len(writes) - won))
	return results
}

func (s *Store) sessionFound(kvs []*mvccpb.KeyValue, asOf int64) SessionResult {
	if len(kvs) == 0 {
		return SessionResult{AsOf: asOf}
	}
	session, _ := decode[Session](s, kindSession, kvs[0])
	return SessionResult{Revision: kvs[0].ModRevision, AsOf: asOf, Current: &session}
}

// ReadSessions reads any number of records, in the order of keys, through
// etcd's quorum, MaxBatch at a time.
func (s *Store) ReadSessions(ctx context.Context, keys []SessionKey) ([]SessionResult, error) {
	results := make([]SessionResult, 0, len(keys))
	for len(results) < len(keys) {
		batch := keys[len(results):min(len(keys), len(results)+MaxBatch)]
		ops := make([]clientv3.Op, len(batch))
		for i, k := range batch {
			if err := k.validate(); err != nil {
				return nil, fmt.Errorf("store: %w", err)
			}
			ops[i] = clientv3.OpGet(sessionPath(k))
		}
		var resp *clientv3.TxnResponse
		if err := s.retry(ctx, opRead, func(ctx context.Context) (err error) {
			resp, err = s.client.Txn(ctx).Then(ops...).Commit()
			return err
		}); err != nil {
			return nil, err
		}
		for _, r := range resp.Responses {
			results = append(results, s.sessionFound(r.GetResponseRange().Kvs, resp.Header.Revision))
		}
	}
	return results, nil
}

// decode reads a value that may be anybody's. What it cannot read it logs,
// counts, and returns as the zero value and false.
func decode[T any](s *Store, kind string, kv *mvccpb.KeyValue) (T, bool) {
	var v T
	if err := json.Unmarshal(kv.Value, &v); err != nil {
		s.unreadable(kind, kv, err)
		var zero T
		return zero, false
	}
	return v, true
}

func (s *Store) unreadable(kind string, kv *mvccpb.KeyValue, err error) {
	s.metrics.unread.WithLabelValues(kind).Inc()
	s.log.Warn("Unreadable record in etcd was left out", "kind", kind, "key", string(kv.Key), "revision", kv.ModRevision, "error", err)
}
