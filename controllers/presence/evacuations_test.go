package presence

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/judge"
)

func TestWhatIsSaidOfTaintedNodes(t *testing.T) {
	at := func(s int) metav1.MicroTime { return metav1.NewMicroTime(now.Add(time.Duration(s) * time.Second)) }
	took := &metav1.Duration{Duration: 4 * time.Second}
	stands := &judge.Result{World: world(), Machines: map[string]judge.Machine{"a": {HasTaint: true, Tainted: at(0).Time}}}
	gone := &judge.Result{World: world(), Machines: map[string]judge.Machine{"a": {}}}
	measured := v1alpha1.Evacuation{Node: "a", TaintedAt: at(0), Pods: 2, Elsewhere: 2, Took: took}
	var s v1alpha1.PresenceStatus

	evacuated(&s, []v1alpha1.Evacuation{measured}, nil, "", stands)
	if e := s.Evacuations[0]; e.UntaintedAt != nil || e.Took == nil {
		t.Errorf("a leader that has not looked yet says %+v", e)
	}
	evacuated(&s, []v1alpha1.Evacuation{measured}, []v1alpha1.Evacuation{{Node: "a", TaintedAt: at(0), Took: &metav1.Duration{Duration: time.Hour}}}, "", stands)
	if e := s.Evacuations[0]; *e.Took != *took {
		t.Errorf("a later leader's measure goes before the first: %v", e.Took)
	}
	evacuated(&s, []v1alpha1.Evacuation{measured}, nil, "", gone)
	if e := s.Evacuations[0]; e.UntaintedAt == nil || e.Took == nil {
		t.Errorf("after the taint is gone: %+v", e)
	}
	evacuated(&s, s.Evacuations, []v1alpha1.Evacuation{{Node: "a", TaintedAt: at(100)}}, "", stands)
	if e := s.Evacuations[0]; len(s.Evacuations) != 1 || e.UntaintedAt != nil || e.Took != nil {
		t.Errorf("dead once more: %+v", s.Evacuations)
	}

	var many []v1alpha1.Evacuation
	for i := range 20 {
		many = append(many, v1alpha1.Evacuation{Node: string(rune('b' + i)), TaintedAt: at(i), UntaintedAt: new(at(i + 1))})
	}
	evacuated(&s, many, []v1alpha1.Evacuation{{Node: "a", TaintedAt: at(0)}}, "", stands)
	if len(s.Evacuations) != v1alpha1.MaxEvacuations || s.Evacuations[0].Node != "a" || s.Evacuations[1].Node != "u" {
		t.Errorf("%d are kept, %s and %s first", len(s.Evacuations), s.Evacuations[0].Node, s.Evacuations[1].Node)
	}
}
