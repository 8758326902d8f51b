package server

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/certificate/certificatetest"
	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server/session"
)

// sealed is looped for a connection with TLS upon it, which has come out of its
// handshake.
func sealed(t testing.TB) (*loop, *sealedConn, *tls.Conn) {
	t.Helper()
	l, _, _ := looped(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certificatetest.New(t, "test").Issue("rollcall", cert, key)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	dialled, err := net.Dial("tcp", at.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close() })
	accepted, err := at.Accept()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := accepted.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	client := tls.Client(&tapped{Conn: dialled}, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is the test's own
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	h := (&tcp{clock: l.e.clock, store: &store.Store{}}).newHeard(accepted.(*net.TCPConn), raw, nil)
	s := &sealedConn{}
	s.below.Conn, s.sealed = h, true
	s.tls = tls.Server(&s.below, &tls.Config{Certificates: []tls.Certificate{pair}})
	if err := s.tls.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	if err := s.leave(h); err != nil {
		t.Fatal(err)
	}
	accepted.Close() // the loop has a descriptor of its own
	l.adopt(s, time.Now().Add(connectWithin))
	if s.gone {
		t.Fatal("it was not adopted")
	}
	table := s.peer.s.table
	got, err := table.Attach(session.Arrival[peer]{
		Class: table.Class("im", "phone", false), Client: "sealed", Link: s.peer, Now: l.m.stamp.Tick, Lease: session.Lease{Offline: time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.peer.session, s.peer.connected, s.peer.version = got.Session, true, mqtt.V5
	return l, s, client
}

// pings has the client send some, a record each; pongs hears as many answers.
func pings(t testing.TB, client *tls.Conn, n int) {
	t.Helper()
	for range n {
		if _, err := client.Write(mqtt.Ping); err != nil {
			t.Fatal(err)
		}
	}
}

func pongs(t testing.TB, client *tls.Conn, n int) {
	t.Helper()
	got := make([]byte, n*len(mqtt.Pong))
	if err := client.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, bytes.Repeat(mqtt.Pong, n)) {
		t.Fatalf("answered with % x, %v", got, err)
	}
}

// What is behind the records that are taken at once is told by no event, and is as old
// as the read that brought it.
func TestRecordsThatAreLeftAreTakenLater(t *testing.T) {
	l, s, client := sealed(t)
	l.begin()
	first := l.m.read
	tcp := client.NetConn().(*tapped)
	tcp.holds = true
	pings(t, client, recordsAtOnce+2)
	if _, err := tcp.Conn.Write(tcp.sent); err != nil { // at once: on loopback they have come then
		t.Fatal(err)
	}
	l.read(&s.conn)
	if len(l.more) != 1 || l.more[0] != &s.conn {
		t.Fatalf("%d connections have more, want this one", len(l.more))
	}
	if !s.below.m.read.Equal(first) {
		t.Errorf("its moment is %v after the read", s.below.m.read.Sub(first))
	}
	l.begin()
	l.read(&s.conn)
	pongs(t, client, recordsAtOnce+2)
	if s.held != nil || s.out.Load() != nil || s.peer.turn != nil {
		t.Errorf("an idle connection holds something: %+v", &s.conn)
	}
	if s.gone {
		t.Error("it was closed")
	}
}

// A record may come in pieces: nobody waits for its end.
func TestARecordInPieces(t *testing.T) {
	l, s, client := sealed(t)
	tcp := client.NetConn().(*tapped)
	for cut := 1; ; cut++ {
		tcp.holds = true
		pings(t, client, 1)
		record := tcp.sent
		tcp.holds, tcp.sent = false, nil
		if cut >= len(record) {
			break
		}
		for _, piece := range [][]byte{record[:cut], record[cut:]} {
			if _, err := tcp.Write(piece); err != nil {
				t.Fatal(err)
			}
			l.begin()
			l.read(&s.conn)
		}
		if len(l.more) > 0 || s.gone {
			t.Fatalf("cut after %d bytes: %d have more, closed: %v", cut, len(l.more), s.gone)
		}
		pongs(t, client, 1)
		if !s.below.m.read.Equal(l.m.read) {
			t.Fatalf("cut after %d bytes: its moment is not that of its end", cut)
		}
	}
}

// As over plain TCP: what was in the socket when the process woke may have been sent long
// before.
func TestWhatIsReadFirstOverTLSAfterAGapProvesNothing(t *testing.T) {
	now := time.Second
	l, s, client := sealed(t)
	l.e.clock = session.NewClock(func() time.Duration { return now })
	for _, step := range []struct {
		name   string
		passes time.Duration
		want   bool
	}{
		{"at first", 0, true},
		{"later", time.Second / 2, true},
		{"after a stop", 2 * time.Second, false},
		{"once it was found empty", 0, true},
	} {
		now += step.passes
		l.begin()
		pings(t, client, 1)
		l.read(&s.conn)
		pongs(t, client, 1)
		if s.below.m.trusted != step.want {
			t.Errorf("%s: trusted is %v", step.name, s.below.m.trusted)
		}
	}
}

func TestTheEndOfTLSEndsTheConnection(t *testing.T) {
	l, s, client := sealed(t)
	pings(t, client, 1)
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	l.read(&s.conn)
	pongs(t, client, 1)
	if !s.gone {
		t.Error("it is still there")
	}
}

// tapped is a client's TCP connection, which may keep what is sent by it.
type tapped struct {
	net.Conn
	holds bool
	sent  []byte
}

func (h *tapped) Write(b []byte) (int, error) {
	if h.holds {
		h.sent = append(h.sent, b...)
		return len(b), nil
	}
	return h.Conn.Write(b)
}

// BenchmarkPingOverTLS is BenchmarkPing over TLS and TCP, the client's part included.
func BenchmarkPingOverTLS(b *testing.B) {
	l, s, client := sealed(b)
	answer := make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		pings(b, client, 1)
		l.read(&s.conn)
		if _, err := client.Read(answer); err != nil {
			b.Fatal(err)
		}
	}
}
