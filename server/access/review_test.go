package access

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rollcall-dev/rollcall/server"
)

// world is what both sides hold of somebody's rights.
type world struct {
	mu          sync.Mutex
	here, there server.Rights
	away        bool
	asked       int
}

func (w *world) set(f func()) { w.mu.Lock(); defer w.mu.Unlock(); f() }

func (w *world) local(question) server.Rights { w.mu.Lock(); defer w.mu.Unlock(); return w.here }

func (w *world) ask(_ context.Context, _ question, verb string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	for _, v := range verbs {
		if v.name == verb {
			if w.away {
				return false, errors.New("away")
			}
			return w.there.Has(v.right), nil
		}
	}
	return false, errors.New("an unknown verb")
}

func TestTheAPIServersWordCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{here: server.Connect, there: server.Connect}
		m := newMetrics(prometheus.NewRegistry())
		r := newReviews(w.ask, w.local, &Access{cfg: Config{Now: time.Now, Logger: slog.New(slog.DiscardHandler)}, metrics: m})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.run(ctx) }()
		q := question{serviceAccount("im", "app", "", "").subject, "im", "android"}
		check := func(when string, want server.Rights) {
			t.Helper()
			if got := r.correct(q, w.local(q)); got != want {
				t.Errorf("%s: %q, want %q", when, describe(got), describe(want))
			}
		}
		count := func(outcome string, want float64) {
			t.Helper()
			if got := testutil.ToFloat64(m.reviews.WithLabelValues(outcome)); got != want {
				t.Errorf("%v reviews were %s, want %v", got, outcome, want)
			}
		}

		check("at first", server.Connect)
		time.Sleep(time.Second)
		count(reviewSame, 1)
		for range 1000 {
			check("where both agree", server.Connect)
		}
		time.Sleep(time.Second)
		if w.asked != len(verbs) {
			t.Errorf("a thousand arrivals cost %d questions", w.asked)
		}

		w.set(func() { w.here = 0 }) // the watch is ahead
		check("after a change here", 0)
		time.Sleep(time.Second)
		check("in doubt", 0)
		count(reviewDifferent, 0)
		w.set(func() { w.there = 0 })
		time.Sleep(reviewSettles + time.Second)
		count(reviewSame, 2)
		count(reviewDifferent, 0)

		w.set(func() { w.there = server.Connect }) // an authoriser that is not RBAC
		time.Sleep(reviewAgain)
		check("before it is asked again", 0)
		time.Sleep(reviewSettles + time.Second)
		check("when it has said so twice", server.Connect)
		count(reviewDifferent, 1)

		w.set(func() { w.away = true })
		time.Sleep(reviewAgain)
		check("while it is away", server.Connect)
		time.Sleep(time.Minute)
		check("while it is away for long", server.Connect)
		w.set(func() { w.away, w.there = false, 0 })
		time.Sleep(2 * time.Minute)
		check("when it is back, and agrees", 0)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestReviewsAreBounded(t *testing.T) {
	w := &world{here: server.Connect}
	now := time.Unix(noon, 0)
	r := newReviews(w.ask, w.local, &Access{cfg: Config{Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler)}, metrics: newMetrics(prometheus.NewRegistry())})
	defer r.queue.ShutDown()
	for i := range maxReviews + 100 {
		q := question{serviceAccount("im", string(rune('a'+i)), "", "").subject, "im", "android"}
		if r.correct(q, server.Connect) != server.Connect {
			t.Fatal("who is not reviewed has no rights")
		}
	}
	if len(r.known) > maxReviews {
		t.Errorf("%d are known", len(r.known))
	}
}
