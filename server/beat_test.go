package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server"
)

func init() {
	known["im/signed"] = server.Presence{
		Kind: server.Clients, MinInterval: time.Second, MaxInterval: 10 * time.Second, Grace: 500 * time.Millisecond, MaxSkew: time.Minute,
	}
	known["im/punctual"] = server.Presence{
		Kind: server.Clients, MinInterval: time.Second, MaxInterval: 10 * time.Minute, Grace: 5 * time.Second, MaxSkew: time.Second,
	}
	known["im/roaming"] = server.Presence{
		Kind: server.Clients, MinInterval: 5 * time.Second, MaxInterval: time.Minute, Grace: 5 * time.Second,
		Overrides: &server.Overrides{Min: 5 * time.Second, Max: time.Minute, All: []server.Override{{Network: "cell", Region: "cn", Max: 20 * time.Second}}},
	}
}

// publish says what became of a publication: its reason code.
func (c *v5) publish(t *testing.T, topic, payload string, users ...paho.UserProperty) byte {
	t.Helper()
	answer, err := c.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(payload), Properties: &paho.PublishProperties{User: users}})
	if answer == nil {
		t.Fatalf("%s: %v", topic, err)
	}
	return answer.ReasonCode
}

// sign is what a client in any language does.
func (c *v5) sign(t *testing.T, at time.Time, topic, payload string) paho.UserProperty {
	t.Helper()
	key, err := base64.RawURLEncoding.DecodeString(c.ack.Properties.User.Get(wire.PropBeatKey))
	if err != nil || len(key) != 32 {
		t.Fatalf("the key in CONNACK: %d bytes, %v", len(key), err)
	}
	stamp := strconv.FormatInt(at.UnixMilli(), 10)
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s\n%s\n%s", topic, stamp, payload)
	return paho.UserProperty{Key: wire.PropSigned, Value: stamp + " " + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))}
}

func TestOnlySignedBeatsCountWhereThePresenceAsksForIt(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	c := must(t, a.addr(), id("c"), user("im/signed"), every(10))
	now := time.Now()
	signed := c.sign(t, now, wire.TopicBeat, `{"attributes":{"a":"b"}}`)
	for _, x := range []struct {
		name, topic, payload string
		by                   []paho.UserProperty
		code                 byte
		counted              string
	}{
		{"a signed beat", wire.TopicBeat, `{"attributes":{"a":"b"}}`, []paho.UserProperty{signed}, 0, ""},
		{"the same again", wire.TopicBeat, `{"attributes":{"a":"b"}}`, []paho.UserProperty{signed}, 0x87, "replay"},
		{"one that nobody signed", wire.TopicBeat, `{}`, nil, 0x87, "signature"},
		{"another interval that nobody signed", wire.TopicKeepAlive, "9", nil, 0x87, "signature"},
		{"an old one", wire.TopicBeat, "", []paho.UserProperty{c.sign(t, now.Add(-2*time.Minute), wire.TopicBeat, "")}, 0x83, "skew"},
		{"one of the future", wire.TopicBeat, "", []paho.UserProperty{c.sign(t, now.Add(2*time.Minute), wire.TopicBeat, "")}, 0x83, "skew"},
		{"another interval", wire.TopicKeepAlive, "9", []paho.UserProperty{c.sign(t, now.Add(time.Millisecond), wire.TopicKeepAlive, "9")}, 0, ""},
	} {
		before := 0.0
		if x.counted != "" {
			before = a.refused(x.counted)
		}
		if code := c.publish(t, x.topic, x.payload, x.by...); code != x.code {
			t.Errorf("%s: %#x, want %#x", x.name, code, x.code)
		}
		if x.counted != "" && a.refused(x.counted) != before+1 {
			t.Errorf("%s was not counted", x.name)
		}
	}
	other := must(t, a.addr(), id("other"), user("im/signed"))
	if code := other.publish(t, wire.TopicBeat, "", c.sign(t, now.Add(time.Second), wire.TopicBeat, "")); code != 0x87 {
		t.Errorf("what was signed for another connection: %#x", code)
	}
	eventually(t, "what it signed is recorded", func() bool {
		got, _ := record(t, a.store, "signed", "c")
		return got.Attributes["a"] == "b" && got.Interval == 9000
	})
}

