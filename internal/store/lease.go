package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// grant asks for a lease, and tells for how long it was given: etcd's least is
// 1.5 times its own election timeout, whatever is asked for.
func (s *Store) grant(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, time.Duration, error) {
	got, err := s.client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return 0, 0, err
	}
	return got.ID, time.Duration(got.TTL) * time.Second, nil
}

// renew renews a lease once. ErrLost: there is no such lease.
//
// It does not use the client's KeepAlive, whose one stream for all leases stays
// with a stopped etcd server for as long as gRPC does (12 s), nor its
// KeepAliveOnce, which spins while nothing can be connected to.
func (s *Store) renew(ctx context.Context, id clientv3.LeaseID) (time.Duration, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel() // ends the stream
	asked := s.clock()
	stream, err := pb.NewLeaseClient(s.client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return 0, err
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
		return 0, err
	}
	got, err := stream.Recv()
	if err != nil {
		if errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound) {
			return 0, ErrLost
		}
		return 0, err
	}
	// etcd's leader renews only after it has made sure that it leads.
	s.pulse.answered(asked)
	if got.TTL <= 0 {
		return 0, ErrLost
	}
	return time.Duration(got.TTL) * time.Second, nil
}

// tenure is a lease that is renewed five times in its TTL until it is lost.
// It counts from when the last answered renewal was asked for, on the monotonic
// clock of this process, so that it ends here no later than in etcd, and ends
// too when this process was stopped for too long.
type tenure struct {
	s    *Store
	id   clientv3.LeaseID
	kind string // for logs and metrics

	deadline atomic.Int64 // nanoseconds after the pulse's epoch
	lost     chan struct{}
	end      sync.Once
	ctx      context.Context // ends with the tenure
	cancel   context.CancelFunc
}

// hold begins to renew a lease that was asked for at asked. Nothing is renewed
// on a closed store: then it is lost at once.
func (s *Store) hold(id clientv3.LeaseID, kind string, asked time.Time, ttl time.Duration) *tenure {
	ctx, cancel := context.WithCancel(s.ctx)
	t := &tenure{s: s, id: id, kind: kind, lost: make(chan struct{}), ctx: ctx, cancel: cancel}
	t.extend(asked.Add(ttl))
	if !s.spawn(func() { t.run(ttl) }) {
		t.finish()
	}
	return t
}

// valid tells whether the lease certainly still lives.
func (t *tenure) valid(now time.Time) bool {
	select {
	case <-t.lost:
		return false
	default:
		return t.left(now) > 0
	}
}

func (t *tenure) left(now time.Time) time.Duration {
	return time.Duration(t.deadline.Load()) - now.Sub(t.s.pulse.epoch)
}

func (t *tenure) extend(deadline time.Time) {
	t.deadline.Store(int64(deadline.Sub(t.s.pulse.epoch)))
}

// finish stops the renewal, and says that the lease is lost. It may be called
// more than once.
func (t *tenure) finish() {
	t.cancel()
	t.end.Do(func() { close(t.lost) })
}

func (t *tenure) run(ttl time.Duration) {
	defer t.finish()
	ctx := t.ctx
	var wait backoff
	next := t.interval(ttl)
	for {
		if pause(ctx, min(next, max(t.left(t.s.clock()), 0))) != nil {
			return
		}
		asked := t.s.clock()
		left := t.left(asked)
		if left <= 0 {
			t.gone("Could not be renewed in time")
			return
		}
		var got time.Duration
		err := t.s.attempt(ctx, opRenew, func(ctx context.Context) (err error) {
			ctx, cancel := context.WithTimeout(ctx, min(left, ttl/3))
			defer cancel()
			got, err = t.s.renew(ctx, t.id)
			return err
		})
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrLost):
			t.gone("Expired or revoked")
			return
		case t.left(t.s.clock()) <= 0:
			t.gone("Could not be renewed in time") // even if an answer was waiting here
			return
		case err != nil:
			next = min(wait.next(), ttl/10)
			t.s.metrics.retries.WithLabelValues(opRenew).Inc()
		default:
			wait = backoff{}
			t.extend(asked.Add(got))
			next = t.interval(got)
		}
	}
}

func (t *tenure) gone(why string) {
	t.s.metrics.leases.WithLabelValues(t.kind).Inc()
	t.s.log.Warn("A lease was lost", "kind", t.kind, "lease", int64(t.id), "reason", why)
}

// interval is a fifth of the TTL, less up to a tenth of that.
func (t *tenure) interval(ttl time.Duration) time.Duration {
	return ttl/5 - rand.N(max(ttl/50, 1))
}

// give gives the lease up: what hangs on it disappears at once.
func (t *tenure) give(ctx context.Context) error {
	t.finish()
	return t.s.retry(ctx, opLease, func(ctx context.Context) error {
		_, err := t.s.client.Revoke(ctx, t.id)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil
		}
		return err
	})
}
