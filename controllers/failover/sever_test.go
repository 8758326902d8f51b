package failover

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// stuck is a Failover that was directed ten seconds ago, of a server that has
// done nothing since.
func stuck() (*v1alpha1.Failover, Memory, Facts) {
	fo := &v1alpha1.Failover{ObjectMeta: metav1.ObjectMeta{Namespace: "im", Name: "fo", Generation: 1}}
	fo.Spec = v1alpha1.FailoverSpec{Presence: "servers", Server: "server-2", Reason: v1alpha1.FailoverOverloaded}
	fo.Status.DecidedAt = micro(start)
	meta.SetStatusCondition(&fo.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionProcessing, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMoving,
	})
	m := Memory{Incarnation: "now", Clients: 100, Remaining: -1, Put: start, Began: start}
	f := Facts{
		Now: start.Add(10 * time.Second), Mode: v1alpha1.ModeAutomatic, Rate: 500, State: verdict.Overloaded, Proven: true,
		Server:    evidence.Server{Known: true, Record: store.Server{Incarnation: "now", Sessions: map[string]int{"im/apps": 100}}},
		TakenOver: func(string) store.Takeovers { return store.Takeovers{} },
		Directive: &store.Directive{Failover: "im/fo", Drain: true, Rate: 400, FirstWave: 20},
		Sever: Severing{
			Policy: v1alpha1.SeverPolicy{Mode: v1alpha1.SeverPaced}, Installation: "rollcall",
			Port: intstr.FromString("mqtt"), Node: "node-1", PodUID: "pod-1", Out: true,
		},
	}
	return fo, m, f
}

