package store

import (
	"context"
	"errors"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// reconcile writes what reports demand, until the store ends.
func (s *Store) reconcile() {
	r := &s.reports
	select {
	case <-r.mirror:
	case <-s.ctx.Done():
		return
	}
	var wait backoff
	for {
		select {
		case <-r.work:
		case <-s.ctx.Done():
			return
		}
		for todo := r.differences(); len(todo) > 0; todo = r.differences() {
			err := s.writeChanges(todo)
			if err == nil {
				wait = backoff{}
				continue
			}
			s.log.Debug("Reports could not be written; trying again", "error", err)
			if wait.sleep(s.ctx) != nil {
				return
			}
			s.metrics.retries.WithLabelValues(opReport).Inc()
		}
	}
}

// writeChanges makes changes under a compare of each key's revision, and notes
// what then is known of those keys, whether the compare held or not.
func (s *Store) writeChanges(todo []change) error {
	r := &s.reports
	for batch := range slices.Chunk(todo, MaxBatch) {
		lease, err := s.reportLease()
		if err != nil {
			return err
		}
		ops := make([]clientv3.Op, len(batch))
		for i, c := range batch {
			then := clientv3.OpDelete(c.key)
			if c.word != nil {
				then = clientv3.OpPut(c.key, c.word.value, clientv3.WithLease(clientv3.LeaseID(lease)))
			}
			ops[i] = clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(c.key), "=", c.revision)},
				[]clientv3.Op{then},
				[]clientv3.Op{clientv3.OpGet(c.key)},
			)
		}
		var resp *clientv3.TxnResponse
		err = s.attempt(s.ctx, opReport, func(ctx context.Context) (err error) {
			resp, err = s.client.Txn(ctx).Then(ops...).Commit()
			return err
		})
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			s.bucketGone(lease)
			r.mu.Lock()
			r.bucket = 0
			r.mu.Unlock()
		}
		if err != nil {
			return err
		}
		r.mu.Lock()
		for i, c := range batch {
			one := resp.Responses[i].GetResponseTxn()
			if one.Succeeded {
				r.know(c.key, c.author, resp.Header.Revision, c.word)
				continue
			}
			if kvs := one.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
				s.noteReport(kvs[0])
			} else {
				r.know(c.key, c.author, resp.Header.Revision, nil)
			}
		}
		r.mu.Unlock()
	}
	return nil
}

// reportLease is the lease that agents' words hang on: a bucket, so that they
// disappear in the end when both the agent and this server have. While one of
// them lives they stay, or are written again.
func (s *Store) reportLease() (BucketID, error) {
	r := &s.reports
	r.mu.Lock()
	id := r.bucket
	r.mu.Unlock()
	if id != 0 {
		return id, nil
	}
	var lease clientv3.LeaseID
	if err := s.attempt(s.ctx, opLease, func(ctx context.Context) (err error) {
		lease, _, err = s.grant(ctx, BucketTTL)
		return err
	}); err != nil {
		return 0, err
	}
	id = BucketID(lease)
	s.buckets.add(id)
	r.mu.Lock()
	r.bucket = id
	r.mu.Unlock()
	return id, nil
}

// mirrorReports keeps one half of the mirror, the keys under root.
func (s *Store) mirrorReports(root string) {
	r := &s.reports
	kind := kindObservation
	if root == suspicionsRoot {
		kind = kindSuspicion
	}
	first := true
	s.watching.Add(1)
	defer s.watching.Add(-1)
	s.follow(s.ctx, follower{
		kind: kind,
		root: root,
		begin: func(ctx context.Context) (int64, error) {
			var all []*mvccpb.KeyValue
			rev, err := s.list(ctx, root, func(kv *mvccpb.KeyValue) { all = append(all, kv) })
			if err != nil {
				return 0, err
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			for key, old := range r.records {
				if strings.HasPrefix(key, root) { // what we wrote since the list, the watch will show
					delete(r.records, key)
					delete(r.mine[old.author], key)
				}
			}
			for _, kv := range all {
				s.noteReport(kv)
			}
			for author := range r.last {
				r.mark(author)
			}
			if first {
				first = false
				if r.loaded++; r.loaded == 2 {
					close(r.mirror)
				}
			}
			return rev, nil
		},
		changes: func(_ int64, events []*clientv3.Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, e := range events {
				if e.Type == mvccpb.Event_DELETE {
					if author, _, ok := authorOf(string(e.Kv.Key)); ok {
						r.know(string(e.Kv.Key), author, e.Kv.ModRevision, nil)
						r.mark(author)
					}
					continue
				}
				r.mark(s.noteReport(e.Kv))
			}
		},
	})
}

// noteReport notes what etcd holds of an agent, and returns who that is. What it
// cannot read is taken for the oldest word there is. reports.mu is held.
func (s *Store) noteReport(kv *mvccpb.KeyValue) string {
	key := string(kv.Key)
	author, kind, ok := authorOf(key)
	if !ok {
		s.unreadable(kind, kv, errors.New("not the key of an "+kind))
		return ""
	}
	var w word
	if kind == kindObservation {
		rec, _ := decode[Observation](s, kind, kv)
		w = rec.word()
	} else {
		rec, _ := decode[Suspicion](s, kind, kv)
		w = rec.word()
	}
	s.reports.know(key, author, kv.ModRevision, &w)
	return author
}

// authorOf tells by its key who says something, and of what kind it is.
func authorOf(key string) (author, kind string, ok bool) {
	if rest, is := strings.CutPrefix(key, observationsRoot); is {
		k, ok := parseObservation(rest)
		return k.Observer, kindObservation, ok
	}
	k, ok := parseSuspicion(strings.TrimPrefix(key, suspicionsRoot))
	return k.Reporter, kindSuspicion, ok
}
