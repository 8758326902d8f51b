package server

import (
	"context"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

// A server that was cut off hears of a directive when it is withdrawn already.
func TestADirectiveThatDoesNotStandAnyMoreIsNotFollowed(t *testing.T) {
	etcd, err := store.Open(t.Context(), store.Config{
		Endpoints: storetest.Etcd(t), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	leader, err := etcd.Campaign(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = leader.Resign(context.Background()) }()
	s := &Server{name: "ns/a", log: slog.New(slog.DiscardHandler), drain: drain{wake: make(chan struct{}, 1)}}
	s.cfg.Store, s.cfg.Incarnation = etcd, "a.1"
	old := store.Directive{Failover: "im/old", Incarnation: "a.1", Term: leader.Term(), Drain: true, Rate: 100}
	hear := func() (failover string) {
		t.Helper()
		if err := s.heed(t.Context(), store.Update[string, store.Directive]{Put: map[string]store.Directive{"ns/a": old}}); err != nil {
			t.Fatal(err)
		}
		if s.drain.current == nil {
			return ""
		}
		return s.drain.current.Failover
	}
	if got := hear(); got != "" {
		t.Errorf("it follows %s, and there is none", got)
	}
	for _, now := range []store.Directive{
		{Failover: "im/new", Incarnation: "a.1", Term: leader.Term(), Count: 3, Rate: 1},
		{Failover: "im/others", Incarnation: "a.2", Term: leader.Term(), Drain: true, Rate: 100},
	} {
		if err := leader.PutDirective(t.Context(), "ns/a", now); err != nil {
			t.Fatal(err)
		}
		want := now.Failover
		if now.Incarnation != "a.1" {
			want = "" // another incarnation's
		}
		if got := hear(); got != want {
			t.Errorf("it follows %q, and %s stands", got, now.Failover)
		}
	}
}
