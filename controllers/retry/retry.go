// Package retry repeats calls to the API server and the store with jittered
// backoff, and counts them. It is not for what must be decided anew: a caller
// whose decision may be stale gives up instead.
package retry

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// The bounds of the backoff; each wait is anywhere between zero and the bound
// (full jitter), which doubles.
const (
	First = 50 * time.Millisecond
	Last  = 5 * time.Second
)

// Retrier repeats calls.
type Retrier struct {
	logger  *slog.Logger
	retries *prometheus.CounterVec
}

// New makes a Retrier. what names every operation that it will be used for: the
// label values of its counter.
func New(logger *slog.Logger, registerer prometheus.Registerer, what ...string) (*Retrier, error) {
	r := &Retrier{logger: logger, retries: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rollcall_controller_retries_total",
		Help: "Calls to the API server or the store that failed and were made again, by what they were for.",
	}, []string{"operation"})}
	for _, w := range what {
		r.retries.WithLabelValues(w)
	}
	return r, registerer.Register(r.retries)
}

// Do calls f until it succeeds, the context ends, or the error is one that
// another attempt cannot mend. It returns the last error.
func (r *Retrier) Do(ctx context.Context, operation string, f func(context.Context) error) error {
	for bound := First; ; bound = min(2*bound, Last) {
		err := f(ctx)
		if err == nil || ctx.Err() != nil || Final(err) {
			return err
		}
		r.retries.WithLabelValues(operation).Inc()
		wait := rand.N(bound)
		if asked, ok := apierrors.SuggestsClientDelay(err); ok {
			wait += time.Duration(asked) * time.Second
		}
		r.logger.Warn("Call failed, and is made again", "operation", operation, "after", wait, "err", err)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return err
		case <-t.C:
		}
	}
}

// Count counts a failure of an operation that something else will repeat.
func (r *Retrier) Count(operation string) { r.retries.WithLabelValues(operation).Inc() }

// Final tells whether another attempt cannot mend an error: the object is gone
// or is refused, or this process doesn't lead any more.
func Final(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) ||
		apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) ||
		apierrors.HasStatusCause(err, "NamespaceTerminating") ||
		errors.Is(err, store.ErrNotLeader) || errors.Is(err, store.ErrLost)
}

// Limiter paces the reconciler's own repetitions in the same way.
func Limiter() workqueue.TypedRateLimiter[reconcile.Request] {
	return jittered{workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](First, Last)}
}

type jittered struct {
	workqueue.TypedRateLimiter[reconcile.Request]
}

func (j jittered) When(r reconcile.Request) time.Duration {
	return rand.N(j.TypedRateLimiter.When(r) + 1)
}
