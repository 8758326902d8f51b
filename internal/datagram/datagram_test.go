package datagram

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"
)

var phone = Session{Place: 42, Arrival: 7}

// pair is a server, and a client that it has given a key.
func pair(t testing.TB, of Session) (*Server, *Client) {
	t.Helper()
	var key [KeySize]byte
	for i := range key {
		key[i] = byte(i)
	}
	s, err := NewServer(key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(of, s.Key(of))
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func TestWhatOneSealsTheOtherOpens(t *testing.T) {
	s, c := pair(t, phone)
	var b [Size]byte
	for _, m := range []Message{
		{Kind: Beat, Session: phone, Counter: 1, Time: 1},
		{Kind: Beat, Session: phone, Counter: 1<<32 - 1, Time: 1<<64 - 1, Interval: 1<<32 - 1},
		{Kind: Leave, Session: phone, Counter: 2},
	} {
		c.Seal(b[:], m)
		if of, counter, ok := Peek(b[:]); !ok || of != m.Session || counter != m.Counter {
			t.Errorf("in the clear it says %v, %d, want %+v", of, counter, m)
		}
		if got, err := s.Open(b[:]); err != nil || got != m {
			t.Errorf("the server reads %+v (%v), want %+v", got, err, m)
		}
		if _, err := c.Open(b[:]); !errors.Is(err, ErrMalformed) {
			t.Errorf("the client takes its own question for an answer: %v", err)
		}
		for _, k := range []Kind{OK, Draining, Gone, Skewed} {
			m := m
			m.Kind = k
			s.Seal(b[:], m)
			if got, err := c.Open(b[:]); err != nil || got != m {
				t.Errorf("the client reads %+v (%v), want %+v", got, err, m)
			}
			if _, _, ok := Peek(b[:]); ok {
				t.Error("an answer looks like a question")
			}
			if _, err := s.Open(b[:]); !errors.Is(err, ErrMalformed) {
				t.Errorf("the server takes an answer for a question: %v", err)
			}
		}
	}
}

// TestTheBytesStayAsTheyAre holds implementations in other languages and other
// versions together.
func TestTheBytesStayAsTheyAre(t *testing.T) {
	s, c := pair(t, phone)
	key := s.Key(phone)
	var question, answer [Size]byte
	c.Seal(question[:], Message{Kind: Beat, Counter: 3, Time: 1000, Interval: 30_000})
	s.Seal(answer[:], Message{Kind: OK, Session: phone, Counter: 3, Time: 1001, Interval: 30_000})
	for _, v := range []struct {
		name, want string
		got        []byte
	}{
		{"key", "17f24100f5e4906a326f95f3200623eb8de3c4a877c4b5453ef1e7518c8752dc", key[:]},
		{"question", "010100000000002a000000000000000700000003d05f2b6df295caf06a68c80b1a09f3f8610668d0dba3ffa53ede2310", question[:]},
		{"answer", "010300000000002a0000000000000007000000035fa7d1f5200fd8b63894a99f017ab282922a99c48d97fb0e811e2355", answer[:]},
	} {
		if got := hex.EncodeToString(v.got); got != v.want {
			t.Errorf("%s is %s, want %s", v.name, got, v.want)
		}
	}
}

func TestNothingElseOpens(t *testing.T) {
	s, c := pair(t, phone)
	var b [Size]byte
	c.Seal(b[:], Message{Kind: Beat, Counter: 5, Time: 9, Interval: 1})
	for i := range b {
		for bit := range 8 {
			x := b
			x[i] ^= 1 << bit
			if _, err := s.Open(x[:]); err == nil {
				t.Errorf("byte %d, bit %d may be changed", i, bit)
			}
		}
	}
	if _, err := s.Open(b[:Size-1]); !errors.Is(err, ErrMalformed) {
		t.Errorf("one byte less: %v", err)
	}
	if _, err := s.Open(append(b[:], 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("one byte more: %v", err)
	}
	x := b // another session's client can't speak for this one
	other, err := NewClient(phone, s.Key(Session{Place: 42, Arrival: 8}))
	if err != nil {
		t.Fatal(err)
	}
	other.Seal(x[:], Message{Kind: Beat, Counter: 6})
	if _, err := s.Open(x[:]); !errors.Is(err, ErrForged) {
		t.Errorf("with the key of an earlier arrival: %v", err)
	}
	restarted, err := NewServer([KeySize]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := restarted.Open(b[:]); !errors.Is(err, ErrForged) {
		t.Errorf("after a restart: %v", err)
	}
}

func TestNothingIsAllocated(t *testing.T) {
	s, c := pair(t, phone)
	b := make([]byte, Size)
	n := testing.AllocsPerRun(100, func() {
		c.Seal(b, Message{Kind: Beat, Counter: 5, Time: 9})
		m, err := s.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		m.Kind = OK
		s.Seal(b, m)
		if _, err := c.Open(b); err != nil {
			t.Fatal(err)
		}
		b[30] ^= 1
		if _, err := s.Open(b); err == nil {
			t.Fatal("it opens")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestGrants(t *testing.T) {
	g := Grant{Address: "[fd00::1]:1884", Session: phone, Key: [KeySize]byte{1, 2, 0xff}, Time: 12345}
	got, err := ParseGrant(g.Format())
	if err != nil || got != g {
		t.Errorf("%+v (%v), want %+v", got, err, g)
	}
	if got, err := ParseGrant(g.Format() + " more"); err != nil || got != g {
		t.Errorf("a newer server's: %v", err)
	}
	for name, s := range map[string]string{
		"nothing": "", "no key": "10.0.0.1:1 1 2", "place": "a:1 x 2 AAAA 3", "short key": "a:1 1 2 AAAA 3",
	} {
		if _, err := ParseGrant(s); err == nil {
			t.Errorf("%s: %q is taken", name, s)
		}
	}
}

// FuzzOpen: whatever comes from the network, nothing panics, and what opens was
// sealed by somebody who has the key.
func FuzzOpen(f *testing.F) {
	s, c := pair(f, phone)
	var b [Size]byte
	for _, m := range []Message{{Kind: Beat, Counter: 1, Time: 9, Interval: 1000}, {Kind: Leave, Counter: 2}} {
		c.Seal(b[:], m)
		f.Add(bytes.Clone(b[:]))
	}
	s.Seal(b[:], Message{Kind: Gone, Session: phone, Counter: 1})
	f.Add(bytes.Clone(b[:]))
	f.Add([]byte{})
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, d []byte) {
		for _, open := range []func([]byte) (Message, error){s.Open, c.Open} {
			m, err := open(d)
			if err != nil {
				continue
			}
			var again [Size]byte
			if s.Seal(again[:], m); !bytes.Equal(again[:], d) {
				t.Fatalf("%x opens as %+v, which is sealed as %x", d, m, again)
			}
		}
	})
}

// FuzzSealed: what is sealed opens as it was, and not once a bit is another.
func FuzzSealed(f *testing.F) {
	f.Add(uint32(42), uint64(7), uint32(1), uint64(9), uint32(1000), uint16(3))
	f.Add(uint32(0), uint64(0), uint32(0), uint64(0), uint32(0), uint16(Size*8-1))
	f.Fuzz(func(t *testing.T, place uint32, arrival uint64, counter uint32, time uint64, interval uint32, flip uint16) {
		of := Session{place, arrival}
		s, c := pair(t, of)
		want := Message{Beat, of, counter, time, interval}
		var b [Size]byte
		c.Seal(b[:], want)
		if got, err := s.Open(b[:]); err != nil || got != want {
			t.Fatalf("%+v (%v), want %+v", got, err, want)
		}
		bit := int(flip) % (Size * 8)
		b[bit/8] ^= 1 << (bit % 8)
		if got, err := s.Open(b[:]); err == nil {
			t.Fatalf("bit %d may be changed: %+v", bit, got)
		}
	})
}

func FuzzParseGrant(f *testing.F) {
	f.Add(Grant{Address: "10.0.0.1:1884", Session: phone, Time: 1}.Format())
	f.Add("a:1 1 2 AAAA 3")
	f.Fuzz(func(t *testing.T, s string) {
		g, err := ParseGrant(s)
		if err != nil {
			return
		}
		if again, err := ParseGrant(g.Format()); err != nil || again != g {
			t.Fatalf("%+v becomes %+v (%v)", g, again, err)
		}
	})
}

// BenchmarkAnswer is what a server does for a beat: it opens one and seals its
// answer, each of another session.
func BenchmarkAnswer(b *testing.B) {
	s, _ := pair(b, phone)
	d := make([][]byte, 1024)
	for i := range d {
		of := Session{Place: uint32(i), Arrival: 1}
		c, err := NewClient(of, s.Key(of))
		if err != nil {
			b.Fatal(err)
		}
		d[i] = make([]byte, Size)
		c.Seal(d[i], Message{Kind: Beat, Counter: 1, Time: 9})
	}
	answer := make([]byte, Size)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m, err := s.Open(d[i%len(d)])
		if err != nil {
			b.Fatal(err)
		}
		m.Kind = OK
		s.Seal(answer, m)
	}
}

// BenchmarkForged is what a stranger's datagram costs.
func BenchmarkForged(b *testing.B) {
	s, c := pair(b, phone)
	d := make([]byte, Size)
	c.Seal(d, Message{Kind: Beat, Counter: 1})
	binary.BigEndian.PutUint32(d[16:], 2)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Open(d); err == nil {
			b.Fatal("it opens")
		}
	}
}
