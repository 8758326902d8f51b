package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Full jitter: uniform between 0 and a bound that doubles (AWS Architecture
// Blog, "Exponential Backoff And Jitter").
const (
	backoffMin = 50 * time.Millisecond
	backoffMax = 2 * time.Second
)

// backoff paces retries. Its zero value is ready.
type backoff struct{ bound time.Duration }

// next is how long to wait this time.
func (b *backoff) next() time.Duration {
	b.bound = min(max(2*b.bound, backoffMin), backoffMax)
	return rand.N(b.bound) + time.Millisecond
}

// sleep waits for the next turn; it returns ctx's error when that ends first.
func (b *backoff) sleep(ctx context.Context) error { return pause(ctx, b.next()) }

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sent travels in a request's context, and tells whether the request ever
// reached a connection.
type sent struct{ yes bool }

type sentKey struct{}

// harmless requests change no record, or do the same when they are repeated: a
// missing answer is no more than a reason to ask again.
var harmless = map[string]bool{
	opSync: true, opPulse: true, opList: true, opRead: true, opLease: true, opRenew: true, opClaim: true,
}

// timeoutOf bounds one attempt.
func timeoutOf(op string) time.Duration {
	if op == opReport {
		return reportTimeout
	}
	return requestTimeout
}

// attempt makes a request once, counts it, and says with ErrUnknownOutcome when
// a write may have been applied although no answer came.
func (s *Store) attempt(ctx context.Context, op string, f func(context.Context) error) error {
	var on sent
	rctx, cancel := context.WithTimeout(context.WithValue(ctx, sentKey{}, &on), timeoutOf(op))
	defer cancel()
	begun := time.Now()
	err := f(rctx)
	outcome := outcomeOK
	switch {
	case err == nil:
	case refused(err):
		outcome = outcomeRefused
	case on.yes:
		outcome = outcomeUnknown
	default:
		outcome = outcomeUnsent
	}
	switch {
	case err == nil:
	case outcome == outcomeUnknown && !harmless[op]:
		err = fmt.Errorf("store: %s: %w: %w", op, ErrUnknownOutcome, err)
	default:
		err = fmt.Errorf("store: %s: %w", op, err)
	}
	s.metrics.observe(op, outcome, time.Since(begun))
	return err
}

// retry makes a request that may be repeated, until it is answered, refused for
// good, or ctx ends.
func (s *Store) retry(ctx context.Context, op string, f func(context.Context) error) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	for wait := (backoff{}); ; {
		err := s.attempt(ctx, op, f)
		if err == nil || permanent(err) {
			return err
		}
		if wait.sleep(ctx) != nil {
			return err
		}
		s.metrics.retries.WithLabelValues(op).Inc()
	}
}

// refused tells whether etcd said no: the request was certainly not applied.
func refused(err error) bool {
	if errors.Is(err, ErrNotLeader) || errors.Is(err, ErrLost) || errors.Is(err, ErrTooOld) || errors.Is(err, errChanged) {
		return true
	}
	switch code(err) {
	case codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.OutOfRange,
		codes.ResourceExhausted, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return true
	}
	return false
}

// permanent tells whether trying the same again is useless.
func permanent(err error) bool {
	for _, passing := range []error{rpctypes.ErrTooManyRequests, rpctypes.ErrNoSpace, errChanged} {
		if errors.Is(err, passing) {
			return false
		}
	}
	return refused(err)
}

func code(err error) codes.Code {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code()
	}
	if errors.Is(err, context.Canceled) {
		return codes.Canceled
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return codes.DeadlineExceeded
	}
	var g interface{ GRPCStatus() *status.Status }
	if errors.As(err, &g) {
		return g.GRPCStatus().Code()
	}
	return codes.Unknown
}

// get reads keys, and tries again until etcd answers or ctx ends.
func (s *Store) get(ctx context.Context, op, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	var got *clientv3.GetResponse
	err := s.retry(ctx, op, func(ctx context.Context) (err error) {
		got, err = s.client.Get(ctx, key, opts...)
		return err
	})
	return got, err
}
