package failover

import (
	"reflect"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

var start = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// scene is one step: what is the case, and what must come of it.
type scene struct {
	name string
	// of the object: a fault unless said otherwise, begun ten seconds ago.
	reason v1alpha1.FailoverReason
	count  int32
	fresh  bool // not begun
	was    v1alpha1.FailoverStatus
	// of the world
	change func(*Facts, *Memory)

	outcome         string
	moved, pending  int32
	lost            int32
	put, withdrawn  bool
	stalled, firsts bool
}

func TestSteps(t *testing.T) {
	live := func(f *Facts, sessions int) {
		f.Server.Live = true
		f.Server.Record.Sessions = map[string]int{"im/apps": sessions}
	}
	taken := func(f *Facts, t store.Takeovers) {
		f.TakenOver = func(string) store.Takeovers { return t }
	}
	for _, s := range []scene{
		{name: "a decision is directed", fresh: true, outcome: v1alpha1.ReasonMoving, put: true, pending: 100},
		{name: "clients who left before the verdict count as moved", fresh: true,
			change:  func(f *Facts, _ *Memory) { taken(f, store.Takeovers{Late: 7}) },
			outcome: v1alpha1.ReasonMoving, put: true, moved: 7, pending: 93, firsts: true},
		{name: "advice does nothing", fresh: true, change: func(f *Facts, _ *Memory) { f.Mode = v1alpha1.ModeAdvise },
			outcome: v1alpha1.ReasonAdvised},
		{name: "a person's drain goes before the mode", fresh: true, reason: v1alpha1.FailoverDrain,
			change:  func(f *Facts, _ *Memory) { f.Mode = v1alpha1.ModeOff; f.State = verdict.Alive },
			outcome: v1alpha1.ReasonMoving, put: true, pending: 100},
		{name: "what is forbidden is cancelled", fresh: true, change: func(f *Facts, _ *Memory) { f.Forbidden = "Paused." },
			outcome: v1alpha1.ReasonCancelled},
		{name: "without receivers it waits", fresh: true, change: func(f *Facts, _ *Memory) { f.Choice = Choice{Blocked: "full"} },
			outcome: v1alpha1.ReasonNoHeadroom, pending: 100},
		{name: "what an earlier leader directed, and could not say any more, goes on", fresh: true,
			change: func(f *Facts, _ *Memory) {
				f.Directive, f.Choice = &store.Directive{Failover: "im/fo", Incarnation: "now", Rate: 400}, Choice{}
				taken(f, store.Takeovers{Late: 20})
			},
			outcome: v1alpha1.ReasonMoving, moved: 20, pending: 80, firsts: true},
		{name: "what was directed under its name to an earlier process is directed anew", fresh: true,
			change: func(f *Facts, _ *Memory) {
				f.Directive = &store.Directive{Failover: "im/fo", Incarnation: "before", Rate: 400}
			},
			outcome: v1alpha1.ReasonMoving, put: true, pending: 100},
		{name: "and is withdrawn where it is forbidden", fresh: true,
			change: func(f *Facts, _ *Memory) {
				f.Directive, f.Choice, f.Forbidden = &store.Directive{Failover: "im/fo", Incarnation: "now"}, Choice{}, "Paused."
			},
			outcome: v1alpha1.ReasonCancelled, withdrawn: true},
		{name: "a server that was restarted and is well is left alone", fresh: true,
			change:  func(f *Facts, m *Memory) { f.State = verdict.Alive; m.Incarnation = "before" },
			outcome: v1alpha1.ReasonCancelled},

		{name: "progress is counted over the baseline",
			change: func(f *Facts, m *Memory) {
				m.Base = store.Takeovers{Directive: 10}
				taken(f, store.Takeovers{Directive: 30, Late: 5})
			},
			outcome: v1alpha1.ReasonMoving, moved: 25, pending: 75, firsts: true},
		{name: "what was counted is never taken back", was: v1alpha1.FailoverStatus{Moved: 40, FirstMovedAt: micro(start)},
			outcome: v1alpha1.ReasonMoving, moved: 40, pending: 60, stalled: true},
		{name: "more arrivals than expected leave nothing pending",
			change:  func(f *Facts, _ *Memory) { taken(f, store.Takeovers{Directive: 120}) },
			outcome: v1alpha1.ReasonMoved, moved: 120, firsts: true},
		{name: "a server that says it is empty is believed, once the receivers have had time",
			change: func(f *Facts, _ *Memory) { live(f, 0); taken(f, store.Takeovers{Directive: 90}) },
			was:    v1alpha1.FailoverStatus{Moved: 90, FirstMovedAt: micro(start)}, outcome: v1alpha1.ReasonMoved, moved: 90},
		{name: "and who went offline there is lost", change: func(f *Facts, m *Memory) {
			live(f, 0)
			taken(f, store.Takeovers{Directive: 90})
			f.Server.Record.Ended, m.Ended = 47, 40
		}, was: v1alpha1.FailoverStatus{Moved: 90, FirstMovedAt: micro(start)}, outcome: v1alpha1.ReasonMoved, moved: 90, lost: 7},
		{name: "nobody is both lost and elsewhere", change: func(f *Facts, _ *Memory) {
			taken(f, store.Takeovers{Directive: 98})
			f.Server.Record.Ended = 5
		}, outcome: v1alpha1.ReasonMoved, moved: 98, lost: 2, firsts: true},
		{name: "what another process counts is not its loss", change: func(f *Facts, _ *Memory) { f.Server.Record.Incarnation, f.Server.Record.Ended = "later", 5 },
			outcome: v1alpha1.ReasonMoving, pending: 100, stalled: true},
		{name: "and not before", change: func(f *Facts, _ *Memory) { live(f, 0); f.Server.Written = f.Now },
			outcome: v1alpha1.ReasonMoving, pending: 100, stalled: true},
		{name: "a dead server's last record is not believed", change: func(f *Facts, _ *Memory) { live(f, 0); f.Server.Live = false },
			outcome: v1alpha1.ReasonMoving, pending: 100, stalled: true},
		{name: "clients that neither the server nor the store knows of are elsewhere", change: func(_ *Facts, m *Memory) { m.Remaining = 4 },
			outcome: v1alpha1.ReasonMoving, pending: 4},
		{name: "a server that answers again keeps the rest", change: func(f *Facts, _ *Memory) { live(f, 30); f.State = verdict.Alive },
			outcome: v1alpha1.ReasonRecovered, pending: 100},
		{name: "a drained server that is alive is drained on", reason: v1alpha1.FailoverDrain,
			change:  func(f *Facts, _ *Memory) { live(f, 30); f.State = verdict.Alive },
			outcome: v1alpha1.ReasonMoving, pending: 100, stalled: true},
		{name: "the deadline ends it, and the server stays out",
			change:  func(f *Facts, _ *Memory) { f.Now = start.Add(MinDeadline) },
			outcome: v1alpha1.ReasonTimedOut, pending: 100},
		{name: "a large one has longer",
			change:  func(f *Facts, m *Memory) { f.Now = start.Add(MinDeadline); m.Clients = 20000 },
			outcome: v1alpha1.ReasonMoving, pending: 20000, stalled: true},
		{name: "a slow one has longer, by the pace that it is given", reason: v1alpha1.FailoverReturned, count: 10000,
			change: func(f *Facts, m *Memory) {
				f.Now, f.State, m.Slowest = start.Add(3000*time.Second-1), verdict.Alive, 10
			},
			outcome: v1alpha1.ReasonMoving, pending: 10000, stalled: true},
		{name: "and then it ends too", reason: v1alpha1.FailoverReturned, count: 10000,
			change: func(f *Facts, m *Memory) {
				f.Now, f.State, m.Slowest = start.Add(3000*time.Second), verdict.Alive, 10
			},
			outcome: v1alpha1.ReasonTimedOut, pending: 10000, withdrawn: true},
		{name: "a pause withdraws the directive", change: func(f *Facts, _ *Memory) { f.Forbidden = "Paused." },
			outcome: v1alpha1.ReasonCancelled, withdrawn: true},
		{name: "a directive that was lost with the store is written again", change: func(f *Facts, _ *Memory) { f.Directive = nil },
			outcome: v1alpha1.ReasonMoving, put: true, pending: 100},
		{name: "one that was just written may not show yet",
			change:  func(f *Facts, m *Memory) { f.Directive = nil; m.Put = f.Now },
			outcome: v1alpha1.ReasonMoving, pending: 100},
		{name: "another's directive ends it",
			change:  func(f *Facts, _ *Memory) { f.Directive = &store.Directive{Failover: "im/other"} },
			outcome: v1alpha1.ReasonCancelled},

		{name: "a limited move ends with its count", reason: v1alpha1.FailoverReturned, count: 20,
			change:  func(f *Facts, _ *Memory) { taken(f, store.Takeovers{Directive: 20}); f.State = verdict.Alive },
			outcome: v1alpha1.ReasonMoved, moved: 20, withdrawn: true, firsts: true},
		{name: "who goes offline elsewhere on the server is not this move's loss", reason: v1alpha1.FailoverReturned, count: 10,
			change: func(f *Facts, _ *Memory) {
				live(f, 80)
				taken(f, store.Takeovers{Directive: 4})
				f.State, f.Server.Record.Ended = verdict.Alive, 50
			},
			outcome: v1alpha1.ReasonMoving, moved: 4, pending: 6, firsts: true},
		{name: "or when the server has told all it could", reason: v1alpha1.FailoverReturned, count: 20,
			was: v1alpha1.FailoverStatus{Moved: 15, FirstMovedAt: micro(start)},
			change: func(f *Facts, _ *Memory) {
				live(f, 80)
				f.State = verdict.Alive
				f.Server.Record.Drain = &store.DrainProgress{Failover: "im/fo", Told: 15, Done: true}
			},
			outcome: v1alpha1.ReasonMoved, moved: 15, withdrawn: true},
		{name: "or when the server itself fails", reason: v1alpha1.FailoverReturned, count: 20,
			outcome: v1alpha1.ReasonCancelled, withdrawn: true},
	} {
		t.Run(s.name, s.play)
	}
}

func (s scene) play(t *testing.T) {
	fo := &v1alpha1.Failover{ObjectMeta: metav1.ObjectMeta{Namespace: "im", Name: "fo", Generation: 1}, Status: s.was}
	fo.Spec = v1alpha1.FailoverSpec{Presence: "servers", Server: "server-2", Reason: s.reason}
	if s.reason == "" {
		fo.Spec.Reason = v1alpha1.FailoverOverloaded
	}
	memory := Memory{Incarnation: "now", Clients: 100, Remaining: -1}
	if s.count > 0 {
		fo.Spec.Count = &s.count
		memory.Clients = int(s.count)
	}
	f := Facts{
		Now: start.Add(10 * time.Second), Mode: v1alpha1.ModeAutomatic, Rate: 500, State: verdict.Overloaded,
		Server:    evidence.Server{Known: true, Record: store.Server{Incarnation: "now", Sessions: map[string]int{"im/apps": 100}}},
		TakenOver: func(string) store.Takeovers { return store.Takeovers{} },
		Choice:    Choice{Targets: []plan.Target{{Server: "im/server-0", Address: "a:1", Weight: 1}}, Rate: 400},
	}
	if !s.fresh {
		meta.SetStatusCondition(&fo.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionProcessing, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMoving,
		})
		fo.Status.DecidedAt = micro(start)
		memory.Put, memory.Began = start, start
		f.Directive = &store.Directive{Failover: "im/fo"}
	}
	if s.change != nil {
		s.change(&f, &memory)
	}

	got := Advance(fo, memory, f)
	after := fo.DeepCopy()
	after.Status = got.Status
	if Outcome(after) != s.outcome {
		t.Fatalf("it is %s, want %s", Outcome(after), s.outcome)
	}
	if got.Status.Moved != s.moved || got.Status.Pending != s.pending || got.Status.Lost != s.lost {
		t.Errorf("moved %d, pending %d, lost %d, want %d, %d, %d",
			got.Status.Moved, got.Status.Pending, got.Status.Lost, s.moved, s.pending, s.lost)
	}
	if (got.Put != nil) != s.put || got.Withdraw != s.withdrawn || got.Stalled != s.stalled {
		t.Errorf("put %v, withdraw %v, stalled %v, want %v, %v, %v", got.Put != nil, got.Withdraw, got.Stalled, s.put, s.withdrawn, s.stalled)
	}
	if first := got.Status.FirstMovedAt; s.firsts && (first == nil || !first.Time.Equal(f.Now)) {
		t.Errorf("the first was moved at %v", first)
	}
	if Finished(after) != (got.Status.CompletedAt != nil) || Finished(after) && got.After != 0 {
		t.Error("what is finished has a time, and is not looked at again")
	}
	if again := Advance(after, got.Memory, f); Finished(after) && (again.Put != nil || again.Withdraw) {
		t.Error("what is finished stays so")
	}
}

