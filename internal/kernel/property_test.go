package kernel

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Whatever else happens: a server that reads something within the time that it is
// granted never has unread bytes held against it; one that reads nothing, having
// read before, has, as soon as that time is over, if two wait for it; and what is
// remembered is bounded.
func TestPropertiesOfUnreadBytes(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(1 + r.IntN(40))
		next := uint64(1000)
		s, now := New(window), time.Unix(1, 0)
		var readAt time.Time // when something was read last
		read := false
		dead := false // it reads nothing any more
		var since time.Time
		for range 200 {
			pace := 100*time.Millisecond + time.Duration(r.Int64N(int64(400*time.Millisecond)))
			now = now.Add(pace)
			if !dead && r.IntN(60) == 0 {
				dead, since = true, now
			} else if dead && r.IntN(20) == 0 {
				dead = false
			}
			for _, id := range slices.Sorted(maps.Keys(w.conns)) { // so that a seed is one history
				c := w.conns[id]
				if r.IntN(3) == 0 {
					c.arrive(uint64(r.IntN(50)))
				}
				if !dead && r.IntN(4) > 0 && c.read < c.received {
					c.take(1 + uint64(r.IntN(100)))
					readAt, read = now, true
				}
				if r.IntN(50) == 0 {
					delete(w.conns, id)
				}
			}
			for r.IntN(3) == 0 {
				next++
				w.conns[next] = &conn{}
			}
			l := s.Look(now)
			w.sockets(l.See)
			f := l.Done()
			// A read on a connection that has ended since nobody has seen: so it is what
			// is seen to be read that absolves, which comes within the same look here.
			if f.Word == Unread && (!read || !dead && now.Sub(readAt) < window) {
				t.Fatalf("seed %d: %+v, read %v ago", seed, f, now.Sub(readAt))
			}
			if f.Word == Unread && dead && now.Sub(since) < ReadWithin {
				t.Fatalf("seed %d: %+v, %v after it stopped", seed, f, now.Sub(since))
			}
			if f.Word == QueueFull || f.Word == Closed {
				t.Fatalf("seed %d: %+v of a queue that is empty", seed, f)
			}
			if len(s.connections) > tracked || f.Connections != len(w.conns) {
				t.Fatalf("seed %d: %d are remembered, %+v of %d", seed, len(s.connections), f, len(w.conns))
			}
		}
	}
}

func TestAServerThatReadsNothingMoreIsFoundAmongAnyNumberOfConnections(t *testing.T) {
	for _, connections := range []int{2, 100, tracked, 10 * tracked} {
		s, now, w := New(window), time.Unix(1, 0), newWorld(connections)
		found := time.Duration(0)
		for n := 0; n < 30 && found == 0; n++ {
			for _, c := range w.conns {
				c.arrive(10)
				if n < 10 {
					c.take(10)
				}
			}
			l := s.Look(now)
			w.sockets(l.See)
			if f := l.Done(); f.Word == Unread {
				found = now.Sub(time.Unix(1, 0).Add(9 * step)) // the last read
			} else if f.Word.Hung() || f.Connections != connections {
				t.Fatalf("%d connections: %+v", connections, f)
			}
			if len(s.connections) > tracked {
				t.Fatalf("%d connections: %d are remembered", connections, len(s.connections))
			}
			now = now.Add(step)
		}
		if limit := window + ReadWithin + 2*step; found < window+ReadWithin || found > limit {
			t.Errorf("%d connections: found %v after the last read, want from %v to %v", connections, found, window+ReadWithin, limit)
		}
		// When they are gone, all that are left are remembered again.
		for id := range w.conns {
			if id > 10 {
				delete(w.conns, id)
			}
		}
		for range 12 {
			l := s.Look(now)
			w.sockets(l.See)
			l.Done()
			now = now.Add(step)
		}
		if len(s.connections) != len(w.conns) {
			t.Errorf("%d connections: of %d that are left %d are remembered", connections, len(w.conns), len(s.connections))
		}
	}
}

func BenchmarkLook(b *testing.B) {
	s, now, w := New(window), time.Unix(1, 0), newWorld(100)
	for b.Loop() {
		l := s.Look(now)
		w.sockets(l.See)
		l.Done()
		now = now.Add(step)
	}
}
