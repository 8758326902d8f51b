package sampler

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/agent/stall"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestWhoIsHeldUpSaysThatItIsNotWell(t *testing.T) {
	s, err := New(Config{
		Node: "n1", Cluster: struct{ Cluster }{}, Presence: "rollcall/nodes", Servers: []string{"127.0.0.1:1"},
		Token:  func(context.Context) (string, error) { return "secret", nil },
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1, 0)
	var said wire.Report
	for _, wakes := range []struct {
		what  string
		after time.Duration // the last time
		late  time.Duration
		want  int // its health
	}{
		{"as late as anybody may be", time.Second, stall.Limit, 0},
		{"later", time.Second, stall.Limit + time.Millisecond, 1},
		{"in time, soon after", time.Second, 0, 1},
		{"in time, as long after as that counts", stall.Memory - time.Second, 0, 0},
	} {
		now = now.Add(wakes.after)
		s.woke(now.Add(-wakes.late), now)
		s.board.Take(&said)
		if said.Health != wakes.want {
			t.Errorf("it wakes %s: its health is %d, want %d", wakes.what, said.Health, wakes.want)
		}
	}
}
