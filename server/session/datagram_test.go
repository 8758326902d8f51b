package session

import (
	"testing"
	"time"
	"unsafe"
)

// beating is a table with one session that beats by datagrams.
func beating(t testing.TB, datagrams bool) (*Table[line], Attached[line], Arrival[line]) {
	t.Helper()
	table := NewTable[line]()
	a := Arrival[line]{
		Class: table.Class("im", "phone", false), Client: "c", Principal: "alice", Link: &line{}, Now: 1,
		Lease: Lease{Interval: time.Second, Late: time.Second, Offline: 2 * time.Second}, Datagrams: datagrams,
	}
	got, err := table.Attach(a)
	if err != nil {
		t.Fatal(err)
	}
	return table, got, a
}

func TestDatagramsKeepASessionWithoutALink(t *testing.T) {
	table, s, a := beating(t, true)
	table.Release(s.Session, a.Link)
	for now := Tick(1); now < 200; now++ {
		if h, o := table.Datagram(s.Place, s.Arrival, uint32(now), now); o != Accepted || h.Client != "c" || h.Class != a.Class || h.Interval != time.Second {
			t.Fatalf("tick %d: %+v, %v", now, h, o)
		}
		if silent := table.Patrol(now, 0, nil); len(silent) != 0 {
			t.Fatalf("tick %d: it ends while it beats", now)
		}
	}
	if silent := table.Patrol(300, 0, nil); len(silent) != 1 {
		t.Fatal("it goes on although nothing comes")
	}
	if _, o := table.Datagram(s.Place, s.Arrival, 1000, 301); o != Ended {
		t.Errorf("a beat after the end: %v", o)
	}
}

func TestWhatDatagramsMayNotDo(t *testing.T) {
	table, s, a := beating(t, true)
	for _, c := range []struct {
		name    string
		place   Place
		arrival uint64
		counter uint32
		want    Outcome
	}{
		{"the first", s.Place, s.Arrival, 5, Accepted},
		{"the same again", s.Place, s.Arrival, 5, Replayed},
		{"an earlier one", s.Place, s.Arrival, 4, Replayed},
		{"a later one", s.Place, s.Arrival, 6, Accepted},
		{"number 0", s.Place, s.Arrival, 0, Replayed},
		{"another arrival", s.Place, s.Arrival + 1, 7, Ended},
		{"another shard", s.Place + 1, s.Arrival, 7, Ended},
		{"nobody's place", 0, s.Arrival, 7, Ended},
		{"beyond the table", 1<<32 - 1, s.Arrival, 7, Ended},
	} {
		if _, o := table.Datagram(c.place, c.arrival, c.counter, 1); o != c.want {
			t.Errorf("%s: %v, want %v", c.name, o, c.want)
		}
		if _, o := table.Depart(c.place, c.arrival, min(c.counter, 6)); o == Accepted {
			t.Errorf("%s: it may leave with a number that was used", c.name)
		}
	}
	again, err := table.Attach(a) // with another connection
	if err != nil || again.Session != s.Session || again.Place != s.Place {
		t.Fatalf("%+v, %v", again, err)
	}
	if _, o := table.Datagram(s.Place, s.Arrival, 8, 1); o != Ended {
		t.Errorf("a datagram of the earlier arrival: %v", o)
	}
	if _, o := table.Datagram(again.Place, again.Arrival, 1, 1); o != Accepted {
		t.Errorf("the first of the new arrival: %v", o)
	}
	a.Datagrams = false
	plain, err := table.Attach(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, o := table.Datagram(plain.Place, plain.Arrival, 9, 1); o != Ended {
		t.Errorf("a datagram of a client that has not asked to send any: %v", o)
	}
}

func TestOneThatLeavesByDatagram(t *testing.T) {
	table, s, _ := beating(t, true)
	v, o := table.Depart(s.Place, s.Arrival, 1)
	if o != Accepted || v.Client != "c" || table.Live() != 0 {
		t.Errorf("%+v, %v, %d sessions", v, o, table.Live())
	}
	if _, o := table.Depart(s.Place, s.Arrival, 2); o != Ended {
		t.Errorf("it leaves twice: %v", o)
	}
}

func TestOneThatIsToldToGo(t *testing.T) {
	table, s, a := beating(t, true)
	if table.Tell(a.Class, "c", s.Arrival+1, true) {
		t.Error("another arrival is told")
	}
	if !table.Tell(a.Class, "c", s.Arrival, true) {
		t.Fatal("it cannot be told")
	}
	view := func() (v View[line]) {
		table.Each(func(one View[line]) bool { v = one; return true })
		return v
	}
	if h, _ := table.Datagram(s.Place, s.Arrival, 1, 1); !h.Told || view().Heard {
		t.Errorf("%+v, %+v", h, view())
	}
	table.HasHeard(s.Place, s.Arrival)
	if v := view(); !v.Told || !v.Heard || !v.Datagrams {
		t.Errorf("%+v", v)
	}
	table.Tell(a.Class, "c", s.Arrival, false)
	if h, _ := table.Datagram(s.Place, s.Arrival, 2, 1); h.Told || view().Heard {
		t.Errorf("it is told although that was taken back: %+v, %+v", h, view())
	}
	table.Tell(a.Class, "c", s.Arrival, true)
	again, err := table.Attach(a)
	if err != nil {
		t.Fatal(err)
	}
	if h, _ := table.Datagram(again.Place, again.Arrival, 1, 1); h.Told {
		t.Error("what an earlier arrival was told, a later one hears")
	}
}

func TestALeaseIsRenewedByPlace(t *testing.T) {
	table, s, _ := beating(t, true)
	if !table.RenewAt(s.Place, s.Arrival, Lease{Interval: time.Minute, Late: time.Minute, Offline: 2 * time.Minute}) {
		t.Fatal("there is no such session")
	}
	if table.RenewAt(s.Place, s.Arrival+1, Lease{}) {
		t.Error("a later arrival's lease")
	}
	if silent := table.Patrol(1000, 0, nil); len(silent) != 0 {
		t.Error("it has kept its earlier lease")
	}
}

// TestASessionHasNotGrown: every client has one, whether or not it sends datagrams.
func TestASessionHasNotGrown(t *testing.T) {
	if size := unsafe.Sizeof(Session[line]{}); size > 104 {
		t.Errorf("a session has %d bytes, want 104", size)
	}
}

// BenchmarkDatagram is one beat by datagram of one of a million sessions, in no
// order, from the place to the answer that is due.
func BenchmarkDatagram(b *testing.B) {
	table, all, now := million(b, 1_000_000, 10*time.Second)
	places := make([]Place, len(all))
	for i, s := range all {
		_, hash := table.of(s)
		places[i] = placeOf(s, hash)
		s.grant(true)
	}
	b.ReportAllocs()
	n := 0
	for counter := uint32(1); b.Loop(); {
		if _, o := table.Datagram(places[n], all[n].arrival, counter, now); o != Accepted {
			b.Fatal(o)
		}
		if n++; n == len(all) {
			n = 0
			counter++
		}
	}
}
