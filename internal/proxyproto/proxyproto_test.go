package proxyproto

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
)

// header is one with these bytes after the signature, the length filled in.
func header(command, family byte, rest string) []byte {
	b := append([]byte(signature), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rest)))
	return append(b, rest...)
}

const (
	addresses4 = "\xcb\x00\x71\x07" + "\x0a\x00\x00\x01" + "\xd4\x31" + "\x22\xb3"
	addresses6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x00\x50" + "\x22\xb3"
	mapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xcb\x00\x71\x07" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x01" + "\xd4\x31" + "\x22\xb3"
	alpn = "\x01\x00\x04mqtt"
	noop = "\x04\x00\x00"
)

func TestHeaders(t *testing.T) {
	for _, c := range []struct {
		name   string
		header []byte
		client string // empty: none
		fault  string // empty: none
	}{
		{"IPv4", header(0x21, 0x11, addresses4), "203.0.113.7:54321", ""},
		{"IPv4 and what is skipped", header(0x21, 0x11, addresses4+alpn+noop), "203.0.113.7:54321", ""},
		{"IPv6", header(0x21, 0x21, addresses6), "[2001:db8::1]:80", ""},
		{"IPv4 in IPv6", header(0x21, 0x21, mapped), "203.0.113.7:54321", ""},
		{"the longest", header(0x21, 0x11, addresses4+"\x04\x0f\xe1"+strings.Repeat("x", 0xfe1)), "203.0.113.7:54321", ""},
		{"LOCAL", header(0x20, 0x00, ""), "", ""},
		{"LOCAL, with what is ignored", header(0x20, 0x31, "anything"), "", ""},
		{"no family", header(0x21, 0x00, ""), "", ""},
		{"no family, with what is ignored", header(0x21, 0x00, "x"), "", ""},

		{"version 1", []byte("PROXY TCP4 203.0.113.7 10.0.0.1 54321 8883\r\n"), "", "version 2"},
		{"an MQTT client", []byte("\x10\x10\x00\x04MQTT\x05"), "", "no PROXY protocol v2 header"},
		{"a TLS client", []byte("\x16\x03\x01\x02\x00\x01"), "", "no PROXY protocol v2 header"},
		{"an HTTP client", []byte("GET / HTTP/1.1\r\n"), "", "no PROXY protocol v2 header"},
		{"a blank line", []byte("\r\n\r\n\r\n\r\n"), "", "no PROXY protocol v2 header"},
		{"version 3", header(0x31, 0x11, addresses4), "", "version and command"},
		{"another command", header(0x22, 0x11, addresses4), "", "version and command"},
		{"UDP", header(0x21, 0x12, addresses4), "", "family and protocol"},
		{"a path", header(0x21, 0x31, strings.Repeat("/", 216)), "", "family and protocol"},
		{"too few bytes for IPv4", header(0x21, 0x11, addresses4[:11]), "", "too few"},
		{"IPv4's addresses as IPv6's", header(0x21, 0x21, addresses4), "", "too few"},
		{"too long", header(0x21, 0x11, addresses4+strings.Repeat("\x04\x00\x00", 1500)), "", "more than"},
		{"half a vector", header(0x21, 0x11, addresses4+"\x01\x00"), "", "cut short"},
		{"a vector longer than the header", header(0x21, 0x11, addresses4+"\x01\x00\x05mqtt"), "", "cut short"},
	} {
		client, n, err := Parse(append(bytes.Clone(c.header), "what follows"...))
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) || n != 0 {
				t.Errorf("%s: %d, %v, want a fault with %q", c.name, n, err, c.fault)
			}
			continue
		}
		want := netip.AddrPort{}
		if c.client != "" {
			want = netip.MustParseAddrPort(c.client)
		}
		if err != nil || client != want || n != len(c.header) {
			t.Errorf("%s: %v, %d, %v, want %v and %d bytes", c.name, client, n, err, want, len(c.header))
		}
	}
}

func TestFaultsAreToldAsSoonAsTheyCanBe(t *testing.T) {
	for name, b := range map[string][]byte{
		"the first byte": {0x10}, "the command": header(0x22, 0, "")[:13], "the family": header(0x21, 0x12, "")[:14],
		"the length": header(0x21, 0x11, strings.Repeat("x", 5000))[:16],
	} {
		if _, _, err := Parse(b); err == nil {
			t.Errorf("%s is taken", name)
		}
		if _, n, err := Parse(b[:len(b)-1]); err != nil || n != 0 {
			t.Errorf("%s: the byte before it: %d, %v", name, n, err)
		}
	}
}

// FuzzParse: however the bytes are split, the header is the same, and reading what
// is missing reads just the header.
func FuzzParse(f *testing.F) {
	f.Add(header(0x21, 0x11, addresses4+alpn))
	f.Add(header(0x21, 0x21, addresses6))
	f.Add(header(0x20, 0x00, noop))
	f.Add(header(0x21, 0x11, addresses4+"\x01\x00\x05mqtt"))
	f.Add([]byte("PROXY TCP4 203.0.113.7 10.0.0.1 54321 8883\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		client, n, err := Parse(b)
		if n < 0 || n > min(len(b), MaxLength) || err != nil && (n != 0 || client.IsValid()) {
			t.Fatalf("Parse of %d bytes = %v, %d, %v", len(b), client, n, err)
		}
		for cut := range b {
			_, m, e := Parse(b[:cut])
			switch {
			case m != 0 && m != n:
				t.Fatalf("%d bytes give %d, all give %d", cut, m, n)
			case e != nil && err == nil:
				t.Fatalf("%d bytes give %v, all are right", cut, e)
			}
		}
		have := 0 // read as a connection is
		for have < len(b) {
			_, m, e := Parse(b[:have])
			if m != 0 || e != nil {
				break
			}
			more := Missing(b[:have])
			if more < 1 || have+more > MaxLength {
				t.Fatalf("%d bytes are missing behind %d of no whole header", more, have)
			}
			have = min(len(b), have+more)
		}
		if n != 0 && have != n {
			t.Fatalf("%d bytes were read of a header of %d", have, n)
		}
	})
}