// unanswered sends a beat with QoS 0.
func (c *v5) unanswered(t *testing.T, signed paho.UserProperty) {
	t.Helper()
	if _, err := c.Publish(t.Context(), &paho.Publish{Topic: wire.TopicBeat, Properties: &paho.PublishProperties{User: []paho.UserProperty{signed}}}); err != nil {
		t.Fatal(err)
	}
}

func TestABeatThatIsLateEndsNoConnection(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	c := must(t, a.addr(), id("c"), user("im/signed"), every(10))
	now := time.Now()
	c.unanswered(t, c.sign(t, now.Add(-2*time.Minute), wire.TopicBeat, ""))
	if code := c.publish(t, wire.TopicBeat, "", c.sign(t, now, wire.TopicBeat, "")); code != 0 {
		t.Errorf("a beat of now, after one that was late: %#x", code)
	}
	if n := a.refused("skew"); n != 1 {
		t.Errorf("%v are counted", n)
	}
	c.unanswered(t, c.sign(t, now.Add(2*time.Minute), wire.TopicBeat, ""))
	if d := c.ends(t); d.ReasonCode != 0x83 || !strings.Contains(d.Properties.ReasonString, "ahead") {
		t.Errorf("one of the future: %#x %q", d.ReasonCode, d.Properties.ReasonString)
	}
}

// Beats lie in the socket of a server that is stopped: it must not hold that against
// who sent them.
func TestAServerThatWasStoppedKeepsWhoSigns(t *testing.T) {
	a := startChild(t, storetest.Start(t).Endpoints()[0])
	c := must(t, a.addr, id("c"), user("im/punctual"), every(60))
	counts := func() bool { // one that a busy machine delays does not
		code := c.publish(t, wire.TopicBeat, "", c.sign(t, time.Now(), wire.TopicBeat, ""))
		if code != 0 && code != 0x83 {
			t.Fatalf("a beat of now: %#x", code)
		}
		return code == 0
	}
	eventually(t, "a beat counts", counts)
	a.signal(syscall.SIGSTOP)
	sent := time.Now()
	c.unanswered(t, c.sign(t, sent, wire.TopicBeat, ""))
	eventually(t, "the beat is older than may be", func() bool { return time.Since(sent) > 3*time.Second })
	a.signal(syscall.SIGCONT)
	eventually(t, "a beat counts over the same connection", counts)
}

func TestWhoSendsPingsOnlyIsGoneWhereBeatsMustBeSigned(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	c := dial(t, a.addr())
	c.send(connect5bytes("pings", "im/signed", "alice", 1))
	c.packet()
	from := time.Now()
	for pings := 0; ; pings++ {
		c.send([]byte{0xc0, 0})
		if p := c.packet(); p.Type == 14 { // DISCONNECT
			if d := p.Content.(*packets.Disconnect); d.ReasonCode != 0x8d || !strings.Contains(d.Properties.ReasonString, "signed within 1m0s") {
				t.Errorf("it was told %v", d)
			}
			if took := time.Since(from); pings == 0 || took < time.Second {
				t.Errorf("it was dropped after %d pings, %v", pings, took)
			}
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-t.Context().Done():
			return
		}
		if time.Since(from) > patience {
			t.Fatal("its unsigned pings renew its lease")
		}
	}
}

func TestAnOldVersionCannotSign(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	c := dial(t, a.addr())
	c.send(connect3bytes(4, "old", "im/signed", "alice"))
	if got := c.rest(); string(got) != "\x20\x02\x00\x05" {
		t.Errorf("it was told % x, want return code 5", got)
	}
	if a.refused("signature") != 1 {
		t.Error("the refusal was not counted")
	}
}

