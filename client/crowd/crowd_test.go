package crowd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client"
)

// served is a server that answers every beat until it is stopped.
type served struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	done  sync.WaitGroup
}

func serve(t *testing.T) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{Listener: l}
	s.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.done.Go(func() { answer(c) })
		}
	})
	t.Cleanup(s.stop)
	return s
}

func (s *served) stop() {
	_ = s.Close()
	s.mu.Lock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.done.Wait()
}

func TestACrowdMovesAndCounts(t *testing.T) {
	const count = 50
	one, two := serve(t), serve(t)
	first, second := one.Addr().String(), two.Addr().String()
	var events bytes.Buffer
	kinds := make(chan client.Kind, 10*count)
	c, err := New(Config{
		Count: count, Prefix: "x", Presence: "im/android", Servers: []string{first, second},
		StartRate: 5000, AckTimeout: 30 * time.Second, Events: &events, OnLine: func(l Line) { kinds <- l.Kind },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	wait := func(want client.Kind, n int) {
		t.Helper()
		for range n {
			select {
			case got := <-kinds:
				if got != want {
					t.Fatalf("%s, want %s", got, want)
				}
			case <-time.After(time.Minute):
				t.Fatalf("a minute without %s", want)
			}
		}
	}
	wait(client.Connected, count)
	s := c.Snapshot()
	on := s.Connected[first]
	if s.Count != count || s.Started != count || on == 0 || on == count || on+s.Connected[second] != count || s.Moves != 0 {
		t.Errorf("%+v", s)
	}
	one.stop()
	wait(client.Moved, on)
	s = c.Snapshot()
	if s.Connected[second] != count || len(s.Connected) != 1 || s.Moves != on || s.MovesBy["broken"] != on || s.Offline != 0 || s.Late != 0 {
		t.Errorf("%+v", s)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s := c.Snapshot(); len(s.Connected) != 0 {
		t.Errorf("%+v", s)
	}
	lines, moved := 0, 0
	for d := json.NewDecoder(&events); d.More(); lines++ {
		var l Line
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(l.Client, "x-") || l.At.IsZero() {
			t.Errorf("%+v", l)
		}
		if l.Kind == client.Moved {
			moved++
			if l.From != first || l.To != second || l.Reason != "broken" || l.Error == "" {
				t.Errorf("%+v", l)
			}
		}
	}
	if lines != count+on || moved != on {
		t.Errorf("%d lines, %d moved; want %d and %d", lines, moved, count+on, on)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestEventsThatCannotBeWrittenAreAnErrorAtTheEnd(t *testing.T) {
	s := serve(t)
	kinds := make(chan client.Kind, 10)
	c, err := New(Config{Count: 2, Presence: "im/android", Servers: []string{s.Addr().String()}, Events: full{}, OnLine: func(l Line) { kinds <- l.Kind }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	<-kinds
	<-kinds // both connected, although nothing can be written
	stop()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("error %v", err)
	}
}

func TestEveryFaultIsNamed(t *testing.T) {
	limit, known := openFiles()
	if !known {
		t.Skip("no limit of open files here")
	}
	_, err := New(Config{Count: int(limit), Prefix: "a b", StartRate: -1, Presence: "im/android", Servers: []string{"nowhere"}})
	for _, want := range []string{"clients need", "ulimit -n", "ClientID:", "StartRate:", `"nowhere"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing from: %v", want, err)
		}
	}
	if _, err := New(Config{Presence: "im/android", Servers: []string{"x:1"}}); err == nil || !strings.Contains(err.Error(), "Count: 0") {
		t.Errorf("error %v", err)
	}
}
