package client

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestOneLateAnswerIsForgiven(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a, hint(b, 10)), server(b)
		s := newWorld(one, two).start(t, nil, a)
		s.expect(Connected, a)
		for n := 1; n <= 3; n++ { // never two in a row
			s.quiet(3 * time.Second) // the late beat was followed by another at once
			one.set(func() { one.delays = []time.Duration{1200 * time.Millisecond} })
			s.expect(Late, a)
		}
		s.quiet(time.Minute)
		s.close()
	})
}

func TestAServerThatIsAlwaysLateIsLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a, hint(b, 10)), server(b)
		one.delay = 1200 * time.Millisecond
		s := newWorld(one, two).start(t, nil, a)
		first := s.expect(Connected, a)
		s.expect(Late, a)
		s.expect(Late, a)
		if e := s.expect(Moved, b); e.At.Sub(first.At) != 2*time.Second || e.Reason != wire.LeftLate {
			t.Errorf("moved after %v (%s), want 2s (late)", e.At.Sub(first.At), e.Reason)
		}
		s.close()
	})
}

func TestASlowServerWithinTheTimeOutIsNotLeft(t *testing.T) {
	for _, interval := range []time.Duration{300 * time.Millisecond, 5 * time.Second} { // with pings in flight, and without
		bubble(t, func(t *testing.T) {
			one, two := server(a, hint(b, 0)), server(b)
			one.delay = 800 * time.Millisecond
			s := newWorld(one, two).start(t, func(c *Config) { c.Interval, c.Misses = interval, 1 }, a)
			s.expect(Connected, a)
			s.quiet(10 * time.Minute)
			s.close()
		})
	}
}

// failing is a connection whose writes fail from some time on, and whose reads
// return nothing: what is left of a connection whose peer's reset was lost.
type failing struct {
	net.Conn
	mu     sync.Mutex
	broken bool
}

func (f *failing) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken {
		return 0, &net.OpError{Op: "write", Err: syscall.EPIPE}
	}
	return f.Conn.Write(p)
}

func TestOneWriteErrorIsEnough(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a, hint(b, 10)), server(b)
		w := newWorld(one, two)
		var conn *failing
		s := w.start(t, func(c *Config) {
			c.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
				nc, err := w.dial(ctx, network, address)
				if address == a {
					conn = &failing{Conn: nc}
					return conn, err
				}
				return nc, err
			}
		}, a)
		first := s.expect(Connected, a)
		s.quiet(time.Second)
		conn.mu.Lock()
		conn.broken = true
		conn.mu.Unlock()
		e := s.expect(Moved, b)
		if late := e.At.Sub(first.At) - 5*time.Second; late < 0 || late > lastWords {
			t.Errorf("moved %v after the failed write, want at most %v", late, lastWords)
		}
		if e.Reason != wire.LeftBroken || !errors.Is(e.Err, syscall.EPIPE) || two.left() != a+" broken" {
			t.Errorf("event %+v, told %q", e, two.left())
		}
		s.close()
	})
}

func TestABrokenConnectionIsLeftAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a, hint(b, 10)), server(b)
		s := newWorld(one, two).start(t, nil, a)
		s.expect(Connected, a)
		s.quiet(7 * time.Second)
		begun := time.Now()
		one.hangUp()
		if e := s.expect(Moved, b); e.At != begun || e.Reason != wire.LeftBroken || !errors.Is(e.Err, io.EOF) {
			t.Errorf("after %v: %+v", e.At.Sub(begun), e)
		}
		s.close()
	})
}

func TestGoesWhereTheServerSays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		// The reference wins over a list that would say otherwise.
		one, two, three := server(a, hint(b, 0)), server(b), server(c)
		s := newWorld(one, two, three).start(t, nil, a)
		s.expect(Connected, a)
		s.quiet(time.Minute)
		begun := time.Now()
		one.tell(packets.DisconnectUseAnotherServer, &packets.Properties{
			ServerReference: "nonsense " + c + " " + b,
			User:            []packets.User{{Key: wire.PropServers, Value: wire.FormatServers([]wire.ServerHint{hint(b, 0), hint(c, 99)})}},
		})
		e := s.expect(Moved, c)
		var refusal *Refusal
		if e.At != begun || e.Reason != wire.LeftDirected || !errors.As(e.Err, &refusal) || refusal.Code != 0x9C {
			t.Errorf("after %v: %+v", e.At.Sub(begun), e)
		}
		if three.left() != a+" directed" {
			t.Errorf("told %q", three.left())
		}
		s.close()
	})
}

func TestARefusalNamesTheNextServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a), server(b)
		one.refuse = &packets.Connack{ReasonCode: packets.ConnackUseAnotherServer, Properties: &packets.Properties{ServerReference: b}}
		s := newWorld(one, two).start(t, nil, a)
		s.expect(Connected, b)
		s.quiet(time.Minute)
		s.close()
	})
}

func TestUsesTheServerListBeforeBootstrap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two, three := server(a, hint(b, 50)), server(b, hint(a, 50)), server(c)
		w := newWorld(one, two, three)
		s := w.start(t, func(cfg *Config) { cfg.Exclude = func(x string) bool { return x == c } }, a, c)
		s.expect(Connected, a) // c is excluded
		one.hangUp()
		s.expect(Moved, b) // known from the list only
		s.close()
		for _, at := range w.attempts() {
			if at.address == c {
				t.Error("an excluded address was dialled")
			}
		}
	})
}

func TestBootstrapIsTheLastResort(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, three := server(a, hint(b, 0)), server(c)
		w := newWorld(one, three) // b does not exist
		s := w.start(t, func(cfg *Config) { cfg.Exclude = func(x string) bool { return x == c && one.connected() == 0 } }, a, c)
		s.expect(Connected, a)
		s.quiet(time.Minute)
		w.remove(one)
		if e := s.expect(Moved, c); e.Reason != wire.LeftBroken {
			t.Errorf("%+v", e)
		}
		s.close()
		var tried []string
		for _, at := range w.attempts() {
			tried = append(tried, at.address)
		}
		if want := []string{a, b, c}; !slices.Equal(tried, want) {
			t.Errorf("tried %v, want %v", tried, want)
		}
	})
}

func TestDoesNotReturnWithinAvoidFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		// Every list praises the server that was left.
		one, two, three := server(a, hint(b, 90)), server(b, hint(a, 0), hint(c, 90)), server(c, hint(a, 0), hint(b, 90))
		w := newWorld(one, two, three)
		s := w.start(t, nil, a)
		s.expect(Connected, a)
		s.quiet(10 * time.Second)
		one.hangUp()
		left := s.expect(Moved, b).At
		s.quiet(10 * time.Second)
		two.hangUp()
		s.expect(Moved, c)
		s.quiet(time.Until(left.Add(29 * time.Second)))
		if n := one.connected(); n != 1 {
			t.Errorf("connected to %s %d times", a, n)
		}
		s.quiet(2 * time.Second)
		three.hangUp()
		s.expect(Moved, a) // its time is over, and the others' is not
		s.close()
	})
}

func TestIsDirectedBackToAServerThatHasRecovered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two, three := server(a, hint(b, 0)), server(b, hint(c, 0)), server(c)
		s := newWorld(one, two, three).start(t, nil, a)
		s.expect(Connected, a)
		s.quiet(10 * time.Second)
		one.hangUp()
		s.expect(Moved, b)
		s.quiet(10 * time.Second) // less than AvoidFor
		one.set(func() { one.hints = []wire.ServerHint{hint(b, 0), hint(c, 0)} })
		two.tell(packets.DisconnectUseAnotherServer, &packets.Properties{ServerReference: a})
		if e := s.expect(Moved, a); e.Reason != wire.LeftDirected {
			t.Errorf("%+v", e)
		}
		// A refusal to let the client in vouches for nobody.
		two.set(func() {
			two.refuse = &packets.Connack{ReasonCode: packets.ConnackUseAnotherServer, Properties: &packets.Properties{ServerReference: a}}
		})
		s.quiet(40 * time.Second)
		one.hangUp()
		s.expect(Moved, c)
		s.close()
	})
}

