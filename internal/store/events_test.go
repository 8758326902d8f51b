package store

import (
	"fmt"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

// upTo reads events until they have told everything up to rev, and returns what
// they said of each client last.
func upTo(t *testing.T, c <-chan SessionEvents, rev int64) (last map[SessionKey]KeyedSession, gap bool) {
	t.Helper()
	last = make(map[SessionKey]KeyedSession)
	for {
		e := next(t, c)
		gap = gap || e.Gap
		for _, ch := range e.Changes {
			last[ch.Key] = ch
		}
		if e.Revision >= rev {
			return last, gap
		}
	}
}

func TestWatchSessions(t *testing.T) {
	t.Parallel()
	etcd := storetest.Start(t)
	way := etcd.Proxy()
	s, other := openStore(t, way.Endpoints()), openStore(t, etcd.Endpoints())
	bucket := other.bucket(t, serverB, "1")
	put := func(name string, rev int64) int64 {
		t.Helper()
		r := other.write(t, SessionWrite{Key: client(name), Session: session(serverB), Bucket: bucket, Revision: rev})
		expectWins(t, r, true)
		return r[0].Revision
	}
	before := put("before", 0)
	events := must(s.WatchSessions(s.ctx, 0))(t)
	if first := next(t, events); first.Revision < before || len(first.Changes) > 0 || first.Gap {
		t.Fatalf("began with %+v", first)
	}

	a := put("a", 0)
	got, gap := upTo(t, events, a)
	if c := got[client("a")]; gap || len(got) != 1 || c.Session.Server != serverB || c.Revision != a {
		t.Errorf("told %+v", got)
	}

	r := other.write(t, SessionWrite{Key: client("a"), Revision: a, Delete: true})
	got, _ = upTo(t, events, r[0].Revision)
	if c, told := got[client("a")]; !told || c.Session != nil {
		t.Errorf("of a deletion told %+v", got)
	}

	// Writes of other kinds move etcd on; progress says that nothing was missed.
	if err := other.SetPause(s.ctx, Pause{By: "me"}); err != nil {
		t.Fatal(err)
	}
	now := must(s.Sync(s.ctx))(t)
	if err := s.RequestProgress(s.ctx); err != nil {
		t.Fatal(err)
	}
	if got, gap := upTo(t, events, now); gap || len(got) > 0 {
		t.Errorf("progress brought %+v", got)
	}

	// From a revision of the past.
	again := must(s.WatchSessions(s.ctx, a))(t)
	got, gap = upTo(t, again, r[0].Revision)
	if _, told := got[client("a")]; !told || gap || len(got) != 1 {
		t.Errorf("from %d told %+v", a, got)
	}

	// Compaction behind the watch's back is no gap, as nothing was missed...
	way.Cut()
	etcd.Compact()
	way.Mend()
	b := put("b", 0)
	if got, gap := upTo(t, events, b); gap || len(got) != 1 {
		t.Errorf("after a compaction told %+v, gap %v", got, gap)
	}
	// ...but it is one when something was.
	way.Cut()
	put("c", put("c", 0))
	etcd.Compact()
	way.Mend()
	now = must(s.Sync(s.ctx))(t)
	if _, gap := upTo(t, events, now); !gap {
		t.Error("no gap was told")
	}
	d := put("d", 0)
	if got, gap := upTo(t, events, d); gap || len(got) != 1 {
		t.Errorf("after the gap told %+v, gap %v", got, gap)
	}
}

func TestASlowReaderGetsTheLatestOfEachClient(t *testing.T) {
	var g sessionEvents
	for rev := range int64(10) {
		g.add(SessionEvents{Revision: rev, Changes: []KeyedSession{
			{Key: client("a"), Revision: rev}, {Key: client(fmt.Sprint(rev)), Revision: rev},
		}})
	}
	e := g.take()
	if e.Revision != 9 || len(e.Changes) != 11 || e.Changes[0].Revision != 9 || e.Gap {
		t.Errorf("took %+v", e)
	}
	if e := g.take(); len(e.Changes) > 0 {
		t.Errorf("took again %+v", e)
	}
}

func TestAReaderThatIsTooSlowIsToldOfAGap(t *testing.T) {
	var g sessionEvents
	for i := range maxWaiting + 1 {
		g.add(SessionEvents{Revision: int64(i), Changes: []KeyedSession{{Key: numbered(i)}}})
	}
	if e := g.take(); !e.Gap || len(e.Changes) != 1 || e.Revision != maxWaiting {
		t.Errorf("took %d changes up to %d, gap %v", len(e.Changes), e.Revision, e.Gap)
	}
}
