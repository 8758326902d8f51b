package server_test

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server"
)

func TestEveryRefusalHasTheStandardsReason(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	bystander := must(t, a.addr(), id("bystander"))
	good := connect5bytes("c", "im/phone", "alice", 20)
	for _, c := range []struct {
		name   string
		send   []byte
		reason string // counted
		five   byte   // the reason code of CONNACK
		three  []byte // the whole answer, in 3.1.1
	}{
		{name: "a bad client id", send: connect5bytes("c/d", "im/phone", "alice", 20), reason: "client-id", five: 0x85},
		{name: "a bad client id, 3.1.1", send: connect3bytes(4, "c/d", "im/phone", "alice"), reason: "client-id", three: []byte{0x20, 2, 0, 2}},
		{name: "no client id", send: connect5bytes("", "im/phone", "alice", 20), reason: "client-id", five: 0x85},
		{name: "a user name of no Presence", send: connect5bytes("c", "phone", "alice", 20), reason: "user-name", five: 0x86},
		{name: "an unknown Presence", send: connect5bytes("c", "im/desktop", "alice", 20), reason: "presence", five: 0x86},
		{name: "an unknown Presence, 3.1.1", send: connect3bytes(4, "c", "im/desktop", "alice"), reason: "presence", three: []byte{0x20, 2, 0, 4}},
		{name: "bad credentials", send: connect5bytes("c", "im/phone", "wrong", 20), reason: "credentials", five: 0x86},
		{name: "bad credentials, 3.1.1", send: connect3bytes(4, "c", "im/phone", "wrong"), reason: "credentials", three: []byte{0x20, 2, 0, 4}},
		{name: "no rights", send: connect5bytes("c", "im/phone", "nobody", 20), reason: "unauthorized", five: 0x87},
		{name: "no rights, 3.1.1", send: connect3bytes(4, "c", "im/phone", "nobody"), reason: "unauthorized", three: []byte{0x20, 2, 0, 5}},
		{name: "a client among servers", send: connect5bytes("c", "rollcall-system/servers", "alice", 20), reason: "unauthorized", five: 0x87},
		{name: "version 3.1", send: append([]byte{0x10, 13}, "\x00\x06MQIsdp\x03\x02\x00\x1e\x00"...), reason: "version", three: []byte{0x20, 2, 0, 1}},
		{name: "version 6", send: connect3bytes(6, "c", "im/phone", "alice"), reason: "version", three: []byte{0x20, 2, 0, 1}},
		{name: "too large a CONNECT", send: append([]byte{0x10, 0xff, 0x7f}, good[2:]...), reason: "too-large", five: 0x95},
		{name: "a malformed CONNECT", send: append(bytes.Clone(good[:10]), append([]byte{0, 20, 5, 0x7e}, good[14:]...)...), reason: "malformed", five: 0x81},
		{name: "a protocol error in CONNECT", send: withProperties(good, "\x21\x00\x00"), reason: "protocol", five: 0x82},
		{name: "extended authentication", send: withProperties(good, "\x15\x00\x01x"), reason: "credentials", five: 0x8c},
		{name: "a first packet that is no CONNECT", send: []byte{0xc0, 0}, reason: "not-connect"},
		{name: "HTTP", send: []byte("GET / HTTP/1.1\r\n\r\n"), reason: "not-connect"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := a.refused(c.reason)
			r := dial(t, a.addr())
			r.send(c.send)
			if c.five != 0 {
				if ack := r.connack(c.five); ack.Properties.ReasonString == "" {
					t.Error("not a word about why")
				}
			}
			if rest := r.rest(); !bytes.Equal(rest, c.three) {
				t.Errorf("answer % x, want % x", rest, c.three)
			}
			if got := a.refused(c.reason); got != before+1 {
				t.Errorf("%v counted as %s, want 1", got-before, c.reason)
			}
		})
	}
	select {
	case d := <-bystander.gone:
		t.Errorf("a bystander was ended: %+v", d)
	default:
		ping(t, bystander.conn)
	}
}