func TestWaitsForABusyServerRatherThanReturn(t *testing.T) {
	for name, test := range map[string]struct {
		properties  packets.Properties
		least, most time.Duration
	}{
		"for the time that it asks for": {packets.Properties{User: []packets.User{{Key: wire.PropRetryAfter, Value: "2000"}}}, 2 * time.Second, 2200 * time.Millisecond},
		"for a second otherwise":        {packets.Properties{}, busyFor, busyFor + 200*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				one, two := server(a, hint(b, 0)), server(b)
				two.refuse = &packets.Connack{ReasonCode: packets.ConnackQuotaExceeded, Properties: &test.properties}
				w := newWorld(one, two)
				s := w.start(t, nil, a)
				s.expect(Connected, a)
				s.quiet(10 * time.Second)
				begun := time.Now()
				one.hangUp()
				s.quiet(500 * time.Millisecond)
				two.set(func() { two.refuse = nil })
				if wait := s.expect(Moved, b).At.Sub(begun); wait < test.least || wait > test.most {
					t.Errorf("moved after %v, want %v to %v", wait, test.least, test.most)
				}
				if n := two.connected(); n != 2 {
					t.Errorf("%d attempts, want 2", n)
				}
				s.close()
			})
		})
	}
}

func TestReturnsToTheOnlyServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a, hint(b, 0)) // b does not exist
		s := newWorld(one).start(t, nil, a)
		s.expect(Connected, a)
		s.quiet(10 * time.Second)
		begun := time.Now()
		one.hangUp()
		if e := s.expect(Connected, a); e.At.Sub(begun) > time.Second || e.Previous != "test/a" || e.Reason != wire.LeftBroken {
			t.Errorf("after %v: %+v", e.At.Sub(begun), e)
		}
		s.close()
	})
}

func TestOfflineIsToldOnceAndOnlyWhenTheLeaseIsOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		w := newWorld(one)
		s := w.start(t, nil)
		first := s.expect(Connected, a)
		s.quiet(3 * time.Second)
		w.remove(one)
		e := s.expect(Offline, "")
		if after := e.At.Sub(first.At); after != 7500*time.Millisecond {
			t.Errorf("offline %v after the last beat, want 1.5 × 5 s", after)
		}
		if e.Previous != "test/a" || e.Reason != wire.LeftBroken || !errors.Is(e.Err, syscall.ECONNREFUSED) {
			t.Errorf("%+v", e)
		}
		if address, name := s.Server(); address != "" || name != "" {
			t.Errorf("Server: %q %q", address, name)
		}
		s.quiet(time.Hour)
		w.mu.Lock()
		w.servers[a] = one
		w.mu.Unlock()
		s.expect(Connected, a)
		s.close()
		// Full jitter under 5 s means one attempt in 2.5 s.
		if n := len(w.attempts()); n < 1100 || n > 1800 {
			t.Errorf("%d attempts in an hour, want about 1440", n)
		}
	})
}

func TestATakenOverIdDoesNotFight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		w := newWorld(one)
		s := w.start(t, func(c *Config) { c.Interval = 30 * time.Second })
		for range 20 {
			s.expect(Connected, a)
			one.tell(packets.DisconnectSessionTakenOver, nil)
		}
		if took := time.Since(s.begun); took < 15*time.Second {
			t.Errorf("came back 20 times within %v", took)
		}
		_ = s.Close() // perhaps before the last DISCONNECT is read
	})
}

func TestPublishSurvivesAMove(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a, hint(b, 0)), server(b)
		one.mute = true
		s := newWorld(one, two).start(t, nil, a)
		s.expect(Connected, a)
		done := make(chan error, 1)
		go func() { done <- s.Publish(context.Background(), wire.TopicBeat, []byte("x")) }()
		s.expect(Late, a)
		s.expect(Late, a)
		s.expect(Moved, b)
		if err := <-done; err != nil {
			t.Error(err)
		}
		two.set(func() { two.mute = true })
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := s.Publish(ctx, wire.TopicBeat, nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), wire.TopicBeat) {
			t.Errorf("error %v", err)
		}
		s.close()
	})
}

func TestTheServersIntervalWins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		one.keep = 30
		s := newWorld(one).start(t, nil)
		s.expect(Connected, a)
		s.quiet(10*time.Minute + time.Second)
		if n := one.pinged(); n != 21 {
			t.Errorf("%d pings in 10 min, want 21", n)
		}
		s.close()
	})
}
