package server

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server/session"
)

// looped is a loop with one connection of a client that has a session, and the
// client's end of it. Nobody runs the loop: the test does what it would do.
func looped(t testing.TB) (*loop, *conn, int) {
	t.Helper()
	s := &Server{clock: session.NewClock(nil), table: session.NewTable[peer]()}
	s.metrics = newMetrics(s, nil)
	e := &epoll{clock: s.clock, store: &store.Store{}, start: time.Now(), observe: s.vitals.observe, accept: s.accept}
	l, err := newLoop(e)
	if err != nil {
		t.Fatal(err)
	}
	e.loops = []*loop{l}
	l.buf, l.events = make([]byte, readBuffer), make([]unix.EpollEvent, batch)
	l.m = moment{stamp: s.clock.Stamp(), read: time.Now()}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.add(ends[0])
	t.Cleanup(func() {
		l.abandon()
		l.receive()
		l.free()
		unix.Close(ends[1])
	})
	c := l.slots[0]
	got, err := s.table.Attach(session.Arrival[peer]{
		Class: s.table.Class("im", "phone", false), Client: "c", Link: c.peer, Now: l.m.stamp.Tick, Lease: session.Lease{Offline: time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.peer.session, c.peer.connected, c.peer.version = got.Session, true, mqtt.V5
	return l, c, ends[1]
}

func TestAPingIsAnsweredWithoutAllocation(t *testing.T) {
	l, c, client := looped(t)
	answer := make([]byte, 16)
	if n := testing.AllocsPerRun(1000, func() {
		unix.Write(client, mqtt.Ping)
		l.read(c)
		if n, err := unix.Read(client, answer); err != nil || !bytes.Equal(answer[:n], mqtt.Pong) {
			t.Fatalf("answered with % x, %v", answer[:max(n, 0)], err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if c.held != nil || c.out.Load() != nil || c.peer.turn != nil || c.peer.more != nil {
		t.Errorf("an idle connection holds something: %+v", c)
	}
}

func TestPacketsInPiecesLeaveNothingBehind(t *testing.T) {
	l, c, client := looped(t)
	three := bytes.Repeat(mqtt.Ping, 3)
	for cut := range len(three) + 1 {
		unix.Write(client, three[:cut])
		l.read(c)
		unix.Write(client, three[cut:])
		l.read(c)
		got := make([]byte, 16)
		if n, _ := unix.Read(client, got); !bytes.Equal(got[:max(n, 0)], bytes.Repeat(mqtt.Pong, 3)) {
			t.Errorf("cut after %d bytes: answered with % x", cut, got[:max(n, 0)])
		}
		if c.held != nil {
			t.Errorf("cut after %d bytes: % x is held", cut, *c.held)
		}
	}
}

// What was in the socket when the process woke may have been sent long before.
func TestWhatIsReadFirstAfterAGapProvesNothing(t *testing.T) {
	now := time.Second
	l, c, client := looped(t)
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
		unix.Write(client, mqtt.Ping)
		l.read(c)
		if l.m.trusted != step.want {
			t.Errorf("%s: trusted is %v", step.name, l.m.trusted)
		}
		if got := l.m.proof(); !step.want && got != 0 {
			t.Errorf("%s: it proves %d", step.name, got)
		}
	}
}

func TestAnEventOfAClosedConnectionIsNotItsSuccessors(t *testing.T) {
	l, c, _ := looped(t)
	stale := unix.EpollEvent{Events: unix.EPOLLIN, Fd: c.slot, Pad: int32(c.generation)}
	l.close(c)
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[1])
	l.add(ends[0])
	if l.slots[0] == nil || l.slots[0] == c {
		t.Fatal("the slot was not used again")
	}
	unix.Write(ends[1], []byte{0xff}) // nonsense: it would be refused
	l.handle(&stale)
	if l.slots[0].peer.leaving.Load() {
		t.Error("the successor was read")
	}
}

// A client that does not read is cut off once more waits for it than may.
func TestWhoDoesNotReadIsCutOff(t *testing.T) {
	l, c, client := looped(t)
	pings := bytes.Repeat(mqtt.Ping, 1024)
	for sent := 0; !c.gone; sent += len(pings) {
		if sent > 64<<20 {
			t.Fatal("it was not cut off")
		}
		unix.Write(client, pings)
		l.begin()
		l.read(c)
		l.receive()
		if out := c.out.Load(); out != nil && len(*out) > maxPending {
			t.Fatalf("%d bytes wait for it", len(*out))
		}
	}
}

// A client that reads late gets everything, in order.
func TestWhatTheKernelDoesNotTakeFollowsLater(t *testing.T) {
	l, c, client := looped(t)
	want := 0
	for c.out.Load() == nil {
		pings := bytes.Repeat(mqtt.Ping, 256)
		unix.Write(client, pings)
		l.begin()
		l.read(c)
		want += len(pings)
	}
	got, buf := 0, make([]byte, 1<<16)
	for got < want {
		n, err := unix.Read(client, buf)
		if err != nil {
			t.Fatalf("%d of %d bytes came: %v", got, want, err)
		}
		for i := 0; i < n; i++ {
			if buf[i] != mqtt.Pong[(got+i)%2] {
				t.Fatalf("byte %d is %#x", got+i, buf[i])
			}
		}
		got += n
		l.handle(&unix.EpollEvent{Events: unix.EPOLLOUT, Fd: c.slot, Pad: int32(c.generation)})
	}
	if c.gone || c.out.Load() != nil {
		t.Error("something is left")
	}
}

func TestALoopThatHangsIsSeenInTheVitals(t *testing.T) {
	l, c, _ := looped(t)
	v := &c.peer.s.vitals
	v.busy = append(v.busy, l.e.busy)
	l.e.start = time.Now().Add(-time.Minute)
	l.since.Store(int64(55 * time.Second))
	if got := v.worst(); got < 5*time.Second {
		t.Errorf("a batch that began 5 s ago counts as %v", got)
	}
	l.since.Store(0)
	if got := v.worst(); got != 0 {
		t.Errorf("a loop at rest counts as %v", got)
	}
}

// BenchmarkPing is what the loop does for a PINGREQ, with the client's write and
// read, over a socket pair.
func BenchmarkPing(b *testing.B) {
	l, c, client := looped(b)
	answer := make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		unix.Write(client, mqtt.Ping)
		l.read(c)
		unix.Read(client, answer)
	}
}