// withProperties puts properties into a CONNECT of version 5 that has none.
func withProperties(connect []byte, properties string) []byte {
	b := append(bytes.Clone(connect[:12]), byte(len(properties)))
	b = append(append(b, properties...), connect[13:]...)
	b[1] += byte(len(properties))
	return b
}

func TestATooLargeConnectOfVersion5IsToldSo(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	r := dial(t, a.addr())
	b := connect5bytes("c", "im/phone", strings.Repeat("x", 5000), 20)
	r.send(b[:100]) // its header says enough; the version has come too
	r.connack(0x95)
	r.rest()
}

func TestWhatIsRefusedInASession(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	publish := func(flags byte, topic, rest string) []byte {
		body := append([]byte{0, byte(len(topic))}, topic+rest...)
		return append([]byte{0x30 | flags, byte(len(body))}, body...)
	}
	for _, c := range []struct {
		name   string
		send   []byte
		reason string
		ack    byte // PUBACK or SUBACK; 0: the connection ends
		bye    byte
	}{
		{name: "a topic that nobody takes", send: publish(2, "elsewhere", "\x00\x01\x00x"), reason: "topic", ack: 0x90},
		{name: "the same with QoS 0", send: publish(0, "elsewhere", "\x00x"), reason: "topic", bye: 0x90},
		{name: "a report without the right", send: publish(2, wire.TopicReport, "\x00\x01\x00{}"), reason: "unauthorized", ack: 0x87},
		{name: "a beat that is no JSON", send: publish(2, wire.TopicBeat, "\x00\x01\x00{"), reason: "payload", ack: 0x99},
		{name: "a keep-alive that is no number", send: publish(2, "$SETOPTS/mqtt/keepalive", "\x00\x01\x00soon"), reason: "payload", ack: 0x99},
		{name: "a keep-alive that is too long", send: publish(2, "$SETOPTS/mqtt/keepalive", "\x00\x01\x00600"), reason: "payload", ack: 0x99},
		{name: "QoS 2", send: publish(4, wire.TopicBeat, "\x00\x01\x00"), reason: "qos", bye: 0x9b},
		{name: "retain", send: publish(1, wire.TopicBeat, "\x00"), reason: "retain", bye: 0x9a},
		{name: "a topic alias", send: publish(0, wire.TopicBeat, "\x03\x23\x00\x01"), reason: "alias", bye: 0x94},
		{name: "a subscription", send: []byte("\x82\x07\x00\x01\x00\x00\x01t\x01"), reason: "filter", ack: 0x8f},
		{name: "a shared subscription", send: []byte("\x82\x10\x00\x01\x00\x00\x0a$share/g/t\x01"), reason: "filter", ack: 0x9e},
		{name: "a subscription identifier", send: []byte("\x82\x09\x00\x01\x02\x0b\x01\x00\x01t\x01"), reason: "filter", bye: 0xa1},
		{name: "a second CONNECT", send: connect5bytes("c", "im/phone", "alice", 20), reason: "protocol", bye: 0x82},
		{name: "a PUBACK that nobody asked for", send: []byte{0x40, 2, 0, 1}, reason: "protocol", bye: 0x82},
		{name: "a malformed packet", send: []byte{0x36, 0}, reason: "malformed", bye: 0x81},
		{name: "too large a packet", send: []byte{0x30, 0xff, 0x7f}, reason: "too-large", bye: 0x95},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := a.refused(c.reason)
			r := dial(t, a.addr())
			r.send(connect5bytes("c", "im/phone", "alice", 20))
			r.connack(0)
			r.send(append([]byte{0xc0, 0}, c.send...))
			if p := r.packet(); p.Type != packets.PINGRESP {
				t.Fatalf("the answer to what came before is %v", p.PacketType())
			}
			switch p := r.packet().Content.(type) {
			case *packets.Puback:
				if p.ReasonCode != c.ack || p.PacketID != 1 {
					t.Errorf("%v, want %#x", p, c.ack)
				}
			case *packets.Suback:
				if !bytes.Equal(p.Reasons, []byte{c.ack}) || p.PacketID != 1 {
					t.Errorf("%v, want %#x", p, c.ack)
				}
			case *packets.Disconnect:
				if p.ReasonCode != c.bye {
					t.Errorf("%#x, want %#x", p.ReasonCode, c.bye)
				}
				r.rest()
			}
			if got := a.refused(c.reason); got != before+1 {
				t.Errorf("%v counted as %s, want 1", got-before, c.reason)
			}
			if c.ack != 0 { // and the session goes on
				r.send([]byte{0xc0, 0})
				if p := r.packet(); p.Type != packets.PINGRESP {
					t.Errorf("%v, want PINGRESP", p.PacketType())
				}
			}
		})
	}
}

