package mqtt

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	paho "github.com/eclipse/paho.golang/packets"
	mochi "github.com/mochi-mqtt/server/v2/packets"
)

func TestFrameFindsAPacketHoweverItArrives(t *testing.T) {
	whole := [][]byte{
		Ping,
		{0xe0, 0},
		append([]byte{0x30, 0x82, 0x01}, make([]byte, 130)...),
		{0xc0, 0x80, 0x00}, // a length in more bytes than needed: 3.1.1 allows it
	}
	for _, w := range whole {
		for n := range w {
			if got, err := Frame(w[:n], 1000); got != 0 || err != nil {
				t.Errorf("Frame(% x) = %d, %v, want more bytes", w[:n], got, err)
			}
		}
		if got, err := Frame(append(w, 0xff), 1000); got != len(w) || err != nil {
			t.Errorf("Frame(% x…) = %d, %v, want %d", w[:2], got, err, len(w))
		}
	}
}

func TestFrameRefusesWhatCannotBecomeAPacket(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
		want Reason
	}{
		{"type 0", []byte{0x00}, Malformed},
		{"a CONNECT with flags", []byte{0x11}, Malformed},
		{"a SUBSCRIBE without its flag", []byte{0x80}, Malformed},
		{"a PUBLISH of QoS 3", []byte{0x36}, Malformed},
		{"a duplicate of QoS 0", []byte{0x38}, Malformed},
		{"a PINGREQ with something in it", []byte{0xc0, 1}, Malformed},
		{"a length of five bytes", []byte{0x30, 0xff, 0xff, 0xff, 0xff}, Malformed},
		{"a packet over the limit, at its header", []byte{0x30, 0xff, 0x7f}, TooLarge},
		{"the greatest length there is", []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, TooLarge},
	} {
		_, err := Frame(c.b, 4096)
		if got := reasonOf(err); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func reasonOf(err error) Reason {
	var e *Error
	if !errors.As(err, &e) {
		return Success
	}
	return e.Reason
}

// mochiConnects are CONNECTs that another implementation tests itself with.
func mochiCase(kind, which byte) []byte { return mochi.TPacketData[kind].Get(which).RawBytes }

func TestConnectReadsWhatOthersWrite(t *testing.T) {
	c, err := ParseConnect(mochiCase(mochi.Connect, mochi.TConnectUserPassLWT))
	if err != nil {
		t.Fatal(err)
	}
	if c.Version != V311 || c.ClientID == "" || !c.HasUserName || c.UserName == "" || len(c.Password) == 0 || c.Will == nil {
		t.Errorf("3.1.1: %+v", c)
	}
	if c, err = ParseConnect(mochiCase(mochi.Connect, mochi.TConnectMqtt5LWT)); err != nil || c.Version != V5 || c.Will == nil || c.Will.Topic != "lwt" {
		t.Errorf("5: %+v, %v", c, err)
	}
	if c, err = ParseConnect(mochiCase(mochi.Connect, mochi.TConnectMqtt5)); err != nil || len(c.User) == 0 || c.SessionExpiry == 0 {
		t.Errorf("5: %+v, %v", c, err)
	}
}

// connect5 is a CONNECT of version 5 with the given flags, properties and rest.
func connect5(flags byte, props, rest string) []byte {
	b := []byte("\x00\x04MQTT\x05")
	b = append(b, flags, 0, 30, byte(len(props)))
	return frame(nil, CONNECT, b, []byte(props+rest))
}

func connect311(level byte, rest string) []byte {
	return frame(nil, CONNECT, append([]byte("\x00\x04MQTT"), level), []byte(rest))
}

func TestConnectIsStrict(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame []byte
		want  Reason
	}{
		{"a good one", connect5(2, "", "\x00\x01c"), Success},
		{"an empty client id is the server's to judge", connect5(2, "", "\x00\x00"), Success},
		{"a password of nothing", connect5(0xc2, "", "\x00\x01c\x00\x01u\x00\x00"), Success},
		{"a password without a user name, in 5", connect5(0x42, "", "\x00\x01c\x00\x01p"), Success},
		{"a password without a user name, in 3.1.1", connect311(4, "\x42\x00\x1e\x00\x01c\x00\x01p"), Malformed},
		{"version 3", frame(nil, CONNECT, []byte("\x00\x06MQIsdp\x03"), nil), UnsupportedVersion},
		{"version 6", connect311(6, ""), UnsupportedVersion},
		{"another protocol", frame(nil, CONNECT, []byte("\x00\x04AMQP\x05"), nil), ProtocolError},
		{"the reserved flag", connect5(3, "", "\x00\x01c"), Malformed},
		{"will flags without a will", connect5(0x22, "", "\x00\x01c"), Malformed},
		{"a will of QoS 3", connect5(0x1e, "", "\x00\x01c\x00\x00\x01t\x00\x00"), Malformed},
		{"bytes after the end", connect5(2, "", "\x00\x01cX"), Malformed},
		{"a client id longer than the packet", connect5(2, "", "\x00\x09c"), Malformed},
		{"a client id that is not UTF-8", connect5(2, "", "\x00\x01\xff"), Malformed},
		{"a client id with a NUL", connect5(2, "", "\x00\x01\x00"), Malformed},
		{"properties longer than the packet", frame(nil, CONNECT, []byte("\x00\x04MQTT\x05\x02\x00\x1e\x7f"), nil), Malformed},
		{"a property that goes beyond the properties", connect5(2, "\x21\x00", "\x01\x00\x01c"), Malformed},
		{"a property of PUBLISH", connect5(2, "\x23\x00\x01", "\x00\x01c"), Malformed},
		{"an unknown property", connect5(2, "\x7e\x00", "\x00\x01c"), Malformed},
		{"the same property twice", connect5(2, "\x21\x00\x01\x21\x00\x01", "\x00\x01c"), ProtocolError},
		{"receive maximum 0", connect5(2, "\x21\x00\x00", "\x00\x01c"), ProtocolError},
		{"maximum packet size 0", connect5(2, "\x27\x00\x00\x00\x00", "\x00\x01c"), ProtocolError},
		{"a boolean of 2", connect5(2, "\x17\x02", "\x00\x01c"), ProtocolError},
		{"authentication data without a method", connect5(2, "\x16\x00\x01x", "\x00\x01c"), ProtocolError},
		{"too many user properties", frame(nil, CONNECT,
			append([]byte("\x00\x04MQTT\x05\x02\x00\x1e\xc5\x02"), strings.Repeat("\x26\x00\x00\x00\x00", MaxUsers+1)...), []byte("\x00\x01c")), Malformed},
	} {
		_, err := ParseConnect(c.frame)
		if got := reasonOf(err); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestPeekVersionReadsHalfAPacket(t *testing.T) {
	whole := connect5(2, "", "\x00\x01c")
	for n := range whole {
		want := Version(0)
		if n >= 9 {
			want = V5
		}
		if got := PeekVersion(whole[:n]); got != want {
			t.Errorf("PeekVersion of %d bytes = %d, want %d", n, got, want)
		}
	}
}

func TestPublishIsStrict(t *testing.T) {
	publish := func(flags byte, rest string) []byte {
		b := frame(nil, PUBLISH, []byte(rest), nil)
		b[0] |= flags
		return b
	}
	for _, c := range []struct {
		name    string
		frame   []byte
		version Version
		want    Reason
	}{
		{"QoS 0", publish(0, "\x00\x01tpayload"), V311, Success},
		{"QoS 1", publish(2, "\x00\x01t\x00\x07payload"), V311, Success},
		{"QoS 1 in 5", publish(2, "\x00\x01t\x00\x07\x00payload"), V5, Success},
		{"an alias in place of a topic", publish(0, "\x00\x00\x03\x23\x00\x01"), V5, Success},
		{"neither", publish(0, "\x00\x00\x00"), V5, ProtocolError},
		{"no topic in 3.1.1", publish(0, "\x00\x00"), V311, Malformed},
		{"a wildcard", publish(0, "\x00\x03a/#"), V311, Malformed},
		{"packet identifier 0", publish(2, "\x00\x01t\x00\x00"), V311, ProtocolError},
		{"no packet identifier", publish(2, "\x00\x01t\x00"), V311, Malformed},
		{"a subscription identifier", publish(0, "\x00\x01t\x02\x0b\x01"), V5, Malformed},
	} {
		p, err := ParsePublish(c.frame, c.version)
		if got := reasonOf(err); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err == nil && p.Topic == "t" && string(p.Payload) != "payload" {
			t.Errorf("%s: payload %q", c.name, p.Payload)
		}
	}
}

func TestSubscribeIsStrict(t *testing.T) {
	sub := func(rest string) []byte {
		b := frame(nil, SUBSCRIBE, []byte(rest), nil)
		b[0] |= 2
		return b
	}
	for _, c := range []struct {
		name    string
		frame   []byte
		version Version
		want    Reason
		filters int
	}{
		{"one filter", sub("\x00\x01\x00\x01t\x01"), V311, Success, 1},
		{"two filters in 5", sub("\x00\x01\x00\x00\x01t\x01\x00\x01u\x00"), V5, Success, 2},
		{"no options", sub("\x00\x01\x00\x00\x01t"), V5, Malformed, 0},
		{"no filter", sub("\x00\x01\x00"), V5, ProtocolError, 0},
		{"reserved options", sub("\x00\x01\x00\x01t\x04"), V311, Malformed, 0},
		{"QoS 3", sub("\x00\x01\x00\x00\x01t\x03"), V5, Malformed, 0},
		{"retain handling 3", sub("\x00\x01\x00\x00\x01t\x30"), V5, ProtocolError, 0},
		{"no local, shared", sub("\x00\x01\x00\x00\x0a$share/g/t\x04"), V5, ProtocolError, 0},
		{"subscription identifier 0", sub("\x00\x01\x02\x0b\x00\x00\x01t\x00"), V5, ProtocolError, 0},
		{"an empty filter", sub("\x00\x01\x00\x00\x00\x00"), V5, Malformed, 0},
	} {
		s, err := ParseSubscribe(c.frame, c.version)
		if got := reasonOf(err); got != c.want || len(s.Filters) != c.filters {
			t.Errorf("%s: %v, %d filters, want %v, %d", c.name, err, len(s.Filters), c.want, c.filters)
		}
	}
}

func TestOthersReadWhatWeWrite(t *testing.T) {
	users := []User{{"rollcall-servers", "10.0.0.1:1883=42"}, {"a", "b"}}
	ack := Connack{
		Version: V5, KeepAlive: 60, HasKeepAlive: true, NoSessionExpiry: true, MaximumPacket: 4096, ReceiveMaximum: 8, User: users,
	}
	got := read(t, ack.Append(nil, 0)).Content.(*paho.Connack)
	if p := got.Properties; got.ReasonCode != 0 || *p.ServerKeepAlive != 60 || *p.MaximumPacketSize != 4096 || *p.MaximumQOS != 1 ||
		*p.SessionExpiryInterval != 0 || len(p.User) != 2 || p.User[0].Value != users[0].Value {
		t.Errorf("CONNACK: %v", got)
	}
	refused := Connack{Version: V5, Reason: UseAnotherServer, Reference: "10.0.0.2:1883", Text: "go", User: users}
	got = read(t, refused.Append(nil, 0)).Content.(*paho.Connack)
	if p := got.Properties; got.ReasonCode != 0x9c || p.ServerReference != "10.0.0.2:1883" || p.ReasonString != "go" || len(p.User) != 2 {
		t.Errorf("CONNACK: %v", got)
	}
	bye := Goodbye{Reason: UseAnotherServer, Reference: "10.0.0.2:1883", User: users}
	d := read(t, bye.Append(nil, 0)).Content.(*paho.Disconnect)
	if d.ReasonCode != 0x9c || d.Properties.ServerReference != "10.0.0.2:1883" || len(d.Properties.User) != 2 {
		t.Errorf("DISCONNECT: %v", d)
	}
	pa := read(t, Puback{PacketID: 300, Reason: NotAuthorized, Text: "no", User: users}.Append(nil, V5, 0)).Content.(*paho.Puback)
	if pa.PacketID != 300 || pa.ReasonCode != 0x87 || pa.Properties.ReasonString != "no" || len(pa.Properties.User) != 2 {
		t.Errorf("PUBACK: %v", pa)
	}
	sa := read(t, AppendSuback(nil, V5, 7, []Reason{TopicFilterInvalid, SharedNotSupported})).Content.(*paho.Suback)
	if sa.PacketID != 7 || !bytes.Equal(sa.Reasons, []byte{0x8f, 0x9e}) {
		t.Errorf("SUBACK: %v", sa)
	}
	ua := read(t, AppendUnsuback(nil, V5, 7, []Reason{Success, NoSubscriptionExisted})).Content.(*paho.Unsuback)
	if ua.PacketID != 7 || !bytes.Equal(ua.Reasons, []byte{0, 0x11}) {
		t.Errorf("UNSUBACK: %v", ua)
	}
}

func read(t *testing.T, b []byte) *paho.ControlPacket {
	t.Helper()
	r := bytes.NewReader(b)
	p, err := paho.ReadPacket(r)
	if err != nil {
		t.Fatalf("% x: %v", b, err)
	}
	if r.Len() > 0 {
		t.Fatalf("% x: %d bytes after the packet", b, r.Len())
	}
	return p
}

func TestVersion311GetsItsOwnForms(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want []byte
	}{
		{"CONNACK", Connack{Version: V311, User: []User{{"a", "b"}}}.Append(nil, 0), []byte{0x20, 2, 0, 0}},
		{"client id", Connack{Version: V311, Reason: InvalidClientID}.Append(nil, 0), []byte{0x20, 2, 0, 2}},
		{"busy", Connack{Version: V311, Reason: ServerBusy}.Append(nil, 0), []byte{0x20, 2, 0, 3}},
		{"another server", Connack{Version: V311, Reason: UseAnotherServer, Reference: "x"}.Append(nil, 0), []byte{0x20, 2, 0, 3}},
		{"credentials", Connack{Version: V311, Reason: BadUserNameOrPassword}.Append(nil, 0), []byte{0x20, 2, 0, 4}},
		{"not authorized", Connack{Version: V311, Reason: NotAuthorized}.Append(nil, 0), []byte{0x20, 2, 0, 5}},
		{"malformed has no code", Connack{Version: V311, Reason: Malformed}.Append(nil, 0), nil},
		{"version", Connack{Version: 3, Reason: UnsupportedVersion}.Append(nil, 0), []byte{0x20, 2, 0, 1}},
		{"PUBACK", Puback{PacketID: 258, Text: "x"}.Append(nil, V311, 0), []byte{0x40, 2, 1, 2}},
		{"SUBACK", AppendSuback(nil, V311, 1, []Reason{TopicFilterInvalid}), []byte{0x90, 3, 0, 1, 0x80}},
		{"UNSUBACK", AppendUnsuback(nil, V311, 1, []Reason{Success}), []byte{0xb0, 2, 0, 1}},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s: % x, want % x", c.name, c.got, c.want)
		}
	}
}

func TestALimitDropsWhatMayBeDropped(t *testing.T) {
	users := []User{{"name", strings.Repeat("v", 100)}}
	for limit := uint32(24); limit < 200; limit++ {
		b := Connack{Version: V5, Reason: ServerBusy, Text: "reason", User: users}.Append(nil, limit)
		if len(b) > int(limit) {
			t.Fatalf("%d bytes, where %d are allowed", len(b), limit)
		}
		read(t, b)
	}
}
