package client

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/rollcall-dev/rollcall/client/adaptive"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestABadServerIsATypedErrorAndTheNextIsTried(t *testing.T) {
	connack := func(p *packets.Properties) []byte {
		var b bytes.Buffer
		_, _ = (&packets.Connack{Properties: p}).WriteTo(&b)
		return b.Bytes()
	}
	tests := map[string]struct {
		raw    []byte
		silent bool
		want   error
		within time.Duration
	}{
		"nothing at all":                {silent: true, want: ErrTimeout, within: 6 * time.Second},
		"HTTP":                          {raw: []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), want: ErrProtocol},
		"SSH":                           {raw: []byte("SSH-2.0-OpenSSH_9.9\r\n"), want: ErrProtocol},
		"TLS":                           {raw: []byte{0x15, 3, 1, 0, 2, 2, 70}, want: ErrProtocol},
		"MQTT 3.1.1":                    {raw: []byte{0x20, 2, 0, 0}, want: ErrProtocol},
		"MQTT 3.1.1 refusing version 5": {raw: []byte{0x20, 2, 0, 1}, want: ErrProtocol},
		"another packet":                {raw: []byte{0xD0, 0}, want: ErrProtocol},
		"a CONNACK of 256 MB":           {raw: []byte{0x20, 0xFF, 0xFF, 0xFF, 0x7F}, want: ErrProtocol},
		"an endless length":             {raw: []byte{0x20, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, want: ErrProtocol},
		"a property that isn't one":     {raw: []byte{0x20, 5, 0, 0, 2, 0x77, 0}, want: ErrProtocol},
		"an authentication exchange":    {raw: []byte{0xF0, 2, 0x18, 0}, want: ErrProtocol},
		"half a CONNACK":                {raw: []byte{0x20, 3, 0}, want: nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				one, two := server(a), server(b)
				one.raw, one.silent = test.raw, test.silent
				w := newWorld(one, two)
				// Alone, the error is told.
				s := w.start(t, nil, a)
				e := s.expect(Offline, "")
				var attempt *AttemptError
				if !errors.As(e.Err, &attempt) || attempt.Address != a || test.want != nil && !errors.Is(e.Err, test.want) {
					t.Errorf("error %v, want %v", e.Err, test.want)
				}
				if took := e.At.Sub(s.begun); took != test.within {
					t.Errorf("after %v, want %v", took, test.within)
				}
				s.close()
				// With another server, that one is next.
				one.set(func() { one.refuse = nil })
				s = w.start(t, func(c *Config) { c.Exclude = func(x string) bool { return x == b && one.connected() < 2 } }, a, b)
				var connected Event
				for connected = <-s.events; connected.Kind == Offline; connected = <-s.events {
				}
				if connected.Address != b {
					t.Errorf("%+v", connected)
				}
				s.close()
			})
		})
	}

	t.Run("a CONNACK with an authentication method that nobody asked for", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			one := server(a)
			one.raw = append(connack(&packets.Properties{AuthMethod: "x"}), 0xD0, 0)
			s := newWorld(one).start(t, nil)
			s.expect(Connected, a)
			_ = s.Close() // the server has gone already
		})
	})
}

func TestNonsenseFromAConnectedServerLeavesIt(t *testing.T) {
	for name, raw := range map[string][]byte{
		"PUBREL":        {0x62, 2, 0, 1},
		"PUBREC":        {0x50, 2, 0, 1},
		"QoS 2":         {0x34, 8, 0, 1, 'x', 0, 1, 0, 'a', 'b'},
		"QoS 3":         {0x36, 8, 0, 1, 'x', 0, 1, 0, 'a', 'b'},
		"CONNECT":       {0x10, 0},
		"type 0":        {0, 0},
		"second ack":    {0x20, 3, 0, 0, 0},
		"a long packet": {0x30, 0x81, 0x80, 0x04},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				one, two := server(a, hint(b, 0)), server(b)
				s := newWorld(one, two).start(t, nil, a)
				s.expect(Connected, a)
				s.quiet(time.Second)
				one.mu.Lock()
				for conn := range one.conns {
					_, _ = conn.Write(raw)
				}
				one.mu.Unlock()
				if e := s.expect(Moved, b); e.Reason != wire.LeftBroken || !errors.Is(e.Err, ErrProtocol) {
					t.Errorf("%+v", e)
				}
				s.close()
			})
		})
	}
}

func TestDialRefusesWrongCredentialsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		one.refuse = &packets.Connack{ReasonCode: packets.ConnackBadUsernameOrPassword, Properties: &packets.Properties{ReasonString: "expired"}}
		w := newWorld(one)
		begun := time.Now()
		_, err := Dial(context.Background(), Config{Servers: []string{a}, Presence: "im/android", ClientID: "ann", Password: "x", Dialer: w.dial})
		if !errors.Is(err, ErrCredentials) || !strings.Contains(err.Error(), "expired") || !time.Now().Equal(begun) {
			t.Errorf("after %v: error %v", time.Since(begun), err)
		}
	})
}

func TestDialEndsWithItsContextAndSaysWhy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := Dial(ctx, Config{Servers: []string{a}, Presence: "im/android", ClientID: "ann", Dialer: newWorld().dial})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("error %v", err)
		}
	})
}

