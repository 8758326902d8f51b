package client

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestThreeAttemptsAtATime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a, hint(b, 0), hint(c, 0), hint("d:1", 0), hint("e:1", 0))
		w := newWorld(one)
		var hung []*scripted
		for _, address := range []string{b, c, "d:1", "e:1"} {
			s := server(address)
			s.silent = true
			hung, w.servers[address] = append(hung, s), s
		}
		s := w.start(t, func(c *Config) { c.AckTimeout = 4 * time.Second }, a)
		s.expect(Connected, a)
		s.quiet(time.Second)
		w.remove(one)
		begun := time.Now()
		s.quiet(5500 * time.Millisecond)
		var after []time.Duration
		for _, at := range w.attempts()[1:] {
			after = append(after, at.at.Sub(begun))
		}
		if len(after) != 3 || after[0] != 0 || after[1] != attemptEvery || after[2] != 2*attemptEvery {
			t.Errorf("attempts after %v, want at once and every %v", after, attemptEvery)
		}
		s.expect(Offline, "")
		s.quiet(2 * time.Second) // the first has timed out: the fourth has begun
		if n := len(w.attempts()); n != 5 {
			t.Errorf("%d attempts, want 5", n)
		}
		// The first that answers wins, and the others are ended.
		w.mu.Lock()
		w.servers[a] = one
		w.mu.Unlock()
		if e := <-s.events; e.Kind != Connected || e.Address != a {
			t.Errorf("%+v", e)
		}
		s.quiet(time.Minute)
		for _, h := range hung {
			h.mu.Lock()
			if n := len(h.conns); n > 0 {
				t.Errorf("%d connections are left to %s", n, h.address)
			}
			h.mu.Unlock()
		}
		s.close()
	})
}

// A Service's address leads to any of its servers.
func TestASharedAddressDoesNotLeadBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const service = "service:1883"
		one, two := server(a, hint(b, 0)), server(b, hint(a, 0))
		w := newWorld(one, two)
		turn := 0
		s := w.start(t, func(cfg *Config) {
			cfg.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
				switch address {
				case service:
					turn++
					if turn == 4 { // to the first one three times, and then to the other
						return w.dial(ctx, network, b)
					}
					return w.dial(ctx, network, a)
				default: // not to be reached from here
					return nil, errors.New("no route")
				}
			}
		}, service)
		s.expect(Connected, service)
		s.quiet(10 * time.Second)
		one.hangUp()
		if e := s.expect(Moved, service); e.Server != "test/b" || e.Previous != "test/a" {
			t.Errorf("%+v", e)
		}
		if one.left() != service+" broken" || two.left() != service+" broken" {
			t.Errorf("told %q and %q", one.left(), two.left())
		}
		// When it leads nowhere else, back is better than nowhere.
		two.hangUp()
		one.hangUp()
		s.expect(Moved, service)
		s.close()
	})
}

func TestASlotIsHonoured(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a, hint(b, 0)), server(b)
		s := newWorld(one, two).start(t, nil, a)
		s.expect(Connected, a)
		s.quiet(10 * time.Second)
		begun := time.Now()
		one.tell(packets.DisconnectUseAnotherServer, &packets.Properties{
			ServerReference: b, User: []packets.User{{Key: wire.PropRetryAfter, Value: "3700"}},
		})
		e := s.expect(Moved, b)
		if took := e.At.Sub(begun); took != 3700*time.Millisecond || two.left() != a+" directed" || two.connected() != 1 {
			t.Errorf("moved after %v, told %q; want after 3.7 s", took, two.left())
		}
		s.close()
	})
}

func TestAChangeOfNetworkReconnectsToTheSameServerAndAccusesNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a, hint(b, 0)), server(b)
		w := newWorld(one, two)
		s := w.start(t, nil, a)
		s.expect(Connected, a)
		s.quiet(2 * time.Second)
		s.NetworkChanged("cell")
		if e := s.expect(Connected, a); time.Since(s.begun) != 2*time.Second || e.Reason != ReasonNetwork || !errors.Is(e.Err, ErrNetworkChanged) {
			t.Errorf("after %v: %+v", time.Since(s.begun), e)
		}
		s.quiet(time.Millisecond)
		if one.left() != "" || one.pinged() != 2 || one.connected() != 2 {
			t.Errorf("told %q, %d pings, %d connections", one.left(), one.pinged(), one.connected())
		}
		// Without a server: at once again, whatever the backoff.
		w.remove(one)
		w.remove(two)
		s.expect(Offline, "")
		s.quiet(10 * time.Minute)
		w.mu.Lock()
		w.servers[b] = two
		w.mu.Unlock()
		before := time.Now()
		s.NetworkChanged("home")
		if e := s.expect(Moved, b); e.At != before {
			t.Errorf("after %v", e.At.Sub(before))
		}
		s.close()
	})
}

func TestMoveGoesElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a, hint(b, 0)), server(b)
		s := newWorld(one, two).start(t, nil, a)
		s.expect(Connected, a)
		s.quiet(10 * time.Second)
		s.Move()
		if e := s.expect(Moved, b); !errors.Is(e.Err, ErrMoved) {
			t.Errorf("%+v", e)
		}
		if _, _, byes := one.seen(); len(byes) > 0 {
			t.Error("a DISCONNECT was sent: it would take the member offline")
		}
		s.close()
	})
}

// The last CONNECT that a server reads takes the session: one of our own that
// was slow may end the one that won.
func TestATakeoverByOurselvesIsNoFight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a), server(b)
		one.silent = true
		s := newWorld(one, two).start(t, func(c *Config) {
			c.AckTimeout = 4 * time.Second
			c.Exclude = func(x string) bool { return x == b && one.connected() == 0 }
		}, a, b)
		s.expect(Connected, b)
		s.quiet(time.Second)
		begun := time.Now()
		two.tell(packets.DisconnectSessionTakenOver, nil)
		if e := s.expect(Connected, b); e.At != begun {
			t.Errorf("back after %v, want at once, and there", e.At.Sub(begun))
		}
		s.close()
	})
}

func TestClientsShareTheirMetrics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		one, two := server(a, hint(b, 0)), server(b)
		w := newWorld(one, two)
		change := func(c *Config) { c.Registerer = registry }
		first, second := w.start(t, change, a), w.start(t, change, b)
		first.expect(Connected, a)
		second.expect(Connected, b)
		first.quiet(12 * time.Second)
		if n := testutil.ToFloat64(first.metrics.connected); n != 2 {
			t.Errorf("%v connected, want 2", n)
		}
		if n := testutil.ToFloat64(second.metrics.beats); n != 6 {
			t.Errorf("%v beats, want 6", n)
		}
		first.close()
		if n := testutil.ToFloat64(second.metrics.connected); n != 1 {
			t.Errorf("%v connected, want 1", n)
		}
		second.close()
		if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
			t.Errorf("%v %v", problems, err)
		}
	})
}

// later is a clock a century ahead.
type later struct{ systemClock }

func (later) Now() time.Time { return time.Now().AddDate(100, 0, 0) }

func TestTheClockIsTheProgramsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a, hint(b, 0)), server(b)
		s := newWorld(one, two).start(t, func(c *Config) { c.Clock = later{} }, a)
		if e := s.expect(Connected, a); !e.At.Equal(time.Now().AddDate(100, 0, 0)) {
			t.Errorf("at %v", e.At)
		}
		s.quiet(12 * time.Second)
		one.hangUp()
		s.expect(Moved, b)
		s.close()
	})
}
