package suspicion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-dev/rollcall/agent/gossip"
	"github.com/rollcall-dev/rollcall/agent/stall"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// fakeGossip is a network in a bubble: agents answer in 1 ms or not at all.
type fakeGossip struct {
	changed chan struct{}

	mu      sync.Mutex
	silent  map[string]bool
	members map[string]gossip.Member
	pings   int
}

func (f *fakeGossip) Ping(node, _ string) (time.Duration, error) {
	f.mu.Lock()
	silent := f.silent[node]
	f.pings++
	f.mu.Unlock()
	if silent {
		<-time.After(150 * time.Millisecond)
		return 0, errors.New("no answer")
	}
	<-time.After(time.Millisecond)
	return time.Millisecond, nil
}

func (f *fakeGossip) Member(node string) (gossip.Member, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, ok := f.members[node]
	return m, ok
}

func (f *fakeGossip) Changed() <-chan struct{} { return f.changed }

func (f *fakeGossip) set(change func()) {
	f.mu.Lock()
	change()
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func TestReporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex
		var log []string
		tell := func(format string, a ...any) {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, fmt.Sprintf(format, a...)+fmt.Sprintf("@%d", time.Since(start).Milliseconds()))
		}
		g := &fakeGossip{changed: make(chan struct{}, 1), silent: map[string]bool{}, members: map[string]gossip.Member{}}
		r := New(Config{
			Gossip: g, Port: 10250,
			Dial: func(ctx context.Context, address string) error {
				if address == "10.0.0.2:10250" {
					return &os.SyscallError{Syscall: "connect", Err: syscall.ECONNREFUSED}
				}
				<-ctx.Done()
				return ctx.Err()
			},
			Observe: func(node string, s wire.Suspicion) { tell("%s %s", node, s.Word) },
			Forget:  func(node string) { tell("%s forgotten", node) },
			Stall:   &stall.Watch{}, Logger: slog.New(slog.DiscardHandler),
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()

		a, b := Target{Node: "a", Address: "10.0.0.1"}, Target{Node: "b", Address: "10.0.0.2"}
		r.SetTargets([]Target{a, b})
		<-time.After(time.Second)
		g.set(func() { g.silent["a"], g.silent["b"] = true, true })
		<-time.After(4 * time.Second)
		g.set(func() { clear(g.silent) })
		<-time.After(2 * time.Second)
		g.set(func() { g.members["a"] = gossip.Member{Node: "a", State: gossip.Left}; g.silent["a"] = true })
		<-time.After(time.Second)
		r.SetTargets([]Target{b})
		<-time.After(time.Second)
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		counts := map[string]int{}
		for _, l := range log {
			word, _, _ := strings.Cut(l, "@")
			counts[word]++
		}
		for _, want := range []string{"a suspect", "a dead", "b suspect", "b agentDown", "a left", "a forgotten"} {
			if counts[want] != 1 {
				t.Errorf("%q was told %d times, want once", want, counts[want])
			}
		}
		if counts["a alive"] != 2 || counts["b alive"] != 2 {
			t.Errorf("alive was told %d and %d times, want twice each", counts["a alive"], counts["b alive"])
		}
		if t.Failed() {
			t.Log(strings.Join(log, "\n"))
		}
	})
}

// Who answers gossip's own questions is not asked twice, and found dead as soon.
func TestWhoAnswersGossipIsNotPinged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGossip{changed: make(chan struct{}, 1), silent: map[string]bool{}, members: map[string]gossip.Member{}}
		words := make(chan wire.Suspicion, 10)
		r := New(Config{
			Gossip: g, Port: 10250,
			Dial:    func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() },
			Observe: func(_ string, s wire.Suspicion) { words <- s },
			Forget:  func(string) {},
			Stall:   &stall.Watch{}, Logger: slog.New(slog.DiscardHandler),
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		r.SetTargets([]Target{{Node: "a", Address: "10.0.0.1"}})
		var last time.Time
		for range 100 {
			<-time.After(400 * time.Millisecond)
			last = time.Now()
			g.set(func() { g.members["a"] = gossip.Member{State: gossip.Alive, Answered: last} })
		}
		g.mu.Lock()
		pings := g.pings
		g.silent["a"] = true
		g.mu.Unlock()
		if pings != 1 { // before gossip had said anything
			t.Errorf("it was pinged %d times in 40 s", pings)
		}
		for _, want := range []wire.NodeWord{wire.NodeAlive, wire.NodeSuspect, wire.NodeDead} {
			if s := <-words; s.Word != want {
				t.Fatalf("it says %s, want %s", s.Word, want)
			}
		}
		if took := time.Since(last); took > 2400*time.Millisecond {
			t.Errorf("it was found dead %v after its last answer", took)
		}
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestContact(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if got := contact(dial(t.Context(), l.Addr().String())); got != ContactMade {
		t.Errorf("a port that accepts: %v", got)
	}
	l.Close()
	if got := contact(dial(t.Context(), l.Addr().String())); got != ContactMade {
		t.Errorf("a port that resets: %v", got)
	}
	for err, want := range map[error]Contact{
		syscall.EHOSTUNREACH:     ContactNone,
		context.DeadlineExceeded: ContactNone,
		syscall.ENETUNREACH:      ContactUnknown,
		syscall.EMFILE:           ContactUnknown,
	} {
		if got := contact(fmt.Errorf("connect: %w", err)); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}
