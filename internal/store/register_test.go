package store

import (
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

func TestRegistration(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	raw := etcd.Client()
	record := Server{Incarnation: "1", Address: "127.0.0.1:1883", Capacity: 10}
	held := func(t *testing.T, s *opened, server string) int {
		return len(must(raw.Get(s.ctx, serversRoot+server))(t).Kvs)
	}
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s *opened)
	}{
		{"a record stands until it is closed, and disappears at once then", func(t *testing.T, s *opened) {
			r := must(s.Register(s.ctx, "ns/closed", record))(t)
			if held(t, s, "ns/closed") != 1 || !r.Valid(time.Now()) {
				t.Fatal("it is not there")
			}
			if err := r.Close(s.ctx); err != nil {
				t.Fatal(err)
			}
			closes(t, "a closed registration is lost", r.Lost())
			if held(t, s, "ns/closed") != 0 || r.Valid(time.Now()) {
				t.Error("it still is there")
			}
			if err := r.Update(s.ctx, record); !errors.Is(err, ErrLost) {
				t.Errorf("updated after that: %v", err)
			}
		}},
		{"a lease that is revoked is lost within a second or so", func(t *testing.T, s *opened) {
			r := must(s.Register(s.ctx, "ns/revoked", record))(t)
			must(raw.Revoke(s.ctx, r.lease.id))(t)
			closes(t, "it is lost", r.Lost())
		}},
		{"an incarnation that has been replaced cannot write its record", func(t *testing.T, s *opened) {
			old := must(s.Register(s.ctx, "ns/replaced", record))(t)
			newer := record
			newer.Incarnation = "2"
			must(s.Register(s.ctx, "ns/replaced", newer))(t)
			if err := old.Update(s.ctx, record); !errors.Is(err, ErrLost) {
				t.Errorf("error %v, want %v", err, ErrLost)
			}
			closes(t, "the old one is lost", old.Lost())
			w := next(t, s.WatchServers(s.ctx))
			if got := w.Put["ns/replaced"]; got.Incarnation != "2" {
				t.Errorf("the record is %+v", got)
			}
		}},
		{"an update is seen by those who watch", func(t *testing.T, s *opened) {
			r := must(s.Register(s.ctx, "ns/updated", record))(t)
			watch := s.WatchServers(s.ctx)
			if got := next(t, watch); !got.Reset || got.Put["ns/updated"].Capacity != 10 {
				t.Fatalf("began with %+v", got)
			}
			changed := record
			changed.Sessions = map[string]int{"im/android": 3}
			if err := r.Update(s.ctx, changed); err != nil {
				t.Fatal(err)
			}
			got := next(t, watch)
			if up := got.Put["ns/updated"]; got.Reset || up.Total() != 3 {
				t.Errorf("then came %+v", got)
			}
		}},
		{"a process that was stopped for longer than the TTL has lost its lease, at once", func(t *testing.T, s *opened) {
			r := must(s.Register(s.ctx, "ns/stopped", record))(t)
			s.jumped.Store(int64(ServerTTL + time.Second))
			if r.Valid(s.clock()) {
				t.Error("it still calls itself valid")
			}
			if err := r.Update(s.ctx, record); !errors.Is(err, ErrLost) {
				t.Errorf("error %v, want %v", err, ErrLost)
			}
			closes(t, "it is lost", r.Lost())
		}},
		{"a name that is none is refused", func(t *testing.T, s *opened) {
			if _, err := s.Register(s.ctx, "pod", record); err == nil {
				t.Error("registered")
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, openStore(t, etcd.Endpoints())) })
	}
}

func TestALeaseIsLostWhenEtcdStopsAndNotBefore(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	s := openStore(t, etcd.Endpoints())
	r := must(s.Register(s.ctx, serverA, Server{Incarnation: "1"}))(t)
	stopped := time.Now()
	etcd.Stop()
	until(t, "an absence shows", func() bool { return s.Away(time.Now()) > 0 })
	closes(t, "the lease is lost", r.Lost())
	// It was renewed up to a second before, or longer on a busy machine.
	after := time.Since(stopped)
	t.Logf("lost after %v", after)
	if after < ServerTTL/4 {
		t.Errorf("lost after %v already", after)
	}
	etcd.Restart()
	until(t, "etcd answers", func() bool { return s.Away(time.Now()) == 0 })
	must(s.Register(s.ctx, serverA, Server{Incarnation: "1"}))(t)
}

func TestAShortAbsenceOfEtcdLosesNothing(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	way := etcd.Proxy()
	s := openStore(t, way.Endpoints())
	r := must(s.Register(s.ctx, serverA, Server{Incarnation: "1"}))(t)
	cut := time.Now()
	way.Cut()
	until(t, "a renewal fails", func() bool { return s.count(opRenew, outcomeUnsent)+s.count(opRenew, outcomeUnknown) > 0 })
	way.Mend()
	before := s.count(opRenew, outcomeOK)
	until(t, "it is renewed again, or lost", func() bool {
		return s.count(opRenew, outcomeOK) > before || !r.Valid(time.Now())
	})
	if away := time.Since(cut); away > ServerTTL/2 {
		t.Skipf("this machine is too slow for an absence that is short: %v", away)
	}
	if !r.Valid(time.Now()) {
		t.Error("it is lost")
	}
}

func TestAtRestNothingIsWritten(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	s := openStore(t, etcd.Endpoints())
	must(s.Register(s.ctx, serverA, Server{Incarnation: "1"}))(t)
	bucket := s.bucket(t, serverA, "1")
	s.write(t, SessionWrite{Key: client("a"), Session: session(serverA), Bucket: bucket})
	l := must(s.Campaign(s.ctx, "me"))(t)
	report := reported("n1", 1, "ok")
	for range 2 {
		if err := s.PutReport(s.ctx, report); err != nil {
			t.Fatal(err)
		}
		if err := l.PutDirective(s.ctx, serverA, Directive{Failover: "ns/f"}); err != nil {
			t.Fatal(err)
		}
	}
	rest := must(s.Sync(s.ctx))(t)
	renewals := s.count(opRenew, outcomeOK)
	until(t, "leases are renewed a few times", func() bool { return s.count(opRenew, outcomeOK) >= renewals+8 })
	for seq := range int64(5) {
		report.Seq = 2 + seq
		if err := s.PutReport(s.ctx, report); err != nil {
			t.Fatal(err)
		}
	}
	must(s.KeepBuckets(s.ctx))(t)
	if err := l.PutDirective(s.ctx, serverA, Directive{Failover: "ns/f"}); err != nil {
		t.Fatal(err)
	}
	if err := s.ClearPause(s.ctx); err != nil {
		t.Fatal(err)
	}
	if now := must(s.Sync(s.ctx))(t); now != rest {
		t.Errorf("etcd went from revision %d to %d", rest, now)
	}
	keys := must(etcd.Client().Get(s.ctx, root, clientv3.WithPrefix(), clientv3.WithCountOnly()))(t).Count
	if keys != 6 { // server, bucket, session, election, observation, directive
		t.Errorf("%d keys", keys)
	}
}
