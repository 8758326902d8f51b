package mqtt

import (
	"bytes"
	"testing"

	mochi "github.com/mochi-mqtt/server/v2/packets"
)

// seed adds the packets that another implementation tests itself with.
func seed(f *testing.F) {
	for _, cases := range mochi.TPacketData {
		for _, c := range cases {
			f.Add(c.RawBytes, true)
			f.Add(c.RawBytes, false)
		}
	}
	f.Add(connect5(0xc6, "\x11\x00\x00\x00\x0a\x26\x00\x01a\x00\x01b", "\x00\x01c\x00\x00\x01t\x00\x01p\x00\x01u\x00\x01p"), true)
	f.Add([]byte{0x82, 8, 0, 1, 0, 0, 1, 't', 1}, true)
}

const fuzzLimit = 4096

// FuzzFrame: however the bytes are split, the packets are the same; and nothing
// over the limit gets through.
func FuzzFrame(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte, _ bool) {
		n, err := Frame(b, fuzzLimit)
		if n < 0 || n > len(b) || n > fuzzLimit || err != nil && n != 0 {
			t.Fatalf("Frame of %d bytes = %d, %v", len(b), n, err)
		}
		for cut := range b {
			m, e := Frame(b[:cut], fuzzLimit)
			switch {
			case m != 0 && m != n:
				t.Fatalf("%d bytes give %d, all give %d", cut, m, n)
			case e != nil && (err == nil || reasonOf(e) != reasonOf(err)):
				t.Fatalf("%d bytes give %v, all give %v", cut, e, err)
			}
		}
	})
}

// FuzzPackets: whatever a frame holds, reading it does not panic, and what is
// read is no larger than the frame.
func FuzzPackets(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte, five bool) {
		n, err := Frame(b, fuzzLimit)
		if err != nil || n == 0 {
			return
		}
		frame, v := b[:n], V311
		if five {
			v = V5
		}
		size := 0
		users := func(l []User) {
			for _, u := range l {
				size += len(u.Name) + len(u.Value)
			}
			if len(l) > MaxUsers {
				t.Fatalf("%d user properties", len(l))
			}
		}
		switch TypeOf(frame[0]) {
		case CONNECT:
			c, err := ParseConnect(frame)
			if err != nil {
				return
			}
			if PeekVersion(frame) != c.Version {
				t.Fatalf("version %d, seen as %d", c.Version, PeekVersion(frame))
			}
			size = len(c.ClientID) + len(c.UserName) + len(c.Password) + len(c.AuthMethod)
			users(c.User)
			compare(t, frame, c)
		case PUBLISH:
			p, _ := ParsePublish(frame, v)
			size = len(p.Topic) + len(p.Payload)
			users(p.User)
		case SUBSCRIBE:
			s, _ := ParseSubscribe(frame, v)
			size = 3 * len(s.Filters)
			for _, f := range s.Filters {
				if f.QoS > 2 || f.Current > RetainDoNotSend {
					t.Fatalf("%+v", f)
				}
			}
		case UNSUBSCRIBE:
			s, _ := ParseUnsubscribe(frame, v)
			size = 3 * len(s.Filters)
		case DISCONNECT:
			_, _ = ParseDisconnect(frame, v)
		default:
			_, _ = ParseAck(frame, v)
		}
		if size > n {
			t.Fatalf("%d bytes were read from a frame of %d", size, n)
		}
	})
}

// compare: what we accept, another implementation accepts, and reads the same.
func compare(t *testing.T, frame []byte, c Connect) {
	_, used, _ := varint(frame[1:])
	other := mochi.Packet{FixedHeader: mochi.FixedHeader{Type: mochi.Connect}}
	if err := other.ConnectDecode(bytes.Clone(frame[1+used:])); err != nil {
		t.Fatalf("others refuse % x: %v", frame, err)
	}
	o := other.Connect
	if o.ClientIdentifier != c.ClientID || string(o.Username) != c.UserName || !bytes.Equal(o.Password, c.Password) ||
		o.Keepalive != c.KeepAlive || o.WillFlag != (c.Will != nil) || o.Clean != c.Clean || len(other.Properties.User) != len(c.User) {
		t.Fatalf("others read % x as %+v, we as %+v", frame, o, c)
	}
}
