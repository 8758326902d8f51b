package store

import (
	"errors"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

func TestWhatLeadersKeepForEachOther(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	a, b := openStore(t, etcd.Endpoints()), openStore(t, etcd.Endpoints())
	first := must(a.Campaign(a.ctx, "a"))(t)
	assigned, owed, failed := b.WatchAssignments(b.ctx), b.WatchDue(b.ctx), b.WatchPenalties(b.ctx)
	next(t, assigned)
	next(t, owed)
	next(t, failed)

	at := time.Unix(1_800_000_000, 0).UTC()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(first.PutAssignment(a.ctx, serverA, Assignment{Address: "a:1", StandIns: []StandIn{{Name: ServerObserver("ns/b"), Boot: 7}}}))
	if got := next(t, assigned).Put[serverA]; got.Term != first.Term() || got.Address != "a:1" || got.StandIns[0].Name != "server:ns:b" {
		t.Errorf("assigned is %+v", got)
	}
	want := Penalty{Incarnation: "u.1", Sum: 3000, At: at, Suppressed: at.Add(time.Hour)}
	check(first.PutPenalty(a.ctx, serverA, want))
	if got := next(t, failed).Put[serverA]; got != want {
		t.Errorf("the penalty is %+v", got)
	}

	// What moves only some clients leaves nothing due; what took the server out does.
	check(first.PutDirective(a.ctx, serverA, Directive{Failover: "ns/some", Incarnation: "u.1", Count: 3}))
	check(first.DeleteDirective(a.ctx, serverA, "ns/some"))
	if n := count(t, etcd.Client(), dueRoot); n != 0 {
		t.Errorf("%d shares are due after a move of some", n)
	}
	check(first.PutDirective(a.ctx, serverA, Directive{Failover: "ns/all", Incarnation: "u.1", Drain: true}))
	check(first.DeleteDirective(a.ctx, serverA, "ns/other"))
	check(first.DeleteDirective(a.ctx, serverA, "ns/all"))
	if got := next(t, owed).Put[serverA]; got.Failover != "ns/all" || got.At.IsZero() {
		t.Errorf("due is %+v", got)
	}

	must(etcd.Client().Revoke(a.ctx, first.lease.id))(t)
	for what, err := range map[string]error{
		"an assignment": first.PutAssignment(a.ctx, serverA, Assignment{}),
		"a penalty":     first.DeletePenalty(a.ctx, serverA),
		"what is due":   first.DeleteDue(a.ctx, serverA),
	} {
		if !errors.Is(err, ErrNotLeader) {
			t.Errorf("%s of a former leader: %v, want %v", what, err, ErrNotLeader)
		}
	}
	second := must(b.Campaign(b.ctx, "b"))(t)
	check(second.DeleteAssignment(b.ctx, serverA))
	check(second.DeletePenalty(b.ctx, serverA))
	check(second.DeleteDue(b.ctx, serverA))
	for what, deleted := range map[string][]string{
		"assignment": next(t, assigned).Deleted, "penalty": next(t, failed).Deleted, "due": next(t, owed).Deleted,
	} {
		if len(deleted) != 1 || deleted[0] != serverA {
			t.Errorf("%s: deleted are %v", what, deleted)
		}
	}
}

func TestNamesOfObserversThatAreNoAgents(t *testing.T) {
	if got, ok := ObservingServer(ServerObserver("ns/b-0")); !ok || got != "ns/b-0" {
		t.Errorf("a server's name reads %q, %v", got, ok)
	}
	if got, ok := ObservingController(ControllerObserver("c-1")); !ok || got != "c-1" {
		t.Errorf("a controller's name reads %q, %v", got, ok)
	}
	for _, name := range []string{"node-1", ControllerObserver("c-1")} {
		if got, ok := ObservingServer(name); ok {
			t.Errorf("%q is taken for the server %q", name, got)
		}
	}
}
