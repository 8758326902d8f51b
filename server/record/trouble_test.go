package record

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// hiccups is a store that answers at once, and fails to take batches while it is asked to.
// It is never away.
type hiccups struct {
	Store // whatever else there is is not called

	mu      sync.Mutex
	fails   bool
	failed  time.Time // when it last did
	rev     int64
	offline time.Time // when somebody was written to be
}

func (s *hiccups) Rewinds() uint32              { return 0 }
func (s *hiccups) Away(time.Time) time.Duration { return 0 }
func (s *hiccups) NewBucket(context.Context, string, string) (store.Bucket, error) {
	return store.Bucket{ID: 1}, nil
}

func (s *hiccups) WriteSessions(_ context.Context, writes []store.SessionWrite) ([]store.SessionResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails {
		s.failed = time.Now()
		return nil, errors.New("the outcome is unknown")
	}
	results := make([]store.SessionResult, len(writes))
	for i, w := range writes {
		s.rev++
		results[i] = store.SessionResult{Won: true, Revision: s.rev, AsOf: s.rev}
		if w.Session.Offline {
			s.offline = time.Now()
		}
	}
	return results, nil
}

func (s *hiccups) ReadSessions(_ context.Context, keys []store.SessionKey) ([]store.SessionResult, error) {
	return make([]store.SessionResult, len(keys)), nil
}

// While batches fail the server that a client has gone to can't say so either.
func TestNobodyIsOfflineSoonAfterABatchHasFailed(t *testing.T) {
	const interval = 2 * time.Second
	// A writer whose batches failed tries again within 1.5 s, and looks every lookEvery.
	const longestPause = 1500*time.Millisecond + 2*lookEvery
	for _, c := range []struct {
		name   string
		failed bool
		silent bool // the client was, for its whole lease; else it has said goodbye
		agent  bool
		wait   time.Duration
	}{
		{"none has failed", false, true, false, 0},
		{"one has, and the client was silent", true, true, false, goneAfter + interval*3/2 + beatSlack},
		{"one has, and the client has left", true, false, false, goneAfter},
		{"one has, and an agent was silent", true, true, true, 0},
		{"one has, and an agent has left", true, false, true, goneAfter},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &hiccups{rev: 10}
				r, err := New(Config{
					Server: "ns/server-0", Incarnation: "server-0.1", Store: s, Gaps: func() uint32 { return 0 },
					Attend: func(store.SessionKey, bool) {}, Lost: func(store.SessionKey, uint64, Loss) {}, Logger: slog.New(slog.DiscardHandler),
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				go func() { _ = r.write(ctx) }()
				go func() { _ = r.observe(ctx) }()
				comes := func(client string) {
					r.Online(Arrival{Key: key(client), Number: 1, Proof: 10, Session: store.Session{Interval: interval.Milliseconds()}, Witness: c.agent})
					time.Sleep(time.Second)
				}
				comes("goes")
				s.mu.Lock()
				s.fails = c.failed
				s.mu.Unlock()
				comes("another")
				s.mu.Lock()
				s.fails = false
				s.mu.Unlock()
				now, seen := time.Now(), time.Now()
				if c.silent {
					seen = seen.Add(-5 * time.Second)
				}
				r.Offline(key("goes"), 1, now, seen)
				time.Sleep(time.Minute)
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.offline.IsZero() || c.failed == s.failed.IsZero() {
					t.Fatalf("it is offline since %v, and a batch failed at %v", s.offline, s.failed)
				}
				since := now
				if c.failed {
					since = s.failed
				}
				if took := s.offline.Sub(since); took < c.wait || took > c.wait+longestPause {
					t.Errorf("it is offline %v after that, want %v", took, c.wait)
				}
			})
		})
	}
}