func TestABeatIsAnsweredWithVitals(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := must(t, a.addr(), id("c"))
	answer, err := c.Publish(ctx, &paho.Publish{Topic: wire.TopicBeat, QoS: 1, Payload: []byte(`{"interval":10000,"attributes":{"mode":"background"},"later":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	if delay, err := strconv.Atoi(answer.Properties.User.Get(wire.PropQueueDelay)); err != nil || delay < 0 {
		t.Errorf("vitals: %+v", answer.Properties)
	}
	if answer.Properties.User.Get(wire.PropSessions) != "1" {
		t.Errorf("vitals: %+v", answer.Properties)
	}
	eventually(t, "what it said is recorded", func() bool {
		got, _ := record(t, a.store, "phone", "c")
		return got.Interval == 10000 && got.Attributes["mode"] == "background"
	})
	if _, err := c.Publish(ctx, &paho.Publish{Topic: "$SETOPTS/mqtt/keepalive", QoS: 1, Payload: []byte("45")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its interval is recorded, and its attributes stay", func() bool {
		got, _ := record(t, a.store, "phone", "c")
		return got.Interval == 45000 && got.Attributes["mode"] == "background"
	})
	q := must(t, a.addr(), id("quiet"), func(c *paho.Connect) { c.Properties.RequestProblemInfo = false })
	answer, err = q.Publish(ctx, &paho.Publish{Topic: wire.TopicBeat, QoS: 1})
	if err != nil || len(answer.Properties.User) > 0 {
		t.Errorf("a client that wants no problem information was told %+v, %v", answer, err)
	}
}

func TestClientsBeyondThePaceAreGivenATimeToComeBack(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a", func(c *server.Config) { c.ConnectRate, c.ConnectBurst = 0.1, 2 })
	must(t, a.addr(), id("c1"))
	must(t, a.addr(), id("c2"))
	last := 0
	for _, name := range []string{"c3", "c4"} {
		c := connect5(t, a.addr(), id(name))
		if c.err == nil || c.ack.ReasonCode != 0x89 {
			t.Fatalf("%s was told %v, want server busy", name, c.ack)
		}
		wait, err := strconv.Atoi(c.ack.Properties.User.Get(wire.PropRetryAfter))
		if err != nil || wait < last+3000 || wait > 30000 { // 10 s apart
			t.Errorf("%s was told to wait %d ms, the one before %d", name, wait, last)
		}
		last = wait
	}
	if c := connect5(t, a.addr(), id("probe"), password("agent"), says(wire.PropProbe, "1")); c.err != nil {
		t.Errorf("a probe was refused: %v", c.err)
	}
}

func TestAFullServerRefuses(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a", func(c *server.Config) { c.Capacity = 1 })
	must(t, a.addr(), id("c1"))
	if c := connect5(t, a.addr(), id("c2")); c.err == nil || c.ack.ReasonCode != 0x97 {
		t.Errorf("it was told %v, want quota exceeded", c.ack)
	}
}

func TestWhoSaysNothingIsDisconnected(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	silent, slow := dial(t, a.addr()), dial(t, a.addr())
	from := time.Now()
	slow.send(connect5bytes("c", "im/phone", "alice", 20)[:20])
	silent.rest()
	slow.rest()
	took := time.Since(from)
	t.Logf("after %v", took)
	if took < 4*time.Second {
		t.Errorf("after %v already, want 5 s", took)
	}
	if a.refused("timeout") != 2 {
		t.Error("they were not counted")
	}
}
