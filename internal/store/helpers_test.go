package store

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// opened is a store with what a test needs beside it.
type opened struct {
	*Store
	ctx    context.Context
	jumped atomic.Int64 // nanoseconds that its clock is ahead
}

func openStore(t testing.TB, endpoints []string) *opened {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	o := &opened{ctx: ctx}
	s, err := open(ctx, Config{
		Endpoints:  endpoints,
		Logger:     slog.New(slog.NewTextHandler(t.Output(), nil)),
		Registerer: prometheus.NewPedanticRegistry(),
	}, func() time.Time { return time.Now().Add(time.Duration(o.jumped.Load())) })
	if err != nil {
		cancel()
		t.Fatalf("open: %v", err)
	}
	o.Store = s
	t.Cleanup(func() {
		cancel()
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return o
}

// until waits for a condition.
func until(t testing.TB, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !met(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func closes(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain: %s", what)
	}
}

func next[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatal("the channel was closed")
		}
		return v
	case <-time.After(patience):
		t.Fatal("waited in vain for an update")
	}
	panic("unreachable")
}

func (o *opened) count(op, outcome string) int {
	return int(testutil.ToFloat64(o.metrics.requests.WithLabelValues(op, outcome)))
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (o *opened) bucket(t testing.TB, server, incarnation string) BucketID {
	t.Helper()
	return must(o.NewBucket(o.ctx, server, incarnation))(t).ID
}

func (o *opened) write(t testing.TB, writes ...SessionWrite) []SessionResult {
	t.Helper()
	return must(o.WriteSessions(o.ctx, writes))(t)
}

func (o *opened) read(t testing.TB, k SessionKey) SessionResult {
	t.Helper()
	return must(o.ReadSessions(o.ctx, []SessionKey{k}))(t)[0]
}

func client(name string) SessionKey {
	return SessionKey{Namespace: "im", Presence: "android", Client: name}
}

func numbered(i int) SessionKey { return client(fmt.Sprintf("client-%05d", i)) }

// session is one that is online on a server, at its first incarnation.
func session(server string) Session {
	return Session{Server: server, Incarnation: server + ".1", Since: 1, Interval: 5000}
}

func wins(results []SessionResult) []bool {
	var w []bool
	for _, r := range results {
		w = append(w, r.Won)
	}
	return w
}

func expectWins(t testing.TB, results []SessionResult, want ...bool) {
	t.Helper()
	if got := wins(results); !slices.Equal(got, want) {
		t.Fatalf("won: %v, want %v", got, want)
	}
}

func count(t testing.TB, raw *clientv3.Client, root string) int64 {
	t.Helper()
	return must(raw.Get(context.Background(), root, clientv3.WithPrefix(), clientv3.WithCountOnly()))(t).Count
}

// reported is a report of one observation, of server A.
func reported(node string, seq int64, band wire.Band) wire.Report {
	return wire.Report{
		Node: node, Zone: "z1", Boot: 1, Seq: seq,
		Observations: map[string]wire.Observation{serverA: {Band: band, Address: "127.0.0.1:1", Answer: 800}},
	}
}