func TestWrongCredentialsAreNoStorm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		refuse := &packets.Connack{ReasonCode: packets.ConnackNotAuthorized, Properties: &packets.Properties{}}
		one, two := server(a), server(b)
		one.refuse, two.refuse = refuse, refuse
		w := newWorld(one, two)
		var token atomic.Value
		token.Store("old")
		s := w.start(t, func(c *Config) {
			c.Token = func(context.Context) (string, error) { return token.Load().(string), nil }
		})
		if e := s.expect(Offline, ""); !errors.Is(e.Err, ErrCredentials) {
			t.Errorf("%+v", e)
		}
		s.quiet(time.Minute)
		if n := len(w.attempts()); n > 25 {
			t.Errorf("%d attempts in a minute", n)
		}
		token.Store("new")
		one.set(func() { one.refuse = nil })
		two.set(func() { two.refuse = nil })
		e := s.expect(Connected, pick(s))
		connects, _, _ := w.servers[e.Address].seen()
		if got := string(connects[len(connects)-1].Password); got != "new" {
			t.Errorf("token %q, want the renewed one", got)
		}
		s.close()
	})
}

// pick waits until a client is connected, and returns where.
func pick(s *subject) string {
	for {
		at, changed, _ := s.state()
		if at != nil {
			return at.address
		}
		<-changed
	}
}

func TestATokenThatCannotBeReadBlamesNoServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		w := newWorld(one)
		unreadable := errors.New("no such file")
		fails := 3
		s := w.start(t, func(c *Config) {
			c.Token = func(context.Context) (string, error) {
				if fails--; fails >= 0 {
					return "", unreadable
				}
				return "x", nil
			}
		})
		if e := s.expect(Offline, ""); !errors.Is(e.Err, unreadable) {
			t.Errorf("%+v", e)
		}
		s.expect(Connected, a)
		if n := len(w.attempts()); n != 1 {
			t.Errorf("%d connections, want 1", n)
		}
		s.close()
	})
}

func TestCloseDuringConnect(t *testing.T) {
	stages := map[string]func(*Config){
		"token": func(c *Config) {
			c.Token = func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
		},
		"TCP": func(c *Config) {
			c.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		},
		"a CONNECT that is never read": func(c *Config) {
			c.Dialer = func(context.Context, string, string) (net.Conn, error) {
				ours, _ := net.Pipe()
				return ours, nil
			}
		},
		"CONNACK": nil,
	}
	for name, change := range stages {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				one := server(a)
				one.silent = true
				s := newWorld(one).start(t, change, a)
				s.quiet(500 * time.Millisecond)
				begun := time.Now()
				s.close()
				s.close()
				if took := time.Since(begun); took != 0 {
					t.Errorf("Close took %v", took)
				}
			})
		})
	}
}

func TestEveryFaultOfAConfigIsNamed(t *testing.T) {
	_, err := New(Config{
		Servers: []string{"nowhere", "x:0", ":1883"}, Presence: "android", ClientID: "a b",
		Token: func(context.Context) (string, error) { return "", nil }, Password: "x",
		Interval: -1, BackgroundInterval: 20 * time.Hour, Jitter: 1, AckTimeout: -1, Misses: -1, AvoidFor: -1, MinBackoff: 2, MaxBackoff: 1,
		MinAckTimeout: -1, Resend: time.Hour, Network: strings.Repeat("x", 1000), HeartbeatState: adaptive.State{Strategy: "bisect"},
		Attributes: map[string]string{"x": strings.Repeat("y", 2000)}, Will: make([]byte, 257),
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{
		`Servers: "nowhere"`, `Servers: "x:0"`, `Servers: ":1883"`, "Presence:", "ClientID:", "Token:", "Interval:", "Jitter:",
		"\nAckTimeout:", "Misses:", "AvoidFor:", "MaxBackoff:", "BackgroundInterval:", "MinAckTimeout:", "Resend:", "Network:", "HeartbeatState:",
		"Attributes:", "Will:",
	} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%s is missing from:\n%v", field, err)
		}
	}
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "Servers: none") {
		t.Errorf("error %v", err)
	}
	if err := (Config{Servers: []string{a}, Presence: "im/android", ClientID: "x", Interval: 65536 * time.Second}).Validate(); err == nil {
		t.Error("an interval that keepalive can't declare was accepted")
	}
}

func TestASlowOnEventDelaysNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := server(a, hint(b, 0)), server(b)
		release := make(chan struct{})
		inside, told := 0, 0
		s := newWorld(one, two).start(t, func(c *Config) {
			c.OnEvent = func(Event) {
				if inside++; inside != 1 {
					t.Error("called concurrently")
				}
				<-release
				inside--
				told++
			}
		}, a)
		s.quiet(62 * time.Second)
		one.hangUp()
		s.quiet(62 * time.Second)
		if n, m := one.pinged(), two.pinged(); n != 13 || m != 13 {
			t.Errorf("%d and %d pings, want 13 each", n, m)
		}
		close(release)
		s.close()
		if told != 2 {
			t.Errorf("told %d events, want 2", told)
		}
	})
}