func TestTheIntervalsBoundsFollowThePlace(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	home := must(t, a.addr(), id("home"), user("im/roaming"), every(60))
	if k := home.ack.Properties.ServerKeepAlive; k != nil {
		t.Errorf("at home it is given %d s", *k)
	}
	away := must(t, a.addr(), id("away"), user("im/roaming"), every(60), says(wire.PropNetwork, "cell"), says(wire.PropRegion, "cn"))
	if k := away.ack.Properties.ServerKeepAlive; k == nil || *k != 20 {
		t.Errorf("away it is given %v, want 20 s", k)
	}
	if code := away.publish(t, wire.TopicKeepAlive, "21"); code != 0x99 {
		t.Errorf("too long an interval for there: %#x", code)
	}
	if code := home.publish(t, wire.TopicBeat, `{"network":"cell","region":"cn"}`); code != 0x99 {
		t.Errorf("away with too long an interval: %#x", code)
	}
	if code := home.publish(t, wire.TopicBeat, `{"network":"cell","region":"cn","interval":15000}`); code != 0 {
		t.Errorf("away with an interval that fits: %#x", code)
	}
	if code := home.publish(t, wire.TopicKeepAlive, "30"); code != 0x99 {
		t.Errorf("too long an interval after that: %#x", code)
	}
	if code := home.publish(t, wire.TopicBeat, `{"network":"","interval":60000}`); code != 0 {
		t.Errorf("back home: %#x", code)
	}
	if code := home.publish(t, wire.TopicBeat, `{"network":"no spaces"}`); code != 0x99 {
		t.Errorf("a network that cannot be one: %#x", code)
	}
	if c := connect5(t, a.addr(), id("odd"), user("im/roaming"), says(wire.PropRegion, "a/b")); c.err == nil || c.ack.ReasonCode != 0x99 {
		t.Errorf("a region that cannot be one: %+v", c.ack)
	}
}

func TestReportsBecomeAdviceInTheServersRecord(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	for i := range 24 { // some may count as one
		c := must(t, a.addr(), id(fmt.Sprintf("c%d", i)), user("im/roaming"), says(wire.PropNetwork, "cell"))
		if code := c.publish(t, wire.TopicBeat, `{"outcomes":[{"interval":60000,"answered":120},{"interval":300000,"answered":110,"lost":10}]}`); code != 0 {
			t.Errorf("a report: %#x", code)
		}
		if code := c.publish(t, wire.TopicBeat, `{"outcomes":[{"interval":60000,"answered":1}]}`); code != 0x97 {
			t.Errorf("another at once: %#x", code)
		}
		if code := c.publish(t, wire.TopicBeat, `{"outcomes":[{"interval":60000,"answered":1000}]}`); code != 0x97 {
			t.Errorf("more than a client has: %#x", code)
		}
	}
	eventually(t, "its record has the advice", func() bool {
		return entry(t, a.store, a.name).Advised["im/roaming"]["cell"] == 60_000
	})
}

func TestTheLastOfSeveralDescriptionsIsRecorded(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	c := must(t, a.addr(), id("c"), every(60))
	for i := range 5 {
		if code := c.publish(t, wire.TopicBeat, fmt.Sprintf(`{"attributes":{"says":"%d"}}`, i)); code != 0 {
			t.Fatalf("%d: %#x", i, code)
		}
	}
	c.conn.Close() // it says nothing more, and its session lives on
	eventually(t, "what it said last is recorded", func() bool {
		got, _ := record(t, a.store, "phone", "c")
		return got.Attributes["says"] == "4"
	})
}

func TestWhatAClientSaidLastIsKeptWhenItLeaves(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	c := must(t, a.addr(), id("c"), every(60))
	online(t, a, "phone", "c") // else there is nothing to take back
	for _, says := range []string{"one", "two"} {
		c.publish(t, wire.TopicBeat, `{"attributes":{"says":"`+says+`"}}`)
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is recorded as gone, with what it said last", func() bool {
		got, _ := record(t, a.store, "phone", "c")
		return got.Offline && got.Attributes["says"] == "two"
	})
}

func TestTheSDKSignsWhatMustBeSigned(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	registry := prometheus.NewRegistry()
	events := make(chan client.Event, 100)
	c, err := client.Dial(t.Context(), client.Config{
		Servers: []string{a.addr()}, Presence: "im/signed", ClientID: "sdk", Password: "alice", Interval: time.Second,
		AckTimeout: patience, Misses: 100, Attributes: map[string]string{"by": "sdk"}, Registerer: registry, OnEvent: func(e client.Event) { events <- e },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sdk := &running{t: t, registry: registry}
	eventually(t, "it has beaten for longer than its lease", func() bool { return sdk.metric("rollcall_client_beats_total", "", "") >= 5 })
	for _, reason := range []string{"signature", "skew", "replay"} {
		if n := a.refused(reason); n != 0 {
			t.Errorf("%v beats were refused: %s", n, reason)
		}
	}
	if len(events) != 1 {
		t.Errorf("%d events, want Connected only", len(events))
	}
	got, _ := record(t, a.store, "signed", "sdk")
	if got.Offline || got.Attributes["by"] != "sdk" {
		t.Errorf("recorded: %+v", got)
	}
}
