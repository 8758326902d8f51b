package sockets

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"
)

// example is a socket as the kernel would tell of it.
func example(family uint8, local, remote netip.AddrPort, cookie uint64, attributes ...byte) []byte {
	b := make([]byte, socketSize)
	b[0], b[1] = family, byte(Established)
	id := b[4:]
	binary.BigEndian.PutUint16(id, local.Port())
	binary.BigEndian.PutUint16(id[2:], remote.Port())
	copy(id[4:20], local.Addr().AsSlice())
	copy(id[20:36], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint64(id[40:], cookie)
	binary.NativeEndian.PutUint32(b[4+idSize+4:], 18)
	binary.NativeEndian.PutUint32(b[4+idSize+8:], 3)
	binary.NativeEndian.PutUint32(b[4+idSize+16:], 4711)
	return append(b, attributes...)
}

func framed(kind uint16, seq uint32, body []byte) []byte {
	b := make([]byte, headerSize, headerSize+len(body)+3)
	binary.NativeEndian.PutUint32(b, uint32(headerSize+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint32(b[8:], seq)
	b = append(b, body...)
	return append(b, make([]byte, align(len(b))-len(b))...)
}

func TestASocketIsReadAsTheKernelTellsIt(t *testing.T) {
	info := make([]byte, 4+infoSize+8)
	binary.NativeEndian.PutUint16(info, uint16(len(info)))
	binary.NativeEndian.PutUint16(info[2:], attributeInfo)
	binary.NativeEndian.PutUint32(info[4+52:], 1500)
	binary.NativeEndian.PutUint64(info[4+128:], 1<<40)
	other := []byte{5, 0, 8, 0, 1, 0, 0, 0} // five bytes, of a type that is not asked for, with its padding
	for _, c := range []struct {
		name          string
		family        uint8
		local, remote string
		want          string // of the remote end
	}{
		{"IPv4", familyIPv4, "10.0.0.1:1883", "10.0.0.2:40000", "10.0.0.2:40000"},
		{"IPv6", familyIPv6, "[fd00::1]:1883", "[fd00::2]:40000", "[fd00::2]:40000"},
		{"an IPv4 client of a socket for both", familyIPv6, "[::ffff:10.0.0.1]:1883", "[::ffff:10.0.0.2]:40000", "10.0.0.2:40000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := example(c.family, netip.MustParseAddrPort(c.local), netip.MustParseAddrPort(c.remote), 99, append(other, info...)...)
			s, err := parseSocket(raw)
			if err != nil {
				t.Fatal(err)
			}
			if s.Remote.String() != c.want || s.Local.Port() != 1883 || s.State != Established {
				t.Errorf("it is %+v", s)
			}
			if s.ReadQueue != 18 || s.WriteQueue != 3 || s.Inode != 4711 || s.id.cookie() != 99 || !s.id.valid() {
				t.Errorf("it is %+v", s)
			}
			if s.Info == nil || s.Info.SinceReceived != 1500*time.Millisecond || s.Info.Received != 1<<40 {
				t.Errorf("its counters are %+v", s.Info)
			}
			if again := (request{kind: 1, flags: 2, id: s.id, states: 4, extensions: 5}).append(nil, 3); !bytes.Equal(again[headerSize+8:], raw[4:4+idSize]) {
				t.Error("what is asked to be destroyed is not what was listed")
			}
		})
	}
}

func TestWhatIsMalformedIsRefused(t *testing.T) {
	good := example(familyIPv4, netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2"), 1)
	unix := bytes.Clone(good)
	unix[0] = 1
	for name, b := range map[string][]byte{
		"half a socket":                        good[:40],
		"a family that is not of the internet": unix,
		"half an attribute":                    append(bytes.Clone(good), 8, 0),
		"an attribute beyond the end":          append(bytes.Clone(good), 80, 0, 2, 0),
		"an attribute without itself":          append(bytes.Clone(good), 3, 0, 2, 0),
	} {
		if _, err := parseSocket(b); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{
		"half a header":            {16, 0, 0, 0},
		"a message beyond the end": framed(1, 1, nil)[:headerSize-1],
		"a message without itself": make([]byte, headerSize),
	} {
		if _, _, err := next(b); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, body := range map[string][]byte{
		"an error without a number": nil,
		"a number that is no error": {1, 0, 0, 0},
	} {
		if _, err := (message{kind: typeError, body: body}).failure(); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIdentitiesThatNameNoSocketAreNeverSent(t *testing.T) {
	for name, i := range map[string]identity{
		"no cookie": anyOf(familyIPv4, 1883),
		"any cookie": func() identity {
			i := anyOf(familyIPv6, 1883)
			binary.NativeEndian.PutUint64(i.id[idSize-8:], ^uint64(0))
			return i
		}(),
		"no family": func() identity {
			i := anyOf(0, 1883)
			binary.NativeEndian.PutUint64(i.id[idSize-8:], 1)
			return i
		}(),
	} {
		if i.valid() {
			t.Errorf("%s: it counts as one", name)
		}
	}
}

func TestHowManySocketsAreInUse(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       int
	}{
		{"of IPv4", "sockets: used 53\nTCP: inuse 21 orphan 7 tw 3 alloc 2412 mem 1622\nUDP: inuse 4 mem 0\n", 21},
		{"of IPv6", "TCP6: inuse 3\nUDP6: inuse 0\n", 3},
		{"not said", "UDP6: inuse 0\n", -1},
		{"no number", "TCP: inuse many\n", -1},
		{"fewer than none", "TCP: inuse -1\n", -1},
		{"nothing", "", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseInUse([]byte(c.text))
			if c.want < 0 && !errors.Is(err, errMalformed) || c.want >= 0 && (err != nil || got != c.want) {
				t.Errorf("%d: %v", got, err)
			}
		})
	}
}

// Whatever comes, nothing is read beyond its end, and reading ends.
func FuzzMessages(f *testing.F) {
	socket := example(familyIPv6, netip.MustParseAddrPort("[fd00::1]:1883"), netip.MustParseAddrPort("[fd00::2]:2"), 7, 4, 0, 1, 0)
	f.Add(append(framed(20, 1, socket), framed(typeDone, 1, make([]byte, 4))...))
	f.Add(framed(typeError, 1, []byte{254, 255, 255, 255}))
	f.Add(framed(20, 1, socket[:50]))
	f.Fuzz(func(t *testing.T, b []byte) {
		for rest := b; len(rest) > 0; {
			m, after, err := next(rest)
			if err != nil {
				return
			}
			if len(after) >= len(rest) || len(m.body) > len(rest)-headerSize {
				t.Fatalf("%d bytes are left of %d", len(after), len(rest))
			}
			rest = after
			if n, err := m.failure(); err == nil && (n < 0 || n > 4095) {
				t.Fatalf("error number %d", n)
			}
			s, err := parseSocket(m.body)
			if err != nil {
				continue
			}
			if !s.Local.Addr().IsValid() || s.Local.Addr().Is4In6() || s.Remote.Addr().Is4In6() {
				t.Fatalf("it is %+v", s)
			}
			if !bytes.Equal(s.id.id[:], m.body[4:4+idSize]) {
				t.Fatal("its identity is not what came")
			}
		}
	})
}