func TestAnotherLeaderRecallsWhatWasBegun(t *testing.T) {
	facts := Facts{
		Now:       start,
		Server:    evidence.Server{Known: true, Record: store.Server{Incarnation: "later", Sessions: map[string]int{"im/apps": 3}}},
		TakenOver: func(string) store.Takeovers { return store.Takeovers{Directive: 60, Late: 30, Severed: 10} },
		Directive: &store.Directive{Failover: "im/fo", Incarnation: "now"},
	}
	begun := metav1.Condition{Type: v1alpha1.ConditionProcessing, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMoving}
	for _, c := range []struct {
		name string
		fo   v1alpha1.Failover
		want Memory
	}{
		{"the controller's own, from its spec",
			v1alpha1.Failover{Spec: v1alpha1.FailoverSpec{Reason: v1alpha1.FailoverDead, Incarnation: "now", Clients: 200, TakenOver: 50}},
			Memory{Incarnation: "now", Clients: 200, Base: store.Takeovers{Directive: 30, Late: 15, Severed: 5}, Remaining: -1, Ended: -1}},
		{"a person's, from its status and its directive",
			v1alpha1.Failover{
				Spec:   v1alpha1.FailoverSpec{Reason: v1alpha1.FailoverDrain},
				Status: v1alpha1.FailoverStatus{Moved: 90, Pending: 8, Lost: 2, Conditions: []metav1.Condition{begun}},
			},
			Memory{Incarnation: "now", Clients: 100, Base: store.Takeovers{Directive: 6, Late: 3, Severed: 1}, Remaining: -1, Put: start, Began: start, Lost: 2, Ended: -1}},
		{"a person's that nobody has begun, whatever was directed under its name to an earlier process",
			v1alpha1.Failover{Spec: v1alpha1.FailoverSpec{Reason: v1alpha1.FailoverDrain}},
			Memory{Incarnation: "later", Clients: 3, Base: store.Takeovers{Directive: 60, Late: 30, Severed: 10}, Remaining: -1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.fo.Namespace, c.fo.Name = "im", "fo"
			if got := Recall(&c.fo, facts); !reflect.DeepEqual(got, c.want) {
				t.Errorf("recalled %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestALeaderThatBeginsWhileTheRecordIsAwayCountsFromWhenItIsBack(t *testing.T) {
	fo := &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{Namespace: "im", Name: "fo"},
		Spec:       v1alpha1.FailoverSpec{Presence: "servers", Server: "server-2", Reason: v1alpha1.FailoverDead, Incarnation: "now", Clients: 100},
		Status: v1alpha1.FailoverStatus{Lost: 3, Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionProcessing, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMoving},
		}},
	}
	facts := Facts{
		Now: start, Mode: v1alpha1.ModeAutomatic, Rate: 500, State: verdict.Dead,
		TakenOver: func(string) store.Takeovers { return store.Takeovers{} },
		Directive: &store.Directive{Failover: "im/fo", Incarnation: "now"},
	}
	step := Step{Status: fo.Status, Memory: Recall(fo, facts)}
	for _, c := range []struct {
		what, process string
		ended         int
		lost          int32
	}{
		{what: "no record", lost: 3},
		{what: "another process", process: "other", ended: 400, lost: 3},
		{what: "the process has ended many since it began", process: "now", ended: 5000, lost: 3},
		{what: "and two more", process: "now", ended: 5002, lost: 5},
	} {
		facts.Server = evidence.Server{Known: c.process != "", Record: store.Server{
			Incarnation: c.process, Ended: c.ended, Sessions: map[string]int{"im/apps": 90},
		}}
		fo.Status = step.Status
		step = Advance(fo, step.Memory, facts)
		if fo.Status = step.Status; step.Status.Lost != c.lost || Finished(fo) {
			t.Fatalf("%s: %d are lost, it is %s; want %d, Moving", c.what, step.Status.Lost, Outcome(fo), c.lost)
		}
	}
}
