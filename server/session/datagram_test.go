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
		if h, o := table.Datagram(s.Place, s.Arrival, uint32(now), now, true); o != Accepted || h.Client != "c" || h.Class != a.Class || h.Interval != time.Second {
			t.Fatalf("tick %d: %+v, %v", now, h, o)
		}
		if silent := table.Patrol(now, 0, nil); len(silent) != 0 {
			t.Fatalf("tick %d: it ends while it beats", now)
		}
	}
	if silent := table.Patrol(300, 0, nil); len(silent) != 1 {
		t.Fatal("it goes on although nothing comes")
	}
	if _, o := table.Datagram(s.Place, s.Arrival, 1000, 301, true); o != Ended {
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
		if expected := table.Expects(c.place, c.arrival, c.counter); expected != (c.want == Accepted) {
			t.Errorf("%s: expected %v", c.name, expected)
		}
		if _, o := table.Datagram(c.place, c.arrival, c.counter, 1, true); o != c.want {
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
	if _, o := table.Datagram(s.Place, s.Arrival, 8, 1, true); o != Ended {
		t.Errorf("a datagram of the earlier arrival: %v", o)
	}
	if _, o := table.Datagram(again.Place, again.Arrival, 1, 1, true); o != Accepted {
		t.Errorf("the first of the new arrival: %v", o)
	}
	a.Datagrams = false
	plain, err := table.Attach(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, o := table.Datagram(plain.Place, plain.Arrival, 9, 1, true); o != Ended {
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
	if table.Tell(a.Class, "c", s.Arrival+1, 7) {
		t.Error("another arrival is told")
	}
	if !table.Tell(a.Class, "c", s.Arrival, 7) {
		t.Fatal("it cannot be told")
	}
	view := func() (v View[line]) {
		table.Each(func(one View[line]) bool { v = one; return true })
		return v
	}
	if v := view(); v.ByDatagram {
		t.Errorf("it counts as beating by datagram before the first: %+v", v)
	}
	if h, _ := table.Datagram(s.Place, s.Arrival, 1, 1, true); h.Told != 7 || view().Heard {
		t.Errorf("%+v, %+v", h, view())
	}
	if !table.HasHeard(s.Place, s.Arrival) || table.HasHeard(s.Place, s.Arrival) {
		t.Error("it hears of it for the first time once")
	}
	if v := view(); v.Told != 7 || !v.Heard || !v.Datagrams || !v.ByDatagram {
		t.Errorf("%+v", v)
	}
	table.Tell(a.Class, "c", s.Arrival, 0)
	if h, _ := table.Datagram(s.Place, s.Arrival, 2, 1, true); h.Told != 0 || view().Heard {
		t.Errorf("it is told although that was taken back: %+v, %+v", h, view())
	}
	table.Tell(a.Class, "c", s.Arrival, 1<<16-1)
	again, err := table.Attach(a)
	if err != nil {
		t.Fatal(err)
	}
	if h, _ := table.Datagram(again.Place, again.Arrival, 1, 1, true); h.Told != 0 {
		t.Error("what an earlier arrival was told, a later one hears")
	}
}

// TestWhatASessionKeepsOfItsArrival: bits beside those that datagrams change.
func TestWhatASessionKeepsOfItsArrival(t *testing.T) {
	table, s, a := beating(t, true)
	view := func() View[line] { v, _ := table.Find(a.Class, "c"); return v }
	if view().Rights != 0 {
		t.Errorf("%+v", view())
	}
	a.Rights = 0xff
	again, err := table.Attach(a)
	if err != nil {
		t.Fatal(err)
	}
	s.Session.Attend(true)
	table.Tell(a.Class, "c", again.Arrival, 3)
	table.HasHeard(again.Place, again.Arrival)
	table.Tell(a.Class, "c", again.Arrival, 0)
	if h, _ := table.Datagram(again.Place, again.Arrival, 1, 1, true); !h.Attend || h.Told != 0 || view().Rights != 0xff {
		t.Errorf("%+v, %+v", h, view())
	}
	a.Rights = 1
	if _, err := table.Attach(a); err != nil || view().Rights != 1 {
		t.Errorf("of a new arrival: %+v, %v", view(), err)
	}
}

func TestANumberIsSpentWithoutABeat(t *testing.T) {
	table, s, a := beating(t, true)
	if o := table.Spend(s.Place, s.Arrival, 5); o != Accepted {
		t.Errorf("%v", o)
	}
	if o := table.Spend(s.Place, s.Arrival, 5); o != Replayed {
		t.Errorf("once more: %v", o)
	}
	if o := table.Spend(s.Place, s.Arrival+1, 6); o != Ended {
		t.Errorf("of another arrival: %v", o)
	}
	if v, _ := table.Find(a.Class, "c"); v.LastBeat != 1 {
		t.Errorf("it counted as a beat: %+v", v)
	}
	if silent := table.Patrol(100, 0, nil); len(silent) != 1 {
		t.Error("it keeps the session")
	}
}

// TestOneThatIsAbandoned: nobody but a datagram has said that the client is here.
func TestOneThatIsAbandoned(t *testing.T) {
	for _, c := range []struct {
		name    string
		beats   bool // by datagram
		proves  bool
		abandon bool
	}{
		{"nothing came", false, false, true},
		{"a datagram that may be old", true, false, true},
		{"one that is not", true, true, false},
	} {
		table, s, a := beating(t, true)
		if c.beats {
			table.Datagram(s.Place, s.Arrival, 1, 1, c.proves)
		}
		if _, ok := table.Abandon(s.Session, a.Link); ok != c.abandon || table.Has(a.Class, "c") == c.abandon {
			t.Errorf("%s: abandoned %v", c.name, ok)
		}
	}
}

// TestArrivalsCannotBeGuessed: who has not seen one names no session.
func TestArrivalsCannotBeGuessed(t *testing.T) {
	_, a, _ := beating(t, true)
	_, b, _ := beating(t, true)
	if a.Arrival < 1<<32 && b.Arrival < 1<<32 {
		t.Errorf("the first arrivals are %d and %d", a.Arrival, b.Arrival)
	}
}

func TestALeaseIsRenewedByPlace(t *testing.T) {
	table, s, _ := beating(t, true)
	if !table.RenewAt(s.Place, s.Arrival, Lease{Interval: time.Minute, Late: time.Minute, Offline: 2 * time.Minute}) {
		t.Fatal("there is no such session")
	}
	same := Lease{Interval: time.Minute, Late: time.Minute, Offline: 3 * time.Minute}
	if table.Interval(s.Session) != time.Minute || table.Renew(s.Session, same) || table.Interval(s.Session) != time.Minute {
		t.Errorf("its interval is %v, want a minute, as before", table.Interval(s.Session))
	}
	if table.RenewAt(s.Place, s.Arrival+1, Lease{}) {
		t.Error("a later arrival's lease")
	}
	if silent := table.Patrol(1000, 0, nil); len(silent) != 0 {
		t.Error("it has kept its earlier lease")
	}
	same.Interval = time.Second
	if !table.Renew(s.Session, same) || table.Interval(s.Session) != time.Second {
		t.Errorf("its interval is %v, want another", table.Interval(s.Session))
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
		s.grant(true, 0)
	}
	b.ReportAllocs()
	n := 0
	for counter := uint32(1); b.Loop(); {
		if _, o := table.Datagram(places[n], all[n].arrival, counter, now, true); o != Accepted {
			b.Fatal(o)
		}
		if n++; n == len(all) {
			n = 0
			counter++
		}
	}
}
