package heap

import (
	"context"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// TestMemoryIsGivenBackAfterARush fills the heap and lets go of it, and waits
// until the system has it back.
func TestMemoryIsGivenBackAfterARush(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Keep(ctx, Config{Percent: 400}) }()
	rush := make([][]byte, 64)
	for i := range rush {
		rush[i] = make([]byte, 1<<20)
		for j := 0; j < len(rush[i]); j += 4096 {
			rush[i][j] = 1
		}
	}
	runtime.KeepAlive(rush) // and no longer
	held := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		metrics.Read(held)
		if held[0].Value.Uint64()+held[1].Value.Uint64() < 32<<20 {
			break
		}
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatal("memory was not given back")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

func TestKeeperDecides(t *testing.T) {
	const mb = 1 << 20
	now := time.Unix(1000, 0)
	for _, test := range []struct {
		name string
		k    keeper
		s    sample
		want bool
	}{
		{"at rest with garbage", keeper{}, sample{allocated: 0, live: 20 * mb, held: 30 * mb}, true},
		{"in a rush", keeper{}, sample{allocated: 10 * mb, live: 20 * mb, held: 30 * mb}, false},
		{"at rest and tidy", keeper{}, sample{live: 20 * mb, held: 22 * mb}, false},
		{"what cannot be given back is left", keeper{kept: 9 * mb}, sample{live: 20 * mb, held: 30 * mb}, false},
		{"not again so soon", keeper{at: now.Add(-time.Second)}, sample{live: 20 * mb, held: 30 * mb}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.k.decide(test.s, now); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
