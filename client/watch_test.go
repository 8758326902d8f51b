package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// watching collects what a Watch tells.
func (s *subject) watching(ctx context.Context, presence, client string) <-chan Change {
	told := make(chan Change)
	go func() {
		defer close(told)
		for c, err := range s.Watch(ctx, presence, client) {
			if err != nil {
				c.Client = "error: " + err.Error()
			}
			told <- c
		}
	}()
	return told
}

func TestAWatchGoesOnAcrossServers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a, hint(b, 0)), server(b)
		s := newWorld(one, two).start(t, nil, a)
		ctx, stop := context.WithCancel(t.Context())
		told := s.watching(ctx, "im/android", "") // before there is a connection
		s.expect(Connected, a)
		next := func(client string, online bool, revision int64) {
			t.Helper()
			if c := <-told; c.Client != client || c.Online != online || c.Revision != revision {
				t.Errorf("told %+v, want %q %v at %d", c, client, online, revision)
			}
		}
		s.quiet(time.Second)
		if f := one.subscribed(); !slices.Equal(f, []string{"$rollcall/presence/im/android/+"}) {
			t.Errorf("subscribed to %v", f)
		}
		one.publish("ann", wire.PresenceState{State: wire.StateOnline, Revision: 5, Interval: 5000, Server: "test/a"}, true)
		one.publish("bob", wire.PresenceState{State: wire.StateOnline, Revision: 6}, true)
		one.publish(wire.EveryClient, wire.PresenceState{State: wire.StateCurrent, Revision: 7}, true)
		one.publish("cid", wire.PresenceState{State: wire.StateOnline, Revision: 8}, false)
		one.publish("cid", wire.PresenceState{State: wire.StateOnline, Revision: 8}, false)
		if c := <-told; c.Client != "ann" || c.Interval != 5*time.Second || c.Server != "test/a" {
			t.Errorf("%+v", c)
		}
		next("bob", true, 6)
		next("", false, 7)
		next("cid", true, 8)
		one.hangUp()
		s.expect(Moved, b)
		s.quiet(time.Second)
		two.publish("bob", wire.PresenceState{State: wire.StateOnline, Revision: 6}, true)
		two.publish("cid", wire.PresenceState{State: wire.StateOnline, Revision: 12}, true)
		two.publish(wire.EveryClient, wire.PresenceState{State: wire.StateCurrent, Revision: 13}, true)
		next("cid", true, 12)
		next("ann", false, 13)
		next("", false, 13)
		stop()
		if c, ok := <-told; ok {
			t.Errorf("told %+v after the end", c)
		}
		s.quiet(time.Second)
		if f := two.subscribed(); len(f) != 0 {
			t.Errorf("still subscribed to %v", f)
		}
		s.close()
	})
}

func TestASlowWatchDelaysNobodyAndIsToldTheLatest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		s := newWorld(one).start(t, nil)
		s.expect(Connected, a)
		ctx, stop := context.WithCancel(t.Context())
		told := s.watching(ctx, "im/android", "")
		s.quiet(time.Second)
		one.publish("ann", wire.PresenceState{State: wire.StateOnline, Revision: 1}, false)
		s.quiet(time.Second) // it is told of her, and reads no more
		for n := range 1000 {
			one.publish("bob", wire.PresenceState{State: wire.StateOnline, Revision: int64(2*n + 2)}, false)
			one.publish("cid", wire.PresenceState{State: wire.StateOffline, Revision: int64(2*n + 3)}, false)
		}
		s.quiet(10 * time.Minute) // and nobody reads
		for _, want := range []Change{{Client: "ann", Revision: 1}, {Client: "bob", Revision: 2000}, {Client: "cid", Revision: 2001}} {
			if c := <-told; c.Client != want.Client || c.Revision != want.Revision {
				t.Errorf("told %+v, want %+v", c, want)
			}
		}
		stop()
		if c, ok := <-told; ok {
			t.Errorf("told %+v, and that was all", c)
		}
		s.close()
	})
}

func TestAWatchThatIsRefusedSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		one.suback = 0x80 | 0x07 // not authorized
		s := newWorld(one).start(t, nil)
		s.expect(Connected, a)
		for _, err := range s.Watch(t.Context(), "im/android", "") {
			var refusal *Refusal
			if !errors.As(err, &refusal) || !errors.Is(err, ErrCredentials) || refusal.Packet != "SUBACK" {
				t.Errorf("error %v", err)
			}
		}
		for _, bad := range [][2]string{{"android", ""}, {"im/android", "a b"}, {"im/android", "+"}} {
			n := 0
			for _, err := range s.Watch(t.Context(), bad[0], bad[1]) {
				if n++; err == nil {
					t.Errorf("%v: no error", bad)
				}
			}
			if n != 1 {
				t.Errorf("%v: %d errors, want 1", bad, n)
			}
		}
		one.set(func() { one.suback = 0 })
		told := s.watching(t.Context(), "im/android", "")
		s.quiet(time.Second)
		s.close()
		if c := <-told; !strings.Contains(c.Client, ErrClosed.Error()) {
			t.Errorf("told %+v, want that the client is closed", c)
		}
	})
}
