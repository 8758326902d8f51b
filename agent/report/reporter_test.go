package report

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/rollcall-dev/rollcall/agent/agenttest"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is what a test waits for what should take a second or two.
const patience = time.Minute

const limit = 500 * time.Millisecond

type fixture struct {
	*Reporter
	t      *testing.T
	board  *Board
	places atomic.Pointer[[]Place]
	stop   func()
}

func startReporter(t *testing.T, places []Place, servers ...string) *fixture {
	t.Helper()
	f := &fixture{t: t, board: NewBoard()}
	f.places.Store(&places)
	var err error
	f.Reporter, err = New(Config{
		Node: "node-1", Zone: func() string { return "z1" }, Boot: 7,
		Presence: "rollcall-system/nodes", Servers: servers,
		Board: f.board, Places: func() []Place { return *f.places.Load() },
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	f.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
	}
	t.Cleanup(func() { f.stop() })
	return f
}

// eventually polls, since a scripted server tells nobody of its clients.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	timeout := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%s has not come to pass", what)
		}
	}
}

// apart waits until each of two servers has a session, and nothing to catch up on.
func (f *fixture) apart(a, b *agenttest.Server) {
	f.t.Helper()
	eventually(f.t, "a session on each server", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, s := range f.sessions {
			s.mu.Lock()
			fresh := s.fresh || !s.seeking.IsZero()
			s.mu.Unlock()
			if fresh {
				return false
			}
		}
		return len(a.Clients()) == 1 && len(b.Clients()) == 1
	})
}

func place(s *agenttest.Server) Place { return Place{Server: s.Name, Address: s.Address} }

func receive(t *testing.T, s *agenttest.Server) (wire.Report, string) {
	t.Helper()
	select {
	case got := <-s.Reports():
		var r wire.Report
		if err := json.Unmarshal(got.Payload, &r); err != nil {
			t.Fatal(err)
		}
		return r, got.Client
	case <-time.After(patience):
		t.Fatalf("%s has got no report", s.Name)
		return wire.Report{}, ""
	}
}

