package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server/session"
)

func TestPatienceIsAShareOfTheLease(t *testing.T) {
	for offline, want := range map[time.Duration]time.Duration{
		time.Second: 500 * time.Millisecond, 8 * time.Second: 2 * time.Second, time.Hour: 5 * time.Second,
	} {
		if got := patience(session.Lease{Offline: offline}); got != want {
			t.Errorf("a lease of %v: %v, want %v", offline, got, want)
		}
	}
}

func TestWhoCannotGoElsewhereIsLetInAgainAndLeftAlone(t *testing.T) {
	table := session.NewTable[peer]()
	class := table.Class("im", "phone", false)
	c := candidate{peer: &peer{}, class: class, client: "c"}
	d := &drain{wake: make(chan struct{}, 1)}
	now := time.Unix(1000, 0)
	d.follow(now, &store.Directive{Failover: "im/f", Drain: true, Rate: 100, FirstWave: 10, Targets: []store.Target{{Server: "b", Weight: 1}}})
	search := func(bool) []candidate { return []candidate{c} }
	if n := len(d.next(now, search)); n != 1 {
		t.Fatalf("%d were told to go", n)
	}
	const wait = 2 * time.Second
	for _, step := range []struct {
		after time.Duration
		in    bool
	}{{time.Second, false}, {2100 * time.Millisecond, true}, {3 * time.Second, true}} {
		if got := d.stranded(now.Add(step.after), c.key(), wait); got != step.in {
			t.Errorf("after %v: let in %v", step.after, got)
		}
	}
	another := store.SessionKey{Namespace: "im", Presence: "phone", Client: "d"}
	if d.stranded(now.Add(3*time.Second), another, wait) {
		t.Error("another was let in at once")
	}
	if n := len(d.next(now.Add(30*time.Second), search)); n != 0 || !d.progress().Done {
		t.Errorf("%d were told again, though nobody takes them; done: %v", n, d.progress().Done)
	}
	later := now.Add(2100*time.Millisecond + strandedFor + time.Second)
	if n := len(d.next(later, search)); n != 1 {
		t.Errorf("%d were told once more", n)
	}
	if d.stranded(later.Add(time.Second), c.key(), wait) {
		t.Error("told once more, it was let in at once")
	}
	if !d.stranded(later.Add(3*time.Second), c.key(), wait) {
		t.Error("told once more, it was not let in again")
	}
	// Who has been elsewhere for an hour is sent away like anybody.
	if d.stranded(later.Add(time.Hour), c.key(), wait) {
		t.Error("an hour later it was let in at its first attempt")
	}
	// Another drain, or none, knows nothing of it.
	d.follow(later, nil)
	if len(d.away) != 0 {
		t.Errorf("%d are remembered for nothing", len(d.away))
	}
}

func TestWhoHearsLateThatItShallGoIsNotLetInAtOnce(t *testing.T) {
	c := candidate{class: session.NewTable[peer]().Class("im", "phone", false), client: "c"} // it beats by datagram
	d := &drain{wake: make(chan struct{}, 1)}
	now := time.Unix(1000, 0)
	d.follow(now, &store.Directive{Failover: "im/f", Drain: true, Rate: 100, FirstWave: 10, Targets: []store.Target{{Server: "b", Weight: 1}}})
	if n := len(d.next(now, func(bool) []candidate { return []candidate{c} })); n != 1 {
		t.Fatalf("%d are to be told", n)
	}
	now = now.Add(30 * time.Second) // with its next beat
	d.heard(now, c.key())
	for _, step := range []struct {
		after time.Duration
		in    bool
	}{{time.Second, false}, {2100 * time.Millisecond, true}} {
		if got := d.stranded(now.Add(step.after), c.key(), 2*time.Second); got != step.in {
			t.Errorf("%v after it has heard: let in %v", step.after, got)
		}
	}
	d.follow(now, &store.Directive{Failover: "im/g", Count: 1})
	if d.heard(now, c.key()); len(d.away) != 0 {
		t.Error("who is moved while others stay is remembered")
	}
}

func TestADrainsMemoryIsBounded(t *testing.T) {
	d := &drain{wake: make(chan struct{}, 1)}
	now := time.Unix(1000, 0)
	for i := range maxSentAway + 100 {
		d.stranded(now, store.SessionKey{Client: fmt.Sprint(i)}, time.Second)
	}
	if len(d.away) > maxSentAway {
		t.Errorf("%d are remembered", len(d.away))
	}
}
