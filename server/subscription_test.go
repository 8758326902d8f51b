package server

import (
	"context"
	"errors"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server/watch"
)

// full is a link whose client takes nothing, or everything.
type full struct {
	link
	waits   int // bytes that it has not taken
	written int
}

func (f *full) unsent() int          { return f.waits }
func (f *full) write(b []byte) error { f.written += len(b); return nil }

func TestWhatASubscriptionHasNotSentTakesNothing(t *testing.T) {
	l := &full{waits: 1}
	ctx, cancel := context.WithCancel(t.Context())
	s := &subscription{
		p: &peer{s: &Server{}, link: l}, subs: &subscriptions{window: newWindow(4)}, topic: watch.Topic{Namespace: "im", Presence: "phone"},
		stop: cancel, qos: 1,
	}
	message := watch.Message{Client: "c", Payload: []byte(wire.StateOnline)}
	for range 3 {
		if err := s.Send(ctx, message); err != nil {
			t.Fatal(err)
		}
	}
	s.end()
	l.waits = 0 // but it is too late
	err := s.Flush(ctx)
	if !errors.Is(err, context.Canceled) || l.written > 0 {
		t.Errorf("after its end it wrote %d bytes: %v", l.written, err)
	}
	s.over(ctx, err)
	for i := range 4 {
		if _, ok := s.subs.window.try(); !ok {
			t.Fatalf("only %d of 4 may be in flight", i)
		}
	}
}
