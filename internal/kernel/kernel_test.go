package kernel

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// world is a server's sockets, as the kernel would tell of them.
type world struct {
	conns          map[uint64]*conn
	waiting, limit uint32
	closed         bool
	listener       uint64
}

type conn struct {
	received, read uint64
	quiet          time.Duration // since something arrived
	queued         bool          // it waits to be accepted
}

func (c *conn) arrive(n uint64) { c.received, c.quiet = c.received+n, 0 }
func (c *conn) take(n uint64)   { c.read = min(c.read+n, c.received) }

func newWorld(connections int) *world {
	w := &world{conns: map[uint64]*conn{}, limit: 128}
	for i := range connections {
		w.conns[uint64(i+1)] = &conn{}
	}
	return w
}

func (w *world) sockets(see func(Socket)) {
	if !w.closed {
		see(Socket{Listening: true, ID: w.listener, Local: netip.MustParseAddrPort("0.0.0.0:80"), Waiting: w.waiting, Limit: w.limit})
	}
	for id, c := range w.conns {
		see(Socket{
			ID: id, Received: c.received, Unread: uint32(c.received - c.read), SinceReceived: c.quiet,
			Accepted: !c.queued, Client: true,
		})
		c.quiet += step
	}
}

const (
	window = time.Second
	step   = 500 * time.Millisecond
)

// play looks at a world every step, and returns what was found each time. change
// is what happens before each look, by its number.
func play(w *world, looks int, change func(n int, w *world)) []Finding {
	s, now := New(window), time.Unix(1, 0)
	var all []Finding
	for n := range looks {
		change(n, w)
		l := s.Look(now)
		w.sockets(l.See)
		all = append(all, l.Done())
		now = now.Add(step)
	}
	return all
}

// first is the number of the first look that finds a word; -1: none does.
func first(all []Finding, word Word) int {
	for n, f := range all {
		if f.Word == word {
			return n
		}
	}
	return -1
}

