package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// by makes what the docs say, not what the code does.
func by(key []byte, at time.Time, topic, payload string) *mqtt.Publish {
	stamp := strconv.FormatInt(at.UnixMilli(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(topic + "\n" + stamp + "\n" + payload))
	return &mqtt.Publish{Topic: topic, Payload: []byte(payload), User: []mqtt.User{
		{Name: wire.PropSigned, Value: stamp + " " + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))},
	}}
}

func TestASignatureIsTheConnectionsOwnNewAndOfNow(t *testing.T) {
	now := time.UnixMilli(1_750_000_000_000)
	const skew = 30 * time.Second
	change := func(p *mqtt.Publish, f func(*mqtt.Publish)) *mqtt.Publish { f(p); return p }
	value := func(v string) func(*mqtt.Publish) { return func(p *mqtt.Publish) { p.User[0].Value = v } }
	for _, c := range []struct {
		name string
		pub  func(key []byte) *mqtt.Publish
		want why // empty: it is taken
	}{
		{"of now", func(k []byte) *mqtt.Publish { return by(k, now, wire.TopicBeat, `{"interval":10000}`) }, ""},
		{"without a payload", func(k []byte) *mqtt.Publish { return by(k, now, wire.TopicBeat, "") }, ""},
		{"of another interval", func(k []byte) *mqtt.Publish { return by(k, now, wire.TopicKeepAlive, "30") }, ""},
		{"as late as may be", func(k []byte) *mqtt.Publish { return by(k, now.Add(-skew), wire.TopicBeat, "") }, ""},
		{"as early as may be", func(k []byte) *mqtt.Publish { return by(k, now.Add(skew), wire.TopicBeat, "") }, ""},
		{"later than that", func(k []byte) *mqtt.Publish { return by(k, now.Add(-skew-time.Millisecond), wire.TopicBeat, "") }, whySkew},
		{"earlier than that", func(k []byte) *mqtt.Publish { return by(k, now.Add(skew+time.Millisecond), wire.TopicBeat, "") }, whySkew},
		{"of the year 292 million", func(k []byte) *mqtt.Publish { return by(k, time.UnixMilli(1<<63-1), wire.TopicBeat, "") }, whySkew},
		{"of before all time", func(k []byte) *mqtt.Publish { return by(k, time.UnixMilli(-1<<63), wire.TopicBeat, "") }, whySkew},
		{"none", func([]byte) *mqtt.Publish { return &mqtt.Publish{Topic: wire.TopicBeat} }, whySignature},
		{"of another key", func([]byte) *mqtt.Publish { return by(make([]byte, 32), now, wire.TopicBeat, "") }, whySignature},
		{"of another topic", func(k []byte) *mqtt.Publish {
			return change(by(k, now, wire.TopicBeat, "30"), func(p *mqtt.Publish) { p.Topic = wire.TopicKeepAlive })
		}, whySignature},
		{"of another payload", func(k []byte) *mqtt.Publish {
			return change(by(k, now, wire.TopicKeepAlive, "30"), func(p *mqtt.Publish) { p.Payload = []byte("3000") })
		}, whySignature},
		{"of another time", func(k []byte) *mqtt.Publish {
			return change(by(k, now, wire.TopicBeat, ""), func(p *mqtt.Publish) {
				p.User[0].Value = strings.Replace(p.User[0].Value, "1750000000000 ", "1750000000001 ", 1)
			})
		}, whySignature},
		{"no time", func(k []byte) *mqtt.Publish { return change(by(k, now, wire.TopicBeat, ""), value("now AAAA")) }, whySignature},
		{"no MAC", func(k []byte) *mqtt.Publish {
			return change(by(k, now, wire.TopicBeat, ""), value(strconv.FormatInt(now.UnixMilli(), 10)))
		}, whySignature},
		{"a long one", func(k []byte) *mqtt.Publish {
			return change(by(k, now, wire.TopicBeat, ""), value("0000000000000000000000000001 "+strings.Repeat("A", 43)))
		}, whySignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, text := newSignature()
			key, err := base64.RawURLEncoding.DecodeString(text)
			if err != nil || len(key) != wire.BeatKeySize {
				t.Fatalf("key %q: %v", text, err)
			}
			pub := c.pub(key)
			r := s.check(pub, now, skew)
			switch {
			case c.want == "" && r != nil:
				t.Errorf("refused: %+v", *r)
			case c.want != "" && (r == nil || r.why != c.want):
				t.Errorf("%+v, want %q", r, c.want)
			case c.want == whySkew && (r.reason == mqtt.NotAuthorized || r.tolerated == strings.Contains(r.detail, "ahead")):
				t.Errorf("%+v: a clock is no credential, and only what is late is tolerated", r)
			case c.want == "":
				if r := s.check(pub, now, skew); r == nil || r.why != whyReplay {
					t.Errorf("a second time: %+v, want a replay", r)
				}
			}
		})
	}
}

