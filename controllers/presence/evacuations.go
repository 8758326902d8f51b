package presence

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/judge"
)

// evacuated adds to a status how far the pods of tainted nodes have come. What
// was said last of nodes that are tainted no more is kept, the newest of it; and
// so is how long it took, which a new leader could not measure. blocked is why no
// node is tainted that should be; empty: nothing is in the way.
func evacuated(s *v1alpha1.PresenceStatus, last, now []v1alpha1.Evacuation, blocked string, r *judge.Result) {
	all := slices.Clone(now)
	for _, was := range last {
		i := slices.IndexFunc(all, func(e v1alpha1.Evacuation) bool { return e.Node == was.Node })
		switch {
		case i < 0:
			m := r.Machines[was.Node]
			if stands := m.HasTaint && m.Tainted.Unix() == was.TaintedAt.Unix(); was.UntaintedAt == nil && !stands {
				was.UntaintedAt = new(metav1.NewMicroTime(r.World.Now.Truncate(time.Microsecond)))
				was.Message = ""
			}
			all = append(all, was)
		case was.Took != nil && was.UntaintedAt == nil && was.TaintedAt.Unix() == all[i].TaintedAt.Unix():
			all[i] = was
		}
	}
	slices.SortStableFunc(all, func(a, b v1alpha1.Evacuation) int {
		if (a.UntaintedAt == nil) != (b.UntaintedAt == nil) {
			if a.UntaintedAt == nil {
				return -1
			}
			return 1
		}
		return b.TaintedAt.Compare(a.TaintedAt.Time)
	})
	s.Evacuations = all[:min(len(all), v1alpha1.MaxEvacuations)]
	if len(s.Evacuations) == 0 {
		s.Evacuations = nil
	}
	if c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionFrozen); blocked != "" && c != nil && c.Status == metav1.ConditionFalse {
		c.Message = "Actions are allowed. Not done: " + blocked
	}
}
