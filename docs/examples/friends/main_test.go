package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/client/clienttest"
)

func TestMain(m *testing.M) {
	clienttest.Main()
	m.Run()
}

func TestAFriendComesIsMovedAndGoes(t *testing.T) {
	if testing.Short() {
		t.Skip("runs an etcd")
	}
	s := clienttest.Start(t, clienttest.Config{Servers: 2})
	limit, done := context.WithTimeout(t.Context(), 2*time.Minute)
	defer done()
	cfg := client.Config{Servers: s.Addresses(), Presence: clienttest.Presence}
	ctx, stop := context.WithCancel(limit)
	defer stop()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		mine := cfg
		mine.ClientID = "ann"
		err := run(ctx, mine, []string{"bob", "cid"}, in)
		_ = in.CloseWithError(err)
		ended <- err
	}()
	lines := bufio.NewScanner(out)
	expect := func(want string) {
		t.Helper()
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
			t.Fatalf("told %q (%v), want %q", lines.Text(), lines.Err(), want)
		}
	}
	moved := make(chan client.Event, 10)
	bobs := cfg
	bobs.ClientID, bobs.AckTimeout = "bob", 10*time.Second
	bobs.OnEvent = func(e client.Event) { moved <- e }
	bob, err := client.Dial(limit, bobs)
	if err != nil {
		t.Fatal(err)
	}
	defer bob.Close()
	expect("bob is here")
	bob.Move()
	for e := range moved {
		if e.Kind == client.Moved {
			break
		}
	}
	_, at := bob.Server()
	s.Recorded(t, "bob", at)
	if err := bob.Close(); err != nil {
		t.Error(err)
	}
	expect("bob is gone") // and nothing of the move
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