func TestSeveringIsAskedForWhileAllOfItHolds(t *testing.T) {
	slower := int32(50)
	count := int32(3)
	for _, c := range []struct {
		name   string
		change func(*v1alpha1.Failover, *Memory, *Facts)
		rate   int32 // 0: it is not asked for
	}{
		{"a server that does nothing about its directive", func(*v1alpha1.Failover, *Memory, *Facts) {}, 400},
		{"and is dead", func(_ *v1alpha1.Failover, _ *Memory, f *Facts) { f.State = verdict.Dead }, 400},
		{"at a pace of its own", func(_ *v1alpha1.Failover, _ *Memory, f *Facts) { f.Sever.Policy.ClientsPerSecond = &slower }, 50},
		{"at the pace that was last adjusted", func(_ *v1alpha1.Failover, m *Memory, _ *Facts) { m.Pace = plan.Pace{Rate: 123.4, At: start} }, 123},
		{"not while the pace is held", func(_ *v1alpha1.Failover, m *Memory, _ *Facts) {
			m.Pace = plan.Pace{Held: "a receiver is slow", At: start}
		}, 0},
		{"not where the Presence does not say so", func(_ *v1alpha1.Failover, _ *Memory, f *Facts) { f.Sever.Policy.Mode = v1alpha1.SeverOff }, 0},
		{"not where the mode is only meant to be Off", func(_ *v1alpha1.Failover, _ *Memory, f *Facts) { f.Sever = Severing{} }, 0},
		{"not while Services lead there", func(_ *v1alpha1.Failover, _ *Memory, f *Facts) { f.Sever.Out = false }, 0},
		{"not when the server answers again, before it counts as recovered", func(_ *v1alpha1.Failover, _ *Memory, f *Facts) { f.Proven = false }, 0},
		{"not when it is only suspected", func(_ *v1alpha1.Failover, _ *Memory, f *Facts) { f.State, f.Proven = verdict.Suspect, false }, 0},
		{"not of a server that a person drains, and is well", func(fo *v1alpha1.Failover, _ *Memory, f *Facts) {
			fo.Spec.Reason, f.State, f.Proven = v1alpha1.FailoverDrain, verdict.Alive, false
		}, 0},
		{"of one that a person drains, and is stopped", func(fo *v1alpha1.Failover, _ *Memory, _ *Facts) { fo.Spec.Reason = v1alpha1.FailoverDrain }, 400},
		{"not where only some are moved", func(fo *v1alpha1.Failover, _ *Memory, f *Facts) {
			fo.Spec.Count, fo.Spec.Reason, f.State = &count, v1alpha1.FailoverReturned, verdict.Alive
		}, 0},
		{"not before the directive stands", func(_ *v1alpha1.Failover, m *Memory, f *Facts) { f.Directive, m.Put = nil, f.Now }, 0},
		{"not within a second of it", func(_ *v1alpha1.Failover, m *Memory, f *Facts) { m.Put = f.Now.Add(-900 * time.Millisecond) }, 0},
		{"not while the server tells its clients to go", func(_ *v1alpha1.Failover, _ *Memory, f *Facts) {
			f.Server.Record.Drain = &store.DrainProgress{Failover: "im/fo", Told: 5}
		}, 0},
		{"but when it has ceased to", func(_ *v1alpha1.Failover, m *Memory, f *Facts) {
			f.Server.Record.Drain = &store.DrainProgress{Failover: "im/fo", Told: 5}
			m.Told, m.Acted = 5, f.Now.Add(-unmoved)
		}, 400},
		{"at a slow pace only after longer", func(_ *v1alpha1.Failover, _ *Memory, f *Facts) { f.Directive.Rate = 0.25 }, 0},
		{"and then at one a second at least", func(_ *v1alpha1.Failover, m *Memory, f *Facts) {
			f.Directive.Rate, m.Put = 0.5, f.Now.Add(-6*time.Second)
		}, 1},
		{"not when it is paused", func(_ *v1alpha1.Failover, _ *Memory, f *Facts) { f.Forbidden = "Paused." }, 0},
		{"not when all are elsewhere", func(_ *v1alpha1.Failover, _ *Memory, f *Facts) {
			f.TakenOver = func(string) store.Takeovers { return store.Takeovers{Severed: 100} }
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			fo, m, f := stuck()
			fo.Status.Sever = &v1alpha1.SeverOrder{Node: "node-0"} // what was asked before
			c.change(fo, &m, &f)
			got := Advance(fo, m, f).Status.Sever
			if (got != nil) != (c.rate > 0) {
				t.Fatalf("it is asked for %+v", got)
			}
			if got != nil && (got.ClientsPerSecond != c.rate || got.FirstWave != 20 || got.Node != "node-1" || got.PodUID != "pod-1" ||
				got.Port != intstr.FromString("mqtt") || got.Installation != "rollcall") {
				t.Errorf("it is asked for %+v", got)
			}
		})
	}
}

func TestAnOrderIsRenewedInTime(t *testing.T) {
	fo, m, f := stuck()
	for range 50 {
		s := Advance(fo, m, f)
		order := s.Status.Sever
		if order == nil {
			t.Fatal("it is not asked for")
		}
		if age := f.Now.Sub(order.RenewedAt.Time); age >= renewSever {
			t.Fatalf("the order is %v old", age)
		}
		if next := f.Now.Add(s.After).Sub(order.RenewedAt.Time); next > renewSever || s.After <= 0 {
			t.Fatalf("it is looked at again when the order is %v old", next)
		}
		fo.Status, m = s.Status, s.Memory
		f.Now = f.Now.Add(min(s.After, 300*time.Millisecond))
		if f.Now.Sub(start) > MinDeadline-2*time.Second {
			return
		}
	}
}

// What the leader waits for must not pass unnoticed.
func TestItIsLookedAtAgainWhenThePatienceEnds(t *testing.T) {
	fo, m, f := stuck()
	m.Put = f.Now.Add(-700 * time.Millisecond)
	if s := Advance(fo, m, f); s.Status.Sever != nil || s.After != 300*time.Millisecond {
		t.Errorf("asked for %+v, looked at again after %v", s.Status.Sever, s.After)
	}
}
