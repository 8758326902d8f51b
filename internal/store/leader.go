package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// LeaderTTL is how long a leader that has vanished stays the leader.
const LeaderTTL = 2 * time.Second

// Leadership is one term of one leader. Its writes compare that the term still
// runs, in the same transaction.
type Leadership struct {
	s     *Store
	lease *tenure
	key   string
	term  int64
}

// Campaign blocks until this process leads, or ctx ends. What it has won lasts
// beyond ctx, until it is lost or resigned. The id is for people (etcdctl).
func (s *Store) Campaign(ctx context.Context, id string) (*Leadership, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	for wait := (backoff{}); ; {
		l, err := s.campaign(ctx, id)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("store: campaign: %w", ctx.Err())
		}
		s.log.Debug("A campaign failed; trying again", "error", err)
		if wait.sleep(ctx) != nil {
			return nil, fmt.Errorf("store: campaign: %w", ctx.Err())
		}
		s.metrics.retries.WithLabelValues(opCampaign).Inc()
	}
}

// campaign stands once, with a lease of its own.
func (s *Store) campaign(ctx context.Context, id string) (*Leadership, error) {
	var (
		lease clientv3.LeaseID
		ttl   time.Duration
	)
	asked := s.clock()
	if err := s.attempt(ctx, opCampaign, func(ctx context.Context) (err error) {
		lease, ttl, err = s.grant(ctx, LeaderTTL)
		return err
	}); err != nil {
		return nil, err
	}
	held := s.hold(lease, kindLeader, asked, ttl)
	l, err := s.elect(ctx, id, held)
	if err != nil {
		// Others need not wait for our lease to end.
		held.finish()
		_ = s.attempt(s.ctx, opCampaign, func(ctx context.Context) error {
			_, err := s.client.Revoke(ctx, lease)
			return err
		})
		return nil, err
	}
	return l, nil
}

func (s *Store) elect(ctx context.Context, id string, held *tenure) (*Leadership, error) {
	// The campaign waits in a watch; a lost lease must end that.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	s.spawn(func() {
		select {
		case <-held.lost:
			cancel()
		case <-ctx.Done():
		}
	})
	// A client of which only the renewal of the lease is ours.
	client := clientv3.NewCtxClient(held.ctx)
	client.KV, client.Watcher, client.Lease = s.client.KV, s.client.Watcher, heldLease{s.client.Lease, held}
	session, err := concurrency.NewSession(client, concurrency.WithLease(held.id))
	if err != nil {
		return nil, fmt.Errorf("store: campaign: %w", err)
	}
	election := concurrency.NewElection(session, electionRoot)
	if err := election.Campaign(ctx, id); err != nil {
		return nil, fmt.Errorf("store: campaign: %w", err)
	}
	l := &Leadership{s: s, lease: held, key: election.Key(), term: election.Rev()}
	// Campaign does not notice when our own key vanished while it waited.
	if err := s.attempt(ctx, opCampaign, func(ctx context.Context) error {
		_, err := l.commit(ctx)
		return err
	}); err != nil {
		return nil, err
	}
	return l, nil
}

// heldLease lets a concurrency.Session live and end with a tenure.
type heldLease struct {
	clientv3.Lease
	held *tenure
}

func (h heldLease) KeepAlive(context.Context, clientv3.LeaseID) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	ended := make(chan *clientv3.LeaseKeepAliveResponse)
	if !h.held.s.spawn(func() { <-h.held.lost; close(ended) }) {
		close(ended)
	}
	return ended, nil
}

// Term is greater for every later leader: the revision at which it stood.
func (l *Leadership) Term() int64 { return l.term }

// Lost is closed when the term has ended: its lease was lost, a write was
// refused, or it was resigned.
func (l *Leadership) Lost() <-chan struct{} { return l.lease.lost }

// Resign ends the term, so that another may begin at once.
func (l *Leadership) Resign(ctx context.Context) error { return l.lease.give(ctx) }

// guard is what must hold for a write of this term.
func (l *Leadership) guard() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(l.key), "=", l.term)
}

// commit makes ops if the term still runs; else ErrNotLeader.
func (l *Leadership) commit(ctx context.Context, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	resp, err := l.s.client.Txn(ctx).If(l.guard()).Then(ops...).Commit()
	if err == nil && !resp.Succeeded {
		l.lease.finish()
		return nil, ErrNotLeader
	}
	return resp, err
}

// PutDirective writes what a server is to do, with this term. What stands
// already is not written again. One without a Failover never replaces one with.
func (l *Leadership) PutDirective(ctx context.Context, server string, d Directive) error {
	if err := validServer(server); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	d.Term = l.term
	value, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("store: encode directive: %w", err)
	}
	path := directivesRoot + server
	return l.s.retry(ctx, opDirect, func(ctx context.Context) error {
		resp, err := l.commit(ctx, clientv3.OpGet(path))
		if err != nil {
			return err
		}
		revision := int64(0)
		if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			revision = kvs[0].ModRevision
			if now, ok := decode[Directive](l.s, kindDirective, kvs[0]); ok && (reflect.DeepEqual(now, d) || d.Failover == "" && now.Failover != "") {
				return nil
			}
		}
		put := clientv3.OpPut(path, string(value))
		if d.Failover != "" {
			_, err = l.commit(ctx, put)
			return err
		}
		resp, err = l.commit(ctx, clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(path), "=", revision)}, []clientv3.Op{put}, nil))
		if err == nil && !resp.Responses[0].GetResponseTxn().Succeeded {
			return errChanged
		}
		return err
	})
}

// DeleteDirective takes a server's directive away, if it is that failover's. If
// that was a drain, its share is Due from then on.
func (l *Leadership) DeleteDirective(ctx context.Context, server, failover string) error {
	if err := validServer(server); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	path := directivesRoot + server
	return l.s.retry(ctx, opDirect, func(ctx context.Context) error {
		resp, err := l.commit(ctx, clientv3.OpGet(path))
		if err != nil {
			return err
		}
		kvs := resp.Responses[0].GetResponseRange().Kvs
		if len(kvs) == 0 {
			return nil
		}
		now, _ := decode[Directive](l.s, kindDirective, kvs[0])
		if now.Failover != failover {
			return nil
		}
		ops := []clientv3.Op{clientv3.OpDelete(path)}
		if now.Drain {
			due, err := l.due(server, now)
			if err != nil {
				return err
			}
			ops = append(ops, due)
		}
		resp, err = l.commit(ctx, clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(path), "=", kvs[0].ModRevision)}, ops, nil))
		if err == nil && !resp.Responses[0].GetResponseTxn().Succeeded {
			return errChanged
		}
		return err
	})
}

// MarkOffline writes sessions as WriteSessions does, if the term still runs;
// else nothing, and ErrNotLeader.
func (l *Leadership) MarkOffline(ctx context.Context, writes []SessionWrite) ([]SessionResult, error) {
	results, err := l.s.writeSessions(ctx, opOffline, writes, l.guard())
	if errors.Is(err, ErrNotLeader) {
		l.lease.finish()
	}
	return results, err
}
