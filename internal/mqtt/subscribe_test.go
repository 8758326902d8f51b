package mqtt

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	paho "github.com/eclipse/paho.golang/packets"
)

func TestSubscriptionOptionsAreRead(t *testing.T) {
	b := frame(nil, SUBSCRIBE, []byte("\x00\x01\x00\x00\x01t\x29\x00\x01u\x02"), nil)
	b[0] |= 2
	s, err := ParseSubscribe(b, V5)
	want := []Filter{{Topic: "t", QoS: 1, AsPublished: true, Current: RetainDoNotSend}, {Topic: "u", QoS: 2}}
	if err != nil || !reflect.DeepEqual(s.Filters, want) {
		t.Errorf("%+v, %v, want %+v", s.Filters, err, want)
	}
}

func TestOthersReadOurMessages(t *testing.T) {
	m := Message{Topic: "a/b", Payload: []byte("hello"), Retain: true, PacketID: 300, User: []User{{"k", "v"}}}
	b, ok := m.Append([]byte("before"), V5, 0)
	if !ok || !bytes.HasPrefix(b, []byte("before")) {
		t.Fatalf("% x, %v", b, ok)
	}
	c := read(t, b[6:])
	got := c.Content.(*paho.Publish)
	if got.Topic != "a/b" || string(got.Payload) != "hello" || !got.Retain || got.QoS != 1 || got.Duplicate || got.PacketID != 300 ||
		len(got.Properties.User) != 1 {
		t.Errorf("%v", got)
	}
	b, _ = Message{Topic: "a", Payload: []byte("x"), User: m.User}.Append(nil, V311, 0)
	if want := []byte("\x30\x04\x00\x01ax"); !bytes.Equal(b, want) {
		t.Errorf("% x, want % x", b, want)
	}
	b, _ = Message{Topic: "a", Payload: []byte("x"), PacketID: 1}.Append(nil, V311, 0)
	if want := []byte("\x32\x06\x00\x01a\x00\x01x"); !bytes.Equal(b, want) {
		t.Errorf("% x, want % x", b, want)
	}
}

func TestAMessageBeyondTheLimitIsNotSent(t *testing.T) {
	m := Message{Topic: "a", Payload: []byte(strings.Repeat("x", 100)), User: []User{{"name", strings.Repeat("v", 100)}}}
	for limit := uint32(50); limit < 260; limit++ {
		b, ok := m.Append(nil, V5, limit)
		if len(b) > int(limit) || ok != (len(b) > 0) || ok != (limit >= 106) {
			t.Fatalf("limit %d: %d bytes, %v", limit, len(b), ok)
		}
	}
}

func TestAWillsPropertiesShow(t *testing.T) {
	for properties, want := range map[string]bool{"": false, "\x18\x00\x00\x00\x01": false, "\x03\x00\x01x": true, "\x18\x00\x00\x00\x01\x01\x01": true} {
		c, err := ParseConnect(connect5(6, "", "\x00\x01c"+string(rune(len(properties)))+properties+"\x00\x01t\x00\x01p"))
		if err != nil || c.Will == nil || c.Will.Described != want {
			t.Errorf("% x: %+v, %v", properties, c.Will, err)
		}
	}
}