// either receives a report from one of two servers.
func either(t *testing.T, a, b *agenttest.Server) wire.Report {
	t.Helper()
	var got agenttest.Report
	select {
	case got = <-a.Reports():
	case got = <-b.Reports():
	case <-time.After(patience):
		t.Fatal("there was no report")
	}
	var r wire.Report
	if err := json.Unmarshal(got.Payload, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func quiet(t *testing.T, servers ...*agenttest.Server) {
	t.Helper()
	for _, s := range servers {
		select {
		case got := <-s.Reports():
			t.Errorf("%s has got a report: %s", s.Name, got.Payload)
		default:
		}
	}
}

func TestWhatChangesIsReportedWholeAndNothingElseIs(t *testing.T) {
	a, b := agenttest.NewServer(t, "ns/a"), agenttest.NewServer(t, "ns/b")
	f := startReporter(t, []Place{place(a), place(b)}, a.Address, b.Address)
	f.apart(a, b)
	if ids := slices.Sorted(slices.Values(append(a.Clients(), b.Clients()...))); !slices.Equal(ids, []string{"node-1:0", "node-1:1"}) {
		t.Errorf("clients %v", ids)
	}
	quiet(t, a, b)

	f.board.Observe("ns/c", limit, wire.Observation{Band: wire.BandHung, Answer: 5})
	f.board.Suspect("node-2", wire.Suspicion{Word: wire.NodeDead})
	if r := either(t, a, b); r.Node != "node-1" || r.Zone != "z1" || r.Boot != 7 || r.Seq != 1 ||
		r.Observations["ns/c"].Band != wire.BandHung || r.Suspicions["node-2"].Word != wire.NodeDead {
		t.Errorf("report %+v", r)
	}
	eventually(t, "an acknowledgement", func() bool { return f.acknowledged() == 1 })
	f.board.Observe("ns/c", limit, wire.Observation{Band: wire.BandHung, Answer: 6})
	f.board.Forget("ns/c")
	for {
		r := either(t, a, b)
		if r.Seq == 1 {
			continue // from the other session, at the same time
		}
		if r.Seq != 2 || len(r.Observations) != 0 || len(r.Suspicions) != 1 {
			t.Errorf("report %+v", r)
		}
		break
	}
}

func (r *Reporter) acknowledged() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.acked
}

func TestAReportOnAServerDoesNotGoThroughIt(t *testing.T) {
	a, b := agenttest.NewServer(t, "ns/a"), agenttest.NewServer(t, "ns/b")
	f := startReporter(t, []Place{place(a), place(b)}, a.Address, b.Address)
	f.apart(a, b)
	f.board.Observe("ns/a", limit, wire.Observation{Band: wire.BandSlow})
	if r, _ := receive(t, b); r.Observations["ns/a"].Band != wire.BandSlow {
		t.Errorf("report %+v", r)
	}
	eventually(t, "an acknowledgement", func() bool { return f.acknowledged() == 1 })
	// What is not about a goes there as well; what came before has not.
	f.board.Suspect("node-2", wire.Suspicion{Word: wire.NodeAlive})
	if r, _ := receive(t, a); r.Seq != 2 {
		t.Errorf("the first report that a got is number %d, want 2", r.Seq)
	}
}

func TestAReportGetsOutWhileOneServerHangs(t *testing.T) {
	a, b := agenttest.NewServer(t, "ns/a"), agenttest.NewServer(t, "ns/b")
	f := startReporter(t, []Place{place(a), place(b)}, a.Address, b.Address)
	f.apart(a, b)
	a.Hang()
	at := time.Now()
	f.board.Observe("ns/a", limit, wire.Observation{Band: wire.BandHung})
	receive(t, b)
	t.Logf("reported after %v", time.Since(at))
	// The session leaves the server that hangs for the only other one, and
	// reports there as a new one.
	eventually(t, "both sessions on the server that answers", func() bool { return len(b.Clients()) == 2 })
	if _, client := receive(t, b); client == "" {
		t.Error("no client")
	}
}

func TestEverythingIsReportedAgainToAServerThatHasTakenTheSession(t *testing.T) {
	a := agenttest.NewServer(t, "ns/a")
	f := startReporter(t, []Place{place(a)}, a.Address)
	f.board.Suspect("node-2", wire.Suspicion{Word: wire.NodeAlive})
	receive(t, a)
	receive(t, a)
	a.Reset()
	for range 2 {
		if r, _ := receive(t, a); r.Seq != 1 || len(r.Suspicions) != 1 {
			t.Errorf("report %+v", r)
		}
	}
}

func TestSessionsStayAwayFromThisNodesOwnServer(t *testing.T) {
	a, b, own := agenttest.NewServer(t, "ns/a"), agenttest.NewServer(t, "ns/b"), agenttest.NewServer(t, "ns/own")
	places := []Place{place(a), place(b), {Server: own.Name, Address: own.Address, Own: true}}
	startReporter(t, places, own.Address, a.Address, b.Address)
	eventually(t, "a session on each of the others", func() bool { return len(a.Clients()) == 1 && len(b.Clients()) == 1 })
	if len(own.Connects()) > 0 {
		t.Error("there was one on this node's own")
	}
}

func TestSessionsPartWhenAnotherServerComes(t *testing.T) {
	a, b := agenttest.NewServer(t, "ns/a"), agenttest.NewServer(t, "ns/b")
	b.Kill()
	f := startReporter(t, []Place{place(a)}, a.Address, b.Address)
	eventually(t, "both sessions on the only server", func() bool { return len(a.Clients()) == 2 })
	b.Revive()
	f.places.Store(&[]Place{place(a), place(b)})
	eventually(t, "a session on each server", func() bool { return len(a.Clients()) == 1 && len(b.Clients()) == 1 })
}

func TestServersAreFoundWhereNoneIsGiven(t *testing.T) {
	a := agenttest.NewServer(t, "ns/a")
	f := startReporter(t, nil)
	f.places.Store(&[]Place{place(a)})
	eventually(t, "both sessions on the server that is found", func() bool { return len(a.Clients()) == 2 })
	f.stop()
	eventually(t, "a goodbye", func() bool { return len(a.Clients()) == 0 })
}

func TestANodeNameMustMakeAClientID(t *testing.T) {
	if _, err := New(Config{Node: "node 1", Registerer: prometheus.NewRegistry()}); err == nil {
		t.Error("a node name with a space was accepted")
	}
}
