package retry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rollcall-dev/rollcall/internal/store"
)

func newRetrier(t *testing.T) *Retrier {
	t.Helper()
	r, err := New(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), "test")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCallsAreMadeAgainUntilTheySucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, calls := newRetrier(t), 0
		err := r.Do(t.Context(), "test", func(context.Context) error {
			if calls++; calls < 4 {
				return apierrors.NewInternalError(errors.New("away"))
			}
			return nil
		})
		if err != nil || calls != 4 || testutil.ToFloat64(r.retries.WithLabelValues("test")) != 3 {
			t.Errorf("%d calls, %v", calls, err)
		}
	})
}

func TestTheContextEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("away")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := newRetrier(t).Do(ctx, "test", func(context.Context) error { return away }); !errors.Is(err, away) {
			t.Errorf("got %v, want the last error", err)
		}
		if ctx.Err() == nil {
			t.Error("it gave up before")
		}
	})
}

func TestWhatAnotherAttemptCannotMendIsFinal(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	for _, c := range []struct {
		err   error
		final bool
	}{
		{apierrors.NewNotFound(pods, "a"), true},
		{apierrors.NewAlreadyExists(pods, "a"), true},
		{fmt.Errorf("directing: %w", store.ErrNotLeader), true},
		{apierrors.NewTooManyRequests("slow down", 1), false},
		{apierrors.NewServiceUnavailable("away"), false},
		{apierrors.NewForbidden(pods, "a", nil), false}, // RBAC may follow
		{store.ErrUnknownOutcome, false},
	} {
		if Final(c.err) != c.final {
			t.Errorf("%v: final is %v", c.err, !c.final)
		}
	}
}
