package client

import (
	"net"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/datagram"
)

// TestAClientWhoseClockStoodStillAsksAgain: by the time that it is told, and once.
func TestAClientWhoseClockStoodStillAsksAgain(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	conn, err := net.Dial("udp", socket.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	of := datagram.Session{Place: 65, Arrival: 7}
	server, err := datagram.NewServer([datagram.KeySize]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	box, err := datagram.NewClient(of, server.Key(of))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	l := &line{conn: conn, now: func() time.Time { return now }, questions: box, told: 5000, at: now}
	asked := func() datagram.Message {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, datagram.Size)
		if _, _, err := socket.ReadFrom(b); err != nil {
			t.Fatal(err)
		}
		m, err := server.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	now = now.Add(time.Second)
	decided := now
	l.ask(datagram.Beat, decided)
	if m := asked(); m.Counter != 1 || m.Time != 6000 {
		t.Fatalf("it asked %+v", m)
	}
	now = now.Add(100 * time.Millisecond)
	skewed := datagram.Message{Kind: datagram.Skewed, Session: of, Counter: 1, Time: 66_000}
	r := l.heard(skewed)
	new(loop).replied(&session{line: l}, r)
	now = now.Add(time.Hour)
	new(loop).replied(&session{line: l}, l.heard(skewed)) // somebody has sent it once more
	if m := asked(); m.Counter != 2 || m.Time != 66_000 || !r.at.Equal(decided) {
		t.Errorf("it asked %+v, of %v", m, r.at)
	}
	l.ask(datagram.Beat, now)
	if m := asked(); m.Counter != 3 || m.Time != 66_000+uint64(time.Hour.Milliseconds()) {
		t.Errorf("its next question is %+v", m)
	}
	if r := l.heard(datagram.Message{Kind: datagram.OK, Counter: 2, Time: 66_100}); !r.at.Equal(decided) {
		t.Errorf("what it asked again is of %v, want of when the first was decided", r.at)
	}
}
