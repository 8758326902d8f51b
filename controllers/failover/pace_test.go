package failover

import (
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

func TestAMoveInProgressFollowsItsReceivers(t *testing.T) {
	fo := &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{Namespace: "im", Name: "fo"},
		Spec:       v1alpha1.FailoverSpec{Presence: "servers", Server: "a", Incarnation: "now", Clients: 1000, Reason: v1alpha1.FailoverOverloaded},
	}
	receiver := func(name string) plan.Server {
		return plan.Server{Name: name, Address: name + ":1", Sessions: 100, Answer: time.Millisecond, Verdict: verdict.Verdict{State: verdict.Alive}}
	}
	fleet := []plan.Server{{Name: "im/a", Sessions: 1000, Out: true, Verdict: verdict.Verdict{State: verdict.Overloaded}}, receiver("im/b"), receiver("im/c")}
	f := Facts{
		Now: start, Mode: v1alpha1.ModeAutomatic, Rate: 400, State: verdict.Overloaded,
		Server:    evidence.Server{Known: true, Record: store.Server{Incarnation: "now"}},
		TakenOver: func(string) store.Takeovers { return store.Takeovers{} },
		Choice: Choice{Rate: 400, FirstWave: 50, Targets: []plan.Target{
			{Server: "im/b", Address: "im/b:1", Weight: 500}, {Server: "im/c", Address: "im/c:1", Weight: 500},
		}},
		Plan: Plan{Policy: plan.Policy{Rate: 400}, Fleet: fleet, Active: []plan.Active{{Server: "im/a", Reason: plan.Overloaded}}},
	}
	memory := Memory{Incarnation: "now", Clients: 1000, Remaining: -1}
	step := func(after time.Duration) Step {
		t.Helper()
		f.Now = f.Now.Add(after)
		s := Advance(fo, memory, f)
		fo.Status, memory = s.Status, s.Memory
		if s.Put != nil {
			f.Directive = s.Put
		}
		if Finished(fo) {
			t.Fatalf("it has ended: %s", Outcome(fo))
		}
		return s
	}
	message := func() string {
		return meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionProcessing).Message
	}

	if s := step(0); s.Put == nil || s.Paced || s.Put.Rate != 400 {
		t.Fatalf("it begins with %+v", s.Put)
	}
	if s := step(900 * time.Millisecond); s.Put != nil || s.After > 100*time.Millisecond {
		t.Errorf("changed within a second, or not looked at then: %+v, after %v", s.Put, s.After)
	}
	step(100 * time.Millisecond)
	if s := step(time.Second); s.Put == nil || !s.Paced || s.Put.Rate != 480 || s.Put.Failover != "im/fo" || !s.Put.Drain || s.Put.FirstWave != 50 {
		t.Errorf("receivers at ease are sent %+v", s.Put)
	}
	fleet[1].QueueDelay = 512 * time.Millisecond
	if s := step(time.Second); s.Put == nil || s.Put.Rate != 0 || len(s.Put.Targets) != 2 {
		t.Errorf("a slow receiver is sent %+v", s.Put)
	}
	if got := message(); got != "It stands still: a receiver answers later than 250ms." {
		t.Errorf("it says %q", got)
	}
	fleet[1].QueueDelay = 0

	// Another leader goes on from what the directive says.
	memory = Recall(fo, f)
	if s := step(time.Second); s.Put != nil {
		t.Errorf("it begins with %+v", s.Put)
	}
	if s := step(time.Second); s.Put == nil || s.Put.Rate != 200 || message() != "Clients are told to go." {
		t.Errorf("it goes on with %+v: %s", s.Put, message())
	}
	fleet[1].Verdict.State = verdict.Dead
	if s := step(time.Second); s.Put == nil || len(s.Put.Targets) != 1 || s.Put.Targets[0].Address != "im/c:1" || s.Status.Receivers != 1 {
		t.Errorf("without a receiver it goes on with %+v", s.Put)
	}
}
