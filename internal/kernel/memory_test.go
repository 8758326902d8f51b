package kernel

import (
	"testing"
	"time"
)

// Of some connections only is it remembered how much was read from them. That
// something was read from another one must absolve all the same.
func TestWhatIsReadFromAConnectionThatIsNotRememberedAbsolves(t *testing.T) {
	for _, tt := range []struct {
		name string
		read bool // something, from one that is not remembered
		want Word
	}{
		{"one is read", true, Reading},
		{"none is", false, Unread},
	} {
		s, now, w := New(window), time.Unix(1, 0), newWorld(10*tracked)
		var stuck []*conn
		var other *conn
		f := Finding{}
		for n := range 12 {
			for id, c := range w.conns {
				switch known := s.connections[id] != (connection{}); {
				case n == 0:
					c.arrive(1)
					c.take(1)
				case n == 3 && known && len(stuck) < 2:
					stuck = append(stuck, c)
				case n == 3 && !known && other == nil:
					other = c
				}
			}
			if n == 1 {
				for _, c := range w.conns {
					c.arrive(1)
					c.take(1)
				}
			}
			for _, c := range stuck {
				c.arrive(1)
			}
			if other != nil && tt.read {
				other.arrive(1)
				other.take(1)
			}
			l := s.Look(now)
			w.sockets(l.See)
			if f = l.Done(); f.Word.Hung() && tt.want == Reading {
				t.Fatalf("%s: look %d: %+v", tt.name, n, f)
			}
			now = now.Add(step)
		}
		if len(stuck) != 2 || f.Word != tt.want {
			t.Errorf("%s: %d are stuck, and it is %+v, want %s", tt.name, len(stuck), f, tt.want)
		}
	}
}

func TestOfAQueueOfAnyLengthSoManyAreRemembered(t *testing.T) {
	s, now, w := New(window), time.Unix(1, 0), newWorld(1)
	w.waiting = 5 * tracked
	for n := range uint64(5 * tracked) {
		w.conns[100+n] = &conn{queued: true}
	}
	f := Finding{}
	for range 6 {
		w.conns[1].arrive(1)
		w.conns[1].take(1)
		l := s.Look(now)
		w.sockets(l.See)
		if f = l.Done(); len(s.queued) > tracked {
			t.Fatalf("%d are remembered", len(s.queued))
		}
		now = now.Add(step)
	}
	if f.Word != QueueFull || len(s.queued) != tracked {
		t.Errorf("%+v, and %d are remembered", f, len(s.queued))
	}
}
