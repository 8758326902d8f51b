package store

import (
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestPutReport(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	raw := etcd.Client()
	// Two servers, through which the same agent reports.
	a, b := openStore(t, etcd.Endpoints()), openStore(t, etcd.Endpoints())
	put := func(t *testing.T, s *opened, r wire.Report) {
		t.Helper()
		if err := s.PutReport(s.ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	path := func(server, node string) string { return observationPath(ObservationKey{server, node}) }
	held := func(t *testing.T, key string) (Observation, int64) {
		t.Helper()
		kvs := must(raw.Get(a.ctx, key))(t).Kvs
		if len(kvs) == 0 {
			return Observation{}, 0
		}
		o, _ := decode[Observation](a.Store, kindObservation, kvs[0])
		return o, kvs[0].ModRevision
	}
	expect := func(t *testing.T, node string, band wire.Band, seq int64) {
		t.Helper()
		if o, _ := held(t, path(serverA, node)); o.Band != band || o.Seq != seq {
			t.Errorf("etcd holds %q of report %d, want %q of %d", o.Band, o.Seq, band, seq)
		}
	}

	for i, c := range []struct {
		name string
		run  func(t *testing.T, node string)
	}{
		{"a change is written, what has not changed is not", func(t *testing.T, node string) {
			put(t, a, reported(node, 1, wire.BandOK))
			_, before := held(t, path(serverA, node))
			put(t, a, reported(node, 2, wire.BandOK))
			if _, after := held(t, path(serverA, node)); after != before {
				t.Error("it was written again")
			}
			put(t, a, reported(node, 3, wire.BandHung))
			expect(t, node, wire.BandHung, 3)
		}},
		{"an older report does not overwrite a newer one that came through another server", func(t *testing.T, node string) {
			put(t, a, reported(node, 6, wire.BandOK))
			put(t, b, reported(node, 5, wire.BandHung))
			expect(t, node, wire.BandOK, 6)
		}},
		{"an older report through the same server is dropped", func(t *testing.T, node string) {
			put(t, a, reported(node, 6, wire.BandOK))
			put(t, a, reported(node, 5, wire.BandHung))
			expect(t, node, wire.BandOK, 6)
		}},
		{"an agent that has started anew is newer, whatever it has counted to", func(t *testing.T, node string) {
			put(t, a, reported(node, 9, wire.BandHung))
			anew := reported(node, 1, wire.BandOK)
			anew.Boot = 2
			put(t, b, anew)
			expect(t, node, wire.BandOK, 1)
			put(t, a, reported(node, 10, wire.BandHung)) // of its former life
			expect(t, node, wire.BandOK, 1)
		}},
		{"what a report no longer holds is deleted, others' words are not", func(t *testing.T, node string) {
			r := reported(node, 1, wire.BandOK)
			r.Observations[serverB] = wire.Observation{Band: wire.BandSlow}
			r.Suspicions = map[string]wire.Suspicion{"n9": {Word: wire.NodeDead}}
			put(t, a, r)
			put(t, b, reported(node+"-other", 1, wire.BandOK))
			put(t, b, reported(node, 2, wire.BandOK))
			there := func(key string) bool { return len(must(raw.Get(a.ctx, key))(t).Kvs) > 0 }
			// The other server learns of them by its watch.
			until(t, "the agent's other words are deleted", func() bool {
				return !there(path(serverB, node)) && !there(suspicionPath(SuspicionKey{"n9", node}))
			})
			if !there(path(serverA, node)) || !there(path(serverA, node+"-other")) {
				t.Error("more was deleted")
			}
		}},
		{"an older report that was written after a deletion is put right", func(t *testing.T, node string) {
			put(t, a, reported(node, 1, wire.BandOK))
			empty := reported(node, 3, wire.BandOK)
			empty.Observations = nil
			put(t, a, empty)
			put(t, b, reported(node, 2, wire.BandHung))
			until(t, "the older word is deleted", func() bool {
				_, rev := held(t, path(serverA, node))
				return rev == 0
			})
		}},
		{"an older report that was written although a newer one changed nothing is put right", func(t *testing.T, node string) {
			put(t, a, reported(node, 1, wire.BandOK))
			put(t, a, reported(node, 7, wire.BandOK)) // not written
			put(t, b, reported(node, 5, wire.BandHung))
			until(t, "the newer word stands", func() bool {
				o, _ := held(t, path(serverA, node))
				return o.Band == wire.BandOK && o.Seq == 7
			})
		}},
		{"what somebody deletes is written again", func(t *testing.T, node string) {
			put(t, a, reported(node, 1, wire.BandOK))
			must(raw.Delete(a.ctx, path(serverA, node)))(t)
			until(t, "it is back", func() bool {
				_, rev := held(t, path(serverA, node))
				return rev > 0
			})
		}},
		{"a word that cannot be read is replaced", func(t *testing.T, node string) {
			must(raw.Put(a.ctx, path(serverA, node), "not ours"))(t)
			put(t, a, reported(node, 1, wire.BandOK))
			expect(t, node, wire.BandOK, 1)
		}},
		{"when the lease of our words is revoked, they are written again", func(t *testing.T, node string) {
			put(t, a, reported(node, 1, wire.BandOK))
			kv := must(raw.Get(a.ctx, path(serverA, node)))(t).Kvs[0]
			must(raw.Revoke(a.ctx, clientv3.LeaseID(kv.Lease)))(t)
			until(t, "it is back", func() bool {
				_, rev := held(t, path(serverA, node))
				return rev > 0
			})
		}},
		{"names that cannot be keys are refused", func(t *testing.T, node string) {
			bad := reported(node, 1, wire.BandOK)
			bad.Observations["no-namespace"] = wire.Observation{}
			for _, r := range []wire.Report{bad, reported("", 1, wire.BandOK), reported("a/b", 1, wire.BandOK)} {
				if err := a.PutReport(a.ctx, r); err == nil {
					t.Errorf("accepted %+v", r)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, "node-"+strconv.Itoa(i)) })
	}
}

func TestWhatIsWorthWriting(t *testing.T) {
	base := wire.Report{Node: "n", Boot: 1, Seq: 1, Observations: map[string]wire.Observation{
		serverA: {Band: wire.BandOK, Address: "a:1", Incarnation: "1", Answer: 900, QueueDelay: 20, Detail: "fine"},
	}}
	for _, c := range []struct {
		name   string
		change func(r *wire.Report, o *wire.Observation)
		want   bool
	}{
		{"nothing but the sequence number", func(r *wire.Report, _ *wire.Observation) { r.Seq++ }, false},
		{"details", func(_ *wire.Report, o *wire.Observation) { o.Detail = "still fine" }, false},
		{"another answer time: it is said only when it is news", func(_ *wire.Report, o *wire.Observation) { o.Answer = 400_000 }, true},
		{"another queue delay: likewise", func(_ *wire.Report, o *wire.Observation) { o.QueueDelay = 19 }, true},
		{"the band", func(_ *wire.Report, o *wire.Observation) { o.Band = wire.BandSlow }, true},
		{"since when the band lasts", func(_ *wire.Report, o *wire.Observation) { o.Since = time.Unix(5, 0) }, true},
		{"how many connections there are", func(_ *wire.Report, o *wire.Observation) { o.Connections = new(int) }, true},
		{"what keeps it from running", func(_ *wire.Report, o *wire.Observation) { o.Strain.Kind = "throttled" }, true},
		{"how much it does", func(_ *wire.Report, o *wire.Observation) { o.Strain.Detail = "throttled 90 %" }, false},
		{"the incarnation", func(_ *wire.Report, o *wire.Observation) { o.Incarnation = "2" }, true},
		{"the observer's own health", func(r *wire.Report, _ *wire.Observation) { r.Health = 1 }, true},
		{"the observer's zone", func(r *wire.Report, _ *wire.Observation) { r.Zone = "z2" }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed, o := base, base.Observations[serverA]
			c.change(&changed, &o)
			changed.Observations = map[string]wire.Observation{serverA: o}
			key := observationPath(ObservationKey{serverA, "n"})
			was, is := must(wordsOf(base))(t)[key], must(wordsOf(changed))(t)[key]
			if got := is.differs(was); got != c.want {
				t.Errorf("worth writing: %v, want %v", got, c.want)
			}
		})
	}
}