func TestWhatAKernelSaysOfAServer(t *testing.T) {
	const looks, hangs = 40, 10
	everyone := func(w *world, do func(*conn)) {
		for _, c := range w.conns {
			do(c)
		}
	}
	arrive, take := func(c *conn) { c.arrive(10) }, func(c *conn) { c.take(1 << 30) }
	serve := func(w *world) {
		everyone(w, arrive)
		everyone(w, take)
	}
	for _, tt := range []struct {
		name        string
		connections int
		change      func(n int, w *world)
		// hung is the word that must come, and in which look at the latest; empty:
		// neither QueueFull nor Unread may ever come.
		hung Word
		by   int
		last Word
	}{
		{"a server that nobody asks is idle", 5, func(int, *world) {}, "", 0, Idle},
		{"one that reads what comes", 5, func(_ int, w *world) { everyone(w, arrive); everyone(w, take) }, "", 0, Reading},
		{"one that stops reading", 5, func(n int, w *world) {
			everyone(w, arrive)
			if n < hangs {
				everyone(w, take)
			}
		}, Unread, hangs + 6, Unread},
		{"one that stops, and whose clients have stopped sending", 5, func(n int, w *world) {
			if n <= hangs {
				everyone(w, arrive)
			}
			if n < hangs {
				everyone(w, take)
			}
		}, Unread, hangs + 6, Unread},
		{"one that stops, and goes on", 5, func(n int, w *world) {
			everyone(w, arrive)
			if n < hangs || n > 25 {
				everyone(w, take)
			}
		}, Unread, hangs + 6, Reading},
		{"a pause of a second and a half", 5, func(n int, w *world) {
			everyone(w, arrive)
			if n%10 > 2 {
				everyone(w, take)
			}
		}, "", 0, Reading},
		{"a server that stops while nobody asks it", 5, func(n int, w *world) {
			if n < hangs {
				everyone(w, arrive)
				everyone(w, take)
			}
		}, "", 0, Idle},
		{"one that reads slowly, and ever less of what comes", 5, func(_ int, w *world) {
			everyone(w, func(c *conn) { c.arrive(1000) })
			w.conns[1].take(1)
		}, "", 0, Reading},
		{"one connection of many is stuck", 50, func(n int, w *world) {
			everyone(w, arrive)
			everyone(w, take)
			if n >= hangs {
				w.conns[1].arrive(10)
				w.conns[1].read = uint64(hangs * 10)
			}
		}, "", 0, Reading},
		{"the only connection that anything comes on is stuck", 50, func(n int, w *world) {
			w.conns[1].arrive(10)
			if n < hangs {
				everyone(w, take)
			}
		}, "", 0, Reading},
		{"most connections pipeline, and their answers take long", 10, func(n int, w *world) {
			for id, c := range w.conns {
				switch {
				case id == 1: // an observer's: it is read at once
					c.arrive(10)
					c.take(10)
				case n%20 == 0: // two requests; the first is read
					c.arrive(20)
					c.take(10)
				case n%20 == 19:
					c.take(20)
				}
			}
		}, "", 0, Reading},
		{"some connections have never been listened to, and nobody asks anything", 5, func(n int, w *world) {
			w.conns[1].arrive(1)
			w.conns[2].arrive(1)
			if n < 5 {
				w.conns[3].arrive(1)
				w.conns[3].take(1)
			}
		}, "", 0, Reading},
		{"some were unread at the first look, and nobody asks anything but once", 5, func(n int, w *world) {
			w.conns[1].received, w.conns[2].received = 9, 9
			if n == 5 {
				w.conns[3].arrive(1)
				w.conns[3].take(1)
			}
		}, "", 0, Reading},
		{"a server of which the first look is that it does not read", 5, func(_ int, w *world) { everyone(w, arrive) }, "", 0, Reading},
		{"a queue that is full", 3, func(n int, w *world) {
			if n < hangs {
				serve(w)
				return
			}
			w.waiting = w.limit + 1
			w.conns[100] = &conn{queued: true}
		}, QueueFull, hangs + 2, QueueFull},
		{"full while others are served", 3, func(n int, w *world) {
			serve(w)
			if n >= hangs {
				w.waiting = w.limit + 1
			}
		}, QueueFull, hangs + 2, QueueFull},
		{"full at every look, and accepting", 3, func(n int, w *world) {
			serve(w)
			w.waiting = w.limit + 1
			w.conns[uint64(100+n)] = &conn{queued: true}
			if next := w.conns[uint64(99+n)]; next != nil {
				next.queued = false
			}
		}, "", 0, Reading},
		{"full at every look, and accepting who has left before the next", 3, func(n int, w *world) {
			serve(w)
			w.waiting = w.limit + 1
			w.conns[uint64(100+n)] = &conn{queued: true}
			delete(w.conns, uint64(99+n))
		}, "", 0, Reading},
		{"full, and some who waited give up", 3, func(n int, w *world) {
			serve(w)
			if n >= hangs {
				w.waiting = w.limit + 1
				w.conns[200] = &conn{queued: true}
			}
			if n == hangs {
				w.conns[100], w.conns[101] = &conn{queued: true}, &conn{queued: true}
			}
			if n == hangs+1 {
				delete(w.conns, 100)
			}
		}, QueueFull, hangs + 3, QueueFull},
		{"a queue that is full now and then", 3, func(n int, w *world) {
			serve(w)
			w.waiting = (w.limit + 1) * uint32(n%2)
		}, "", 0, Reading},
		{"exactly as many wait as may: one more may come", 3, func(_ int, w *world) {
			serve(w)
			w.waiting = w.limit
		}, "", 0, Reading},
		{"a queue of no length with nobody in it", 3, func(_ int, w *world) {
			serve(w)
			w.limit = 0
		}, "", 0, Reading},
		{"a full queue of a server that has not been seen to read", 3, func(_ int, w *world) { w.waiting = w.limit + 1 }, "", 0, Idle},
		{"a queue that was full before the process began anew, and is again", 3, func(n int, w *world) {
			if w.closed = n == hangs; n < hangs {
				serve(w)
			} else {
				w.waiting = w.limit + 1
			}
		}, "", 0, Idle},
		{"a process that began anew, and has not read yet", 5, func(n int, w *world) {
			if w.closed = n == hangs; w.closed {
				clear(w.conns)
			}
			if n > hangs {
				w.conns[uint64(100+n%5)] = &conn{}
			}
			everyone(w, arrive)
			if n < hangs {
				everyone(w, take)
			}
		}, "", 0, Reading},
		{"a process that began anew between two looks, and has not read yet", 5, func(n int, w *world) {
			if n == hangs {
				w.listener = 7
				w.conns = map[uint64]*conn{100: {}, 101: {}, 102: {}}
			}
			everyone(w, arrive)
			if n < hangs {
				everyone(w, take)
			}
		}, "", 0, Reading},
		{"connections that wait to be accepted, with something to say", 3, func(n int, w *world) {
			if n < hangs {
				everyone(w, arrive)
				everyone(w, take)
				return
			}
			w.waiting++
			w.conns[uint64(100+n)] = &conn{received: 10, queued: true}
		}, Unread, hangs + 7, Unread},
		{"a port that nobody listens on", 0, func(_ int, w *world) { w.closed = true }, "", 0, Closed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := play(newWorld(tt.connections), looks, tt.change)
			for _, word := range []Word{QueueFull, Unread} {
				n := first(all, word)
				switch {
				case word != tt.hung && n >= 0:
					t.Errorf("look %d: %+v", n, all[n])
				case word == tt.hung && (n < hangs || n > tt.by):
					t.Errorf("%s comes in look %d, want one from %d to %d", word, n, hangs, tt.by)
				}
			}
			if f := all[looks-1]; f.Word != tt.last {
				t.Errorf("in the end it is %+v, want %s", f, tt.last)
			}
		})
	}
}

