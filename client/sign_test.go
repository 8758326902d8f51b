package client

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestTheDocsVectorsAreWhatTheClientSigns(t *testing.T) {
	text, err := os.ReadFile("../docs/heartbeats.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)<!-- vectors of signed beats -->\n```json\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/heartbeats.md has no vectors of signed beats")
	}
	var vectors []struct{ Key, Topic, Payload, Signed string }
	if err := json.Unmarshal(block[1], &vectors); err != nil || len(vectors) == 0 {
		t.Fatalf("%d vectors: %v", len(vectors), err)
	}
	for _, v := range vectors {
		s, err := newSigner(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		stamp, _, _ := strings.Cut(v.Signed, " ")
		ms, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.sign(time.UnixMilli(ms), v.Topic, []byte(v.Payload)); got != v.Signed {
			t.Errorf("%+v: signed %q", v, got)
		}
	}
}

func TestEachSignatureIsLaterThanTheOneBefore(t *testing.T) {
	s, err := newSigner(base64.RawURLEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	now, last := time.UnixMilli(1_750_000_000_000), int64(0)
	for _, d := range []time.Duration{0, 0, -time.Second, time.Minute, time.Minute} {
		stamp, _, _ := strings.Cut(s.sign(now.Add(d), wire.TopicBeat, nil), " ")
		at, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil || at <= last {
			t.Errorf("%v later: %s after %d", d, stamp, last)
		}
		last = at
	}
}

func TestAKeyThatCannotBeOneIsRefused(t *testing.T) {
	for _, key := range []string{"AAAA", "!", base64.RawURLEncoding.EncodeToString(make([]byte, 33)), base64.StdEncoding.EncodeToString(make([]byte, 32))} {
		if _, err := newSigner(key); !errors.Is(err, ErrProtocol) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestEveryBeatIsSignedWhereTheServerGivesAKey(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		one.key = base64.RawURLEncoding.EncodeToString(make([]byte, 32))
		s := newWorld(one).start(t, func(c *Config) { c.Attributes = map[string]string{"version": "1"} }, a)
		s.expect(Connected, a)
		s.quiet(time.Minute)
		if err := s.Publish(t.Context(), wire.TopicBeat, []byte(`{}`)); err != nil {
			t.Error(err)
		}
		s.Background()
		s.quiet(time.Minute)
		one.mu.Lock()
		defer one.mu.Unlock()
		if len(one.signed) < len(one.pings) || len(one.pings) < 20 {
			t.Fatalf("%d publications, %d pings", len(one.signed), len(one.pings))
		}
		check, _ := newSigner(one.key)
		for i, p := range one.taken {
			stamp, _, _ := strings.Cut(one.signed[i], " ")
			at, err := strconv.ParseInt(stamp, 10, 64)
			if err != nil || at <= check.last {
				t.Fatalf("%s is signed %q, after %d", p.topic, one.signed[i], check.last)
			}
			if want := check.sign(time.UnixMilli(at), p.topic, p.payload); one.signed[i] != want {
				t.Errorf("%s %q is signed %q, want %q", p.topic, p.payload, one.signed[i], want)
			}
		}
		go s.Close()
	})
}

// A clock that is off is no wrong credential, and the server is not to blame.
func TestAClientWhoseClockIsRefusedAccusesNobody(t *testing.T) {
	for name, code := range map[string]byte{
		"ahead": packets.DisconnectImplementationSpecificError, "no beat that counted": packets.DisconnectKeepAliveTimeout,
		"credentials that are void": packets.DisconnectNotAuthorized,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				one, two := server(a, hint(b, 0)), server(b)
				s := newWorld(one, two).start(t, nil, a)
				s.expect(Connected, a)
				s.quiet(time.Minute)
				one.tell(code, nil)
				e := s.expect(Moved, b)
				if e.Reason != ReasonRefused || errors.Is(e.Err, ErrCredentials) != (code == packets.DisconnectNotAuthorized) {
					t.Errorf("%+v", e)
				}
				if left := two.left(); left != "" {
					t.Errorf("the next server is told %q", left)
				}
				s.close()
			})
		})
	}
}

// A shorter interval whose signature came late is refused each time it is told.
func TestAShorterIntervalThatIsRefusedIsNotToldAgainAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		s := newWorld(one).start(t, func(c *Config) { c.BackgroundInterval = time.Minute }, a)
		s.expect(Connected, a)
		s.Background()
		s.quiet(time.Minute)
		one.set(func() { one.puback = packets.PubackImplementationSpecificError })
		before := one.publications()
		s.Foreground()
		s.quiet(time.Minute)
		if n := one.publications() - before; n != 1 {
			t.Errorf("it was told %d times", n)
		}
		s.close()
	})
}

// Credentials that are void are refused by every server: no storm.
func TestAClientWhoseBeatsAreRefusedComesBackSlowly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := server(a)
		w := newWorld(one)
		s := w.start(t, nil, a)
		told := 0
		for range 60 {
			<-time.After(time.Second) // of the bubble
			one.tell(packets.DisconnectNotAuthorized, &packets.Properties{ReasonString: "the right to be here was taken back"})
			for len(s.events) > 0 {
				if e := <-s.events; errors.Is(e.Err, ErrCredentials) {
					told++
				}
			}
		}
		if n := len(w.attempts()); n > 50 {
			t.Errorf("%d attempts in a minute", n)
		}
		if told == 0 {
			t.Error("nobody was told")
		}
		go s.Close()
	})
}
