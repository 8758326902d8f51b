package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	a = "a:1883"
	b = "b:1883"
	c = "c:1883"
)

func TestBeatsAtOnceAndAtItsInterval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		s := newWorld(one).start(t, nil)
		e := s.expect(Connected, a)
		if e.Server != "test/a" || e.Previous != "" || e.Reason != "" || e.Err != nil {
			t.Errorf("event %+v", e)
		}
		s.quiet(12 * time.Second)
		s.close()
		connects, pings, byes := one.seen()
		var at []time.Duration
		for _, p := range pings {
			at = append(at, p.Sub(e.At))
		}
		if len(at) != 3 || at[0] != 0 || at[1] != 5*time.Second || at[2] != 10*time.Second {
			t.Errorf("pings at %v, want 0s 5s 10s", at)
		}
		connect := connects[0]
		if connect.Username != "im/android" || connect.ClientID != "ann" || connect.KeepAlive != 5 || !connect.CleanStart || one.left() != "" {
			t.Errorf("CONNECT %v", connect)
		}
		if len(byes) != 1 || byes[0] != packets.DisconnectNormalDisconnection {
			t.Errorf("DISCONNECTs %v, want one 0x00", byes)
		}
	})
}

func TestLeavesAHungServerAfterMissesAckTimeouts(t *testing.T) {
	for misses := 1; misses <= 3; misses++ {
		bubble(t, func(t *testing.T) {
			one, two := server(a, hint(b, 10)), server(b)
			s := newWorld(one, two).start(t, func(c *Config) { c.Misses = misses }, a)
			first := s.expect(Connected, a)
			s.quiet(2 * time.Second)
			one.set(func() { one.mute = true }) // the next beat is due at 5 s
			for n := 1; n <= misses; n++ {
				e := s.expect(Late, a)
				if want := 5*time.Second + time.Duration(n)*time.Second; e.At.Sub(first.At) != want {
					t.Errorf("late answer %d at %v, want %v", n, e.At.Sub(first.At), want)
				}
			}
			e := s.expect(Moved, b)
			if want := time.Duration(5+misses) * time.Second; e.At.Sub(first.At) != want {
				t.Errorf("moved after %v, want %v", e.At.Sub(first.At), want)
			}
			if e.Previous != "test/a" || e.Server != "test/b" || e.Reason != wire.LeftLate || !errors.Is(e.Err, ErrLate) {
				t.Errorf("event %+v", e)
			}
			if two.left() != a+" late" {
				t.Errorf("told %q", two.left())
			}
			if _, _, byes := one.seen(); len(byes) != 0 {
				t.Error("a DISCONNECT was sent to the server that was late: it would take the member offline")
			}
			s.close()
		})
	}
}

func TestPublishWaitsForAnAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		s := newWorld(one).start(t, nil)
		if err := s.Publish(context.Background(), wire.TopicReport, []byte("{}")); err != nil {
			t.Error(err)
		}
		one.set(func() { one.puback = packets.PubackNotAuthorized })
		err := s.Publish(context.Background(), wire.TopicReport, []byte("{}"))
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Code != packets.PubackNotAuthorized || !errors.Is(err, ErrCredentials) {
			t.Errorf("error %v, want a refusal", err)
		}
		s.close()
		if err := s.Publish(context.Background(), wire.TopicBeat, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("error %v, want ErrClosed", err)
		}
	})
}
