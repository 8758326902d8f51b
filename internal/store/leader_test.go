package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

func TestLeadership(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	raw := etcd.Client()
	a, b := openStore(t, etcd.Endpoints()), openStore(t, etcd.Endpoints())
	first := must(a.Campaign(a.ctx, "a"))(t)
	won := make(chan *Leadership, 1)
	go func() {
		l, err := b.Campaign(b.ctx, "b")
		if err != nil {
			t.Errorf("campaign: %v", err)
		}
		won <- l
	}()
	until(t, "the second candidate stands", func() bool { return count(t, raw, electionRoot) == 2 })
	select {
	case <-won:
		t.Fatal("two lead")
	default:
	}

	if err := first.PutDirective(a.ctx, serverA, Directive{Failover: "ns/one", Incarnation: "1"}); err != nil {
		t.Fatal(err)
	}
	watch := a.WatchDirectives(a.ctx)
	if got := next(t, watch).Put[serverA]; got.Term != first.Term() || got.Failover != "ns/one" {
		t.Errorf("the directive is %+v", got)
	}
	bucket := a.bucket(t, serverA, serverA+".1")
	rev := a.write(t, SessionWrite{Key: client("a"), Session: session(serverA), Bucket: bucket})[0].Revision

	// What ends a leader: its lease is gone, and it has not noticed.
	must(raw.Revoke(a.ctx, first.lease.id))(t)
	offline := []SessionWrite{{Key: client("a"), Session: Session{Offline: true, Server: serverA}, Revision: rev}}
	for what, err := range map[string]error{
		"a directive": first.PutDirective(a.ctx, serverA, Directive{Failover: "ns/two"}),
		"a deletion":  first.DeleteDirective(a.ctx, serverA, "ns/one"),
		"an offline": func() error {
			_, err := first.MarkOffline(a.ctx, offline)
			return err
		}(),
	} {
		if !errors.Is(err, ErrNotLeader) {
			t.Errorf("%s of a former leader: %v, want %v", what, err, ErrNotLeader)
		}
	}
	closes(t, "the first leadership is lost", first.Lost())
	second := next(t, won)
	if second.Term() <= first.Term() {
		t.Errorf("term %d follows %d", second.Term(), first.Term())
	}

	if err := second.DeleteDirective(b.ctx, serverA, "ns/other"); err != nil {
		t.Fatal(err)
	}
	if count(t, raw, directivesRoot) != 1 {
		t.Error("another failover's directive was deleted")
	}
	if err := second.DeleteDirective(b.ctx, serverA, "ns/one"); err != nil {
		t.Fatal(err)
	}
	if got := next(t, watch); len(got.Deleted) != 1 || got.Deleted[0] != serverA {
		t.Errorf("then came %+v", got)
	}
	if err := second.DeleteDirective(b.ctx, serverA, "ns/one"); err != nil {
		t.Errorf("deleting what is gone: %v", err)
	}
	expectWins(t, must(second.MarkOffline(b.ctx, offline))(t), true)
	expectWins(t, must(second.MarkOffline(b.ctx, offline))(t), false)

	if err := second.Resign(b.ctx); err != nil {
		t.Fatal(err)
	}
	closes(t, "a resigned leadership is lost", second.Lost())
	third := must(a.Campaign(a.ctx, "a"))(t)
	if third.Term() <= second.Term() {
		t.Errorf("term %d follows %d", third.Term(), second.Term())
	}
}

func TestACampaignEndsWithItsContext(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	a, b := openStore(t, etcd.Endpoints()), openStore(t, etcd.Endpoints())
	leader := must(a.Campaign(a.ctx, "a"))(t)
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan error, 1)
	go func() {
		_, err := b.Campaign(ctx, "b")
		done <- err
	}()
	raw := etcd.Client()
	until(t, "the second candidate stands", func() bool { return count(t, raw, electionRoot) == 2 })
	cancel()
	if err := next(t, done); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	until(t, "it has left nothing behind", func() bool { return count(t, raw, electionRoot) == 1 })
	select {
	case <-leader.Lost():
		t.Error("the leader was lost")
	default:
	}
}

func TestALeaderCutOffFromEtcdLosesItsTermAndAnotherGetsIt(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	way := etcd.Proxy()
	a, b := openStore(t, way.Endpoints()), openStore(t, etcd.Endpoints())
	first := must(a.Campaign(a.ctx, "a"))(t)
	way.Cut()
	begun := time.Now()
	second := must(b.Campaign(b.ctx, "b"))(t)
	t.Logf("another led after %v", time.Since(begun))
	closes(t, "the first leadership is lost", first.Lost())
	way.Mend()
	if err := first.PutDirective(a.ctx, serverA, Directive{}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("error %v, want %v", err, ErrNotLeader)
	}
	if second.Term() <= first.Term() {
		t.Errorf("term %d follows %d", second.Term(), first.Term())
	}
}
