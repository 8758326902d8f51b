package evidence

import (
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// clock is a time that the test moves.
type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

func newBook() (*Book, *clock) {
	c := &clock{now: time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)}
	return New(func() time.Time { return c.now }), c
}

func record(incarnation string, sessions int, takeovers map[string]store.Takeovers) store.Server {
	return store.Server{Incarnation: incarnation, Sessions: map[string]int{"im/apps": sessions}, Takeovers: takeovers}
}

func put(b *Book, servers map[string]store.Server, deleted ...string) {
	b.UpdateServers(store.Update[string, store.Server]{Put: servers, Deleted: deleted})
}

func TestBaselineIsWhatAServerHeldWhenItWasLastWell(t *testing.T) {
	b, c := newBook()
	b.UpdateServers(store.Update[string, store.Server]{Reset: true, Put: map[string]store.Server{
		"im/a": record("a1", 100, nil), "im/b": record("b1", 50, map[string]store.Takeovers{"a1": {Directive: 4}}),
	}})
	check := func(what string, clients, taken, left int) {
		t.Helper()
		s := b.Server("im/a", c.now)
		if s.Well.Clients != clients || s.Well.TakenOver.Total() != taken || s.Left != left {
			t.Errorf("%s: %d clients, %d taken over, %d left, want %d, %d, %d", what,
				s.Well.Clients, s.Well.TakenOver.Total(), s.Left, clients, taken, left)
		}
	}
	b.Settle("im/a", c.now)
	check("what lies before the first snapshot is history", 100, 4, 0)

	put(b, map[string]store.Server{"im/b": record("b1", 53, map[string]store.Takeovers{"a1": {Directive: 4, Late: 3}})})
	b.Settle("im/a", c.now)
	check("who leaves a server that has not told of it may be the first of many", 100, 4, 3)
	c.pass(settle)
	b.Settle("im/a", c.now)
	check("if none follow, that is history too", 100, 7, 3)

	put(b, map[string]store.Server{"im/a": record("a1", 97, nil)})
	b.Settle("im/a", c.now)
	check("a server that rewrites its record is well", 97, 7, 0)

	// From here on it is not well: nobody settles it.
	put(b, map[string]store.Server{"im/b": record("b1", 60, map[string]store.Takeovers{"a1": {Directive: 4, Late: 10}})})
	c.pass(time.Minute)
	put(b, map[string]store.Server{"im/b": record("b2", 1, map[string]store.Takeovers{"a1": {Late: 1}})}, "im/a")
	check("a receiver that restarts takes nothing back", 97, 7, 8)
	if s := b.Server("im/a", c.now); s.Lease() != verdict.LeaseGone || s.Record.Total() != 97 {
		t.Errorf("a server that is gone is remembered: %+v", s)
	}
	if f := b.Former("im/b"); len(f) != 1 || f["b1"].IsZero() {
		t.Errorf("the incarnation that was replaced is remembered: %v", f)
	}
}

func TestTheClientsWordIsForgottenAfterItsWindow(t *testing.T) {
	b, c := newBook()
	b.UpdateServers(store.Update[string, store.Server]{Reset: true, Put: map[string]store.Server{
		"im/a": record("a1", 100, nil), "im/b": record("b1", 0, map[string]store.Takeovers{"a1": {Late: 9}}),
	}})
	late := func(want int) {
		t.Helper()
		if got := b.Server("im/a", c.now).LeftLate; got != want {
			t.Errorf("%d left late, want %d", got, want)
		}
	}
	late(0)
	put(b, map[string]store.Server{"im/b": record("b1", 2, map[string]store.Takeovers{"a1": {Late: 11, Directive: 5}})})
	late(2)
	c.pass(LeftWindow / 2)
	put(b, map[string]store.Server{"im/b": record("b1", 3, map[string]store.Takeovers{"a1": {Late: 12, Directive: 5}})})
	late(3)
	c.pass(LeftWindow/2 + time.Millisecond)
	late(1)
	c.pass(LeftWindow)
	late(0)
}

func TestWhoDiesWithItsServersIsNotOnline(t *testing.T) {
	b, c := newBook()
	b.UpdateServers(store.Update[string, store.Server]{Reset: true, Put: map[string]store.Server{
		"im/a": record("a1", 1, nil), "im/b": record("b1", 1, nil),
	}})
	b.UpdateBeats(store.Update[store.SessionKey, store.Session]{Reset: true, Put: map[store.SessionKey]store.Session{
		{Client: "n1:0"}: {Server: "im/a", Incarnation: "a1"}, {Client: "n1:1"}: {Server: "im/b", Incarnation: "b1"},
	}})
	b.UpdateObservations(store.Update[store.ObservationKey, store.Observation]{Reset: true, Put: map[store.ObservationKey]store.Observation{
		{Server: "im/c", Observer: "n1"}: {Observation: wire.Observation{Band: wire.BandOK}},
	}})
	online := func(what string, want bool) {
		t.Helper()
		if o := b.Observations("im/c", []verdict.Observer{{Name: "n1"}}); o[0].Online != want {
			t.Errorf("%s: online is %v", what, o[0].Online)
		}
	}
	online("both its servers live", true)
	put(b, nil, "im/a")
	c.pass(time.Minute)
	online("one is left", true)
	put(b, map[string]store.Server{"im/b": record("b2", 0, nil)})
	online("the other was restarted just now", true)
	c.pass(deserted)
	online("it has come to no other", false)
	b.UpdateBeats(store.Update[store.SessionKey, store.Session]{Put: map[store.SessionKey]store.Session{
		{Client: "n1:1"}: {Server: "im/b", Incarnation: "b2"},
	}})
	online("it has come back", true)
}