func TestAFindingSaysHowManyAndForHowLong(t *testing.T) {
	all := play(newWorld(3), 12, func(n int, w *world) {
		for _, c := range w.conns {
			c.arrive(10)
			if n < 2 {
				c.take(10)
			}
		}
	})
	f := all[len(all)-1]
	if want := "300 bytes on 3 of 3 connections are unread, and nothing was read from any for 4.5s"; f.Detail != want || f.Connections != 3 || !f.Uneasy {
		t.Errorf("it is %+v, want %q", f, want)
	}
	all = play(newWorld(1), 6, func(n int, w *world) {
		w.conns[1].arrive(1)
		w.conns[1].take(1)
		w.waiting = 129 * uint32(min(n, 1))
	})
	if f := all[5]; !strings.Contains(f.Detail, "129 connections wait to be accepted, where 128 may, and none was for 2s") || !f.Uneasy {
		t.Errorf("it is %+v", f)
	}
}

// A severer that did not run, or a machine that slept, must not take that for the server's time.
func TestTimeInWhichNobodyLookedCountsForLittle(t *testing.T) {
	s, now, w := New(window), time.Unix(1, 0), newWorld(5)
	look := func(pass time.Duration, arrived, taken uint64) Finding {
		now = now.Add(pass)
		for _, c := range w.conns {
			c.arrive(arrived)
			c.take(taken)
		}
		l := s.Look(now)
		w.sockets(l.See)
		return l.Done()
	}
	look(0, 10, 10)
	look(step, 10, 10)
	look(step, 10, 0)
	w.waiting = w.limit + 1
	if f := look(time.Hour, 10, 0); f.Word.Hung() {
		t.Errorf("after an hour: %+v", f)
	}
	if f := look(-time.Hour, 10, 0); f.Word.Hung() {
		t.Errorf("after a clock that was put back: %+v", f)
	}
}

// Looks that are far apart say that it reads; then those that follow each other soon
// find that it does no more, but for what nobody knows the age of.
func TestClocksBeginAnewAfterAPause(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before int // how many are unread already before the pause
		want   Word
	}{
		{"all began to wait after the last look before it", 0, Unread},
		{"but for one that waited before", 1, Unread},
		{"but one waited before", 4, Reading},
	} {
		s, now, w := New(window), time.Unix(1, 0), newWorld(5)
		look := func(pass time.Duration) Finding {
			now = now.Add(pass)
			l := s.Look(now)
			w.sockets(l.See)
			return l.Done()
		}
		look(0)
		for _, c := range w.conns {
			c.arrive(10)
			c.take(10)
		}
		for id := range tt.before {
			w.conns[uint64(id+1)].arrive(10)
		}
		look(30 * time.Second)
		for _, c := range w.conns {
			c.arrive(10)
		}
		f := look(30 * time.Second)
		for took := time.Duration(0); took < window+ReadWithin; took += step {
			if !f.Uneasy || f.Word.Hung() {
				t.Errorf("%s: after %v: %+v", tt.name, took, f)
			}
			f = look(step)
		}
		if f.Word != tt.want {
			t.Errorf("%s: %+v, want %s", tt.name, f, tt.want)
		}
	}
}

// Two listening sockets of one address share what comes (SO_REUSEPORT); two of
// different addresses do not.
func TestQueuesOfOneAddressAreOne(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("0.0.0.0:80"), netip.MustParseAddrPort("[::]:80")
	for _, tt := range []struct {
		name    string
		sockets []Socket
		want    Word
	}{
		{"one of two that share is full", []Socket{{Local: v4, Waiting: 9, Limit: 8}, {Local: v4, Limit: 8}}, Reading},
		{"both are", []Socket{{Local: v4, Waiting: 9, Limit: 8}, {Local: v4, Waiting: 9, Limit: 8}}, QueueFull},
		{"one of two protocols is", []Socket{{Local: v6, Limit: 8}, {Local: v4, Waiting: 9, Limit: 8}}, QueueFull},
		{"whichever comes first", []Socket{{Local: v4, Waiting: 9, Limit: 8}, {Local: v6, Limit: 8}}, QueueFull},
	} {
		s, now := New(window), time.Unix(1, 0)
		var f Finding
		for n := range uint64(5) {
			l := s.Look(now)
			l.See(Socket{ID: 1, Received: n, Accepted: true}) // one that is read
			for _, o := range tt.sockets {
				o.Listening = true
				l.See(o)
			}
			f = l.Done()
			now = now.Add(step)
		}
		if f.Word != tt.want {
			t.Errorf("%s: %+v, want %s", tt.name, f, tt.want)
		}
	}
}

func TestALookThatIsGivenUpIsForgotten(t *testing.T) {
	s, now, w := New(window), time.Unix(1, 0), newWorld(3)
	for n := range 40 {
		for _, c := range w.conns {
			c.arrive(10)
			c.take(10)
		}
		l := s.Look(now)
		if n%3 == 2 { // the listing broke off before the first connection
			continue
		}
		w.sockets(l.See)
		if f := l.Done(); f.Word.Hung() || f.Connections != 3 {
			t.Fatalf("look %d: %+v", n, f)
		}
		now = now.Add(step)
	}
}
