package client

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func bisect(t *testing.T, least, most time.Duration) adaptive.Strategy {
	t.Helper()
	s, err := adaptive.NewBisect(adaptive.BisectSettings{Min: least, Max: most})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// gaps checks that no two beats were further apart than what had been declared
// when the first of them came, and returns the last interval declared.
func gaps(t *testing.T, s *scripted) time.Duration {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.Clone(s.pings)
	for _, p := range s.taken {
		at = append(at, p.at)
	}
	slices.SortFunc(at, time.Time.Compare)
	for i := 1; i < len(at); i++ {
		longest := time.Duration(0)
		for _, d := range s.declared { // in force during the gap, at any time
			if d.at.Before(at[i]) {
				longest = time.Duration(d.seconds) * time.Second
			}
		}
		if gap := at[i].Sub(at[i-1]); 2*gap > 3*longest {
			t.Errorf("%v between two beats at %v, where the lease is 1.5 × %v", gap, at[i], longest)
		}
	}
	return time.Duration(s.declared[len(s.declared)-1].seconds) * time.Second
}

func TestAHeartbeatFindsWhatTheNATSurvives(t *testing.T) {
	mars, err := adaptive.NewMars(adaptive.MarsSettings{Min: 30 * time.Second, Max: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for _, strategy := range []adaptive.Strategy{bisect(t, 30*time.Second, 10*time.Minute), mars} {
		t.Run(strategy.Name(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				one := server(a)
				one.held = 5 * time.Minute
				w := newWorld(one)
				s := w.start(t, func(c *Config) {
					c.Heartbeat, c.Jitter, c.Network, c.OnEvent = strategy, 0, "home", nil
				})
				<-time.After(24 * time.Hour)
				settled, ok := s.Heartbeat().Settled()
				if !ok || settled > one.held || settled < 3*time.Minute {
					t.Errorf("settled on %v (%v), where the NAT survives %v", settled, ok, one.held)
				}
				if declared := gaps(t, one); declared != settled.Truncate(time.Second) && declared != settled.Truncate(time.Second)+time.Second {
					t.Errorf("declared %v, settled on %v", declared, settled)
				}
				s.close()
				// Another process goes on from there.
				state := s.Heartbeat()
				s = w.start(t, func(c *Config) {
					c.Heartbeat, c.HeartbeatState, c.Jitter, c.Network, c.OnEvent = strategy, state, 0, "home", nil
				})
				<-time.After(time.Minute)
				connects, _, _ := one.seen()
				if got := connects[len(connects)-1].KeepAlive; got != seconds(settled) {
					t.Errorf("the next process asks for %d s, want %v", got, settled)
				}
				s.close()
			})
		})
	}
}

func TestTheServersLimitWinsOverAHeartbeat(t *testing.T) {
	t.Run("told in CONNACK", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			one := server(a)
			one.keep = 120
			s := newWorld(one).start(t, func(c *Config) { c.Heartbeat, c.Network = bisect(t, 30*time.Second, 10*time.Minute), "home" })
			s.expect(Connected, a)
			s.quiet(12 * time.Hour)
			connects, _, _ := one.seen()
			if asked, is := connects[0].KeepAlive, gaps(t, one); asked != math.MaxUint16 || is != 2*time.Minute {
				t.Errorf("asked for %d s, and declared %v in the end, want the longest and 2 min", asked, is)
			}
			s.close()
		})
	})
	t.Run("found by a refusal", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			one := server(a)
			one.limit = 120
			s := newWorld(one).start(t, func(c *Config) { c.Heartbeat, c.Network = bisect(t, 30*time.Second, 10*time.Minute), "home" })
			s.expect(Connected, a)
			s.quiet(12 * time.Hour)
			if is := gaps(t, one); is != 2*time.Minute {
				t.Errorf("declared %v in the end, want 2 min", is)
			}
			s.close()
		})
	})
}

// A server that hangs is not a NAT that forgets: where the kernel there has
// acknowledged the beats, nothing is learned, and the server is left.
func TestAHungServerTeachesNothing(t *testing.T) {
	learned := func(p path) (adaptive.State, int) {
		r := newRhythm(Config{Heartbeat: bisect(t, 30*time.Second, 10*time.Minute), Network: "home"})
		rnd, now := source(1), epoch
		r.connected(now, 0)
		b := &beats{rhythm: &r, trip: roundTrip{floor: time.Second, ceiling: time.Second}, misses: 2}
		b.begin(now, rnd)
		for range 3 { // 60, 120 and 240 s
			b.heard(now, true, rnd)
			now = b.wake()
			if v := b.tick(now, rnd, unknown); v != beat {
				t.Fatalf("verdict %d", v)
			}
		}
		for tries := 1; ; tries++ {
			now = b.wake()
			if b.tick(now, rnd, p) == leave {
				return r.state, tries
			}
		}
	}
	if s, tries := learned(acknowledged); tries != 2 || s.Networks[0].High != 0 {
		t.Errorf("left after %d tries, knowing %+v; want 2 (Misses), and no limit", tries, s.Networks[0])
	}
	if s, tries := learned(unacknowledged); tries != 4 || s.Networks[0].High == 0 {
		t.Errorf("left after %d tries, knowing %+v; want 4, and a limit", tries, s.Networks[0])
	}
}

func TestDataCountsAsABeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		s := newWorld(one).start(t, nil)
		s.expect(Connected, a)
		for range 100 {
			s.quiet(3 * time.Second)
			if err := s.Publish(t.Context(), wire.TopicBeat, []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
		if n := one.pinged(); n != 1 {
			t.Errorf("%d pings among the data, want the first only", n)
		}
		one.set(func() { one.mute = true })
		go func() { _ = s.Publish(t.Context(), wire.TopicBeat, []byte("{}")) }()
		sent := time.Now()
		if e := s.expect(Late, a); e.At.Sub(sent) != time.Second {
			t.Errorf("late after %v, want 1 s: data that is not answered is a beat that is not", e.At.Sub(sent))
		}
		s.expect(Late, a)
		_ = s.Close()
	})
}

func TestForegroundAndBackground(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		s := newWorld(one).start(t, func(c *Config) { c.BackgroundInterval = 5 * time.Minute })
		s.expect(Connected, a)
		s.Background()
		s.quiet(time.Hour + time.Second)
		in := one.pinged()
		if in != 13 || gaps(t, one) != 5*time.Minute {
			t.Errorf("%d pings in an hour in the background, want 13", in)
		}
		s.quiet(time.Minute)
		s.Foreground()
		s.quiet(time.Millisecond)
		if n := one.pinged(); n != in+1 {
			t.Errorf("%d pings at the return to the foreground, want 1", n-in)
		}
		s.quiet(time.Minute)
		if n := one.pinged(); n != in+13 || gaps(t, one) != 5*time.Second {
			t.Errorf("%d pings in a minute in the foreground, want 13", n-in)
		}
		s.close()
	})
}

func TestWakeBeatsAtOnceAndExcusesWhatWasDue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		s := newWorld(one).start(t, func(c *Config) { c.Misses = 1 })
		s.expect(Connected, a)
		s.quiet(4 * time.Second)
		one.set(func() { one.delays = []time.Duration{1500 * time.Millisecond} })
		s.quiet(1900 * time.Millisecond) // the beat at 5 s is 0.1 s from being late
		s.Wake()
		s.quiet(time.Minute)
		s.close()
	})
}

func TestAttributesAreToldToEachServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a, hint(b, 0)), server(b)
		s := newWorld(one, two).start(t, func(c *Config) { c.Attributes = map[string]string{"version": "1"} }, a)
		s.expect(Connected, a)
		told := func(at *scripted) string {
			s.quiet(time.Millisecond)
			at.mu.Lock()
			defer at.mu.Unlock()
			var got struct{ Attributes map[string]string }
			if len(at.taken) == 0 || json.Unmarshal(at.taken[len(at.taken)-1].payload, &got) != nil {
				return ""
			}
			return got.Attributes["version"]
		}
		if got := told(one); got != "1" {
			t.Errorf("told %q, want 1", got)
		}
		if err := s.SetAttributes(t.Context(), map[string]string{"version": "2"}); err != nil {
			t.Error(err)
		}
		if got := told(one); got != "2" {
			t.Errorf("told %q, want 2", got)
		}
		one.hangUp()
		s.expect(Moved, b)
		if got := told(two); got != "2" {
			t.Errorf("told %q, want 2", got)
		}
		if err := s.SetAttributes(t.Context(), map[string]string{"x": string(make([]byte, 2000))}); err == nil {
			t.Error("2,000 bytes of attributes were accepted")
		}
		s.close()
	})
}

func TestWhatWasSentJustBeforeAnErrorIsSentAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a, hint(b, 0)), server(b)
		s := newWorld(one, two).start(t, func(c *Config) { c.Resend = 10 * time.Second }, a)
		s.expect(Connected, a)
		for _, payload := range []string{"1", "2", "3"} {
			if err := s.Publish(t.Context(), wire.TopicBeat, []byte(payload)); err != nil {
				t.Error(err)
			}
			s.quiet(6 * time.Second)
		}
		one.hangUp()
		s.expect(Moved, b)
		s.quiet(time.Second)
		two.mu.Lock()
		defer two.mu.Unlock()
		if len(two.taken) != 1 || string(two.taken[0].payload) != "3" {
			t.Errorf("%d publications again: %v, want the third only", len(two.taken), two.taken)
		}
		go s.Close()
	})
}

func TestWhatIsKeptToBeSentAgainIsBounded(t *testing.T) {
	r := recent{keep: time.Minute}
	for range 1000 {
		r.add(epoch, "x", make([]byte, 10))
	}
	if len(r.all) != maxRecent || r.bytes != maxRecent*11 {
		t.Errorf("%d of %d bytes", len(r.all), r.bytes)
	}
	r.add(epoch, "x", make([]byte, maxRecentBytes-1))
	if len(r.all) != 1 || r.bytes != maxRecentBytes {
		t.Errorf("%d of %d bytes", len(r.all), r.bytes)
	}
	if got := r.take(epoch.Add(time.Hour)); len(got) != 0 || r.bytes != 0 {
		t.Errorf("%d after an hour", len(got))
	}
}