func TestAKernelsWordIsThatOfItsNodesSevererAboutThisPod(t *testing.T) {
	b, c := newBook()
	b.UpdateServers(store.Update[string, store.Server]{Reset: true, Put: map[string]store.Server{"im/a": record("a1", 1, nil)}})
	three := 3
	tell := func(node, pod string, band wire.Band, connections *int) {
		b.UpdateObservations(store.Update[store.ObservationKey, store.Observation]{Put: map[store.ObservationKey]store.Observation{
			{Server: "shop/web-0", Observer: wire.KernelObserver(node)}: {
				Observation: wire.Observation{Band: band, Incarnation: pod, Connections: connections, Detail: "why"}, Boot: 1,
			},
		}})
	}
	if k := b.Kernel("shop/web-0", "n1", "u"); k.Band != "" || k.Connections >= 0 {
		t.Errorf("before anybody has said anything: %+v", k)
	}
	tell("n1", "u", wire.BandUnread, &three)
	seen := c.now
	if k := b.Kernel("shop/web-0", "n1", "u"); k.Band != string(wire.BandUnread) || k.Connections != 3 || k.Online || k.Detail != "why" || !k.Booted.Equal(seen) {
		t.Errorf("of one that has no session: %+v", k)
	}
	b.UpdateBeats(store.Update[store.SessionKey, store.Session]{Reset: true, Put: map[store.SessionKey]store.Session{
		{Client: "kernel:n1:1"}: {Server: "im/a", Incarnation: "a1"},
	}})
	c.pass(time.Second)
	tell("n1", "u", wire.BandUnread, nil)
	if k := b.Kernel("shop/web-0", "n1", "u"); !k.Online || !k.Seen.Equal(seen) || k.Connections >= 0 {
		t.Errorf("of one that has a session, and does not count: %+v", k)
	}
	for _, other := range [][3]string{{"shop/web-1", "n1", "u"}, {"shop/web-0", "n2", "u"}, {"shop/web-0", "n1", "v"}} {
		if k := b.Kernel(other[0], other[1], other[2]); k.Band != "" {
			t.Errorf("of %v: %+v", other, k)
		}
	}
	if all := b.Observations("shop/web-0", []verdict.Observer{{Name: "n1"}}); len(all) != 0 {
		t.Errorf("it is no observer: %+v", all)
	}
}

func TestSeenIsWhenABandChangedHere(t *testing.T) {
	b, c := newBook()
	key := store.ObservationKey{Server: "im/a", Observer: "n1"}
	boot := int64(1)
	tell := func(band wire.Band, health int) {
		b.UpdateObservations(store.Update[store.ObservationKey, store.Observation]{Put: map[store.ObservationKey]store.Observation{
			key: {Observation: wire.Observation{Band: band, Incarnation: "a1", Since: c.now.Add(-time.Hour)}, Health: health, Boot: boot},
		}})
	}
	said := func() verdict.Observation {
		t.Helper()
		all := b.Observations("im/a", []verdict.Observer{{Name: "n1"}, {Name: "n2"}})
		if len(all) != 1 {
			t.Fatalf("%d observations, want that of the one who has spoken", len(all))
		}
		return all[0]
	}
	tell(wire.BandOK, 0)
	first := c.now
	c.pass(time.Second)
	tell(wire.BandOK, 0)
	if o := said(); !o.Seen.Equal(first) || !o.Healthy || o.Online {
		t.Errorf("the same band again: %+v", o)
	}
	tell(wire.BandHung, 2)
	b.UpdateBeats(store.Update[store.SessionKey, store.Session]{Put: map[store.SessionKey]store.Session{{Client: "n1:1"}: {}}})
	if o := said(); !o.Seen.Equal(c.now) || o.Healthy || !o.Online {
		t.Errorf("another band of an observer that is not well, and is online: %+v", o)
	}
	boot = 2
	c.pass(time.Second)
	tell(wire.BandHung, 0)
	restarted := c.now
	c.pass(time.Second)
	tell(wire.BandSlow, 0)
	if o := said(); !o.Booted.Equal(restarted) {
		t.Errorf("an observer that was restarted at %v: %+v", restarted, o)
	}
	b.UpdateObservations(store.Update[store.ObservationKey, store.Observation]{Reset: true})
	if all := b.Observations("im/a", []verdict.Observer{{Name: "n1"}}); len(all) != 0 {
		t.Errorf("a snapshot without it takes it away: %v", all)
	}
}
