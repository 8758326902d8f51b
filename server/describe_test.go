package server

import (
	"testing"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server/session"
)

func named(name string) store.SessionKey {
	return store.SessionKey{Namespace: "im", Presence: "phone", Client: name}
}

func said(what string) map[string]string { return map[string]string{"says": what} }

func TestTheLastDescriptionIsWrittenWhenItMayBe(t *testing.T) {
	every := session.Ticks(describeEvery)
	var d descriptions
	if !d.take(named("a"), "alice", said("1"), 100) {
		t.Fatal("the first is not written at once")
	}
	for i, what := range []string{"2", "3"} {
		if d.take(named("a"), "alice", said(what), 100+session.Tick(i)) {
			t.Fatalf("%s is written too soon", what)
		}
	}
	if !d.take(named("b"), "bob", said("b"), 150) {
		t.Fatal("another client waits for the first")
	}
	if early := d.over(100 + every - 1); len(early) > 0 {
		t.Fatalf("early: %+v", early)
	}
	got := d.over(100 + every)
	if len(got) != 1 || got[0].key != named("a") || got[0].principal != "alice" || got[0].attributes["says"] != "3" {
		t.Fatalf("over: %+v", got)
	}
	if d.take(named("a"), "alice", said("4"), 101+every) {
		t.Error("the next is written less than 10 s after the last")
	}
	if got := d.over(150 + every); len(got) != 0 {
		t.Errorf("over: %+v", got)
	}
	if got := d.over(100 + 2*every); len(got) != 1 || got[0].attributes["says"] != "4" {
		t.Errorf("over: %+v", got)
	}
	d.over(100 + 3*every)
	if len(d.all) != 0 || len(d.due) != 0 {
		t.Errorf("%d and %d are remembered for ever", len(d.all), len(d.due))
	}
	if !d.take(named("a"), "alice", said("5"), 101+3*every) {
		t.Error("after a while it is not written at once")
	}
}

func TestWhatWaitsIsTakenAtTheEnd(t *testing.T) {
	var d descriptions
	for _, name := range []string{"a", "b", "c"} {
		d.take(named(name), "p", said("1"), 1)
	}
	d.take(named("a"), "p", said("2"), 2)
	d.take(named("b"), "p", said("2"), 2)
	if got := d.last(named("a")); len(got) != 1 || got[0].attributes["says"] != "2" {
		t.Errorf("of a: %+v", got)
	}
	if got := d.last(named("a")); len(got) != 0 {
		t.Errorf("of a, again: %+v", got)
	}
	if got := d.rest(); len(got) != 1 || got[0].key != named("b") {
		t.Errorf("the rest: %+v", got)
	}
}