func TestSignaturesCountInTheOrderOfTheirTimes(t *testing.T) {
	s, text := newSignature()
	key, _ := base64.RawURLEncoding.DecodeString(text)
	now := time.UnixMilli(1_750_000_000_000)
	for _, c := range []struct {
		offset time.Duration
		taken  bool
	}{{0, true}, {time.Millisecond, true}, {time.Millisecond, false}, {-time.Second, false}, {2 * time.Millisecond, true}} {
		if r := s.check(by(key, now.Add(c.offset), wire.TopicBeat, ""), now, time.Minute); (r == nil) != c.taken {
			t.Errorf("at %v: %+v", c.offset, r)
		}
	}
}

func TestTheDocsVectorsAreTaken(t *testing.T) {
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
		key, err := base64.RawURLEncoding.DecodeString(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		stamp, _, _ := strings.Cut(v.Signed, " ")
		ms, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s := &signature{mac: hmac.New(sha256.New, key)}
		pub := &mqtt.Publish{Topic: v.Topic, Payload: []byte(v.Payload), User: []mqtt.User{{Name: wire.PropSigned, Value: v.Signed}}}
		if r := s.check(pub, time.UnixMilli(ms), time.Second); r != nil {
			t.Errorf("%+v: %+v", v, *r)
		}
	}
}

func TestASignatureIsCheckedWithoutAnAllocation(t *testing.T) {
	s, text := newSignature()
	key, _ := base64.RawURLEncoding.DecodeString(text)
	now := time.UnixMilli(1_750_000_000_000)
	pub := by(key, now, wire.TopicBeat, `{"interval":10000}`)
	if n := testing.AllocsPerRun(100, func() {
		s.last = 0
		if s.check(pub, now, time.Second) != nil {
			t.Error("refused")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzSignature(f *testing.F) {
	f.Add("1750000000000 AAAA", []byte("{}"))
	f.Add(" ", []byte(nil))
	f.Add("-9223372036854775808 "+strings.Repeat("A", 43), []byte("x"))
	f.Fuzz(func(t *testing.T, signed string, payload []byte) {
		s, _ := newSignature()
		pub := &mqtt.Publish{Topic: wire.TopicBeat, Payload: payload, User: []mqtt.User{{Name: wire.PropSigned, Value: signed}}}
		if s.check(pub, time.UnixMilli(1_750_000_000_000), time.Minute) == nil {
			t.Error("what nobody signed was taken")
		}
	})
}

func BenchmarkSignature(b *testing.B) {
	s, text := newSignature()
	key, _ := base64.RawURLEncoding.DecodeString(text)
	now := time.UnixMilli(1_750_000_000_000)
	pub := by(key, now, wire.TopicBeat, "")
	b.ReportAllocs()
	for b.Loop() {
		s.last = 0
		s.check(pub, now, time.Second)
	}
}
