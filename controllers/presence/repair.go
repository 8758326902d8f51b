package presence

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/failover"
)

const (
	// Whoever writes over a status again and again is given way to, from
	// rivalMin doubling to rivalMax: two writers must not make each other busy.
	rivalMin = time.Second
	rivalMax = 5 * time.Minute
	// rivalCalm is how long nobody must have written over a status for the next
	// repair to be made at once again.
	rivalCalm = 2 * rivalMax
)

// repairs paces those of one status. Its zero value has made none.
type repairs struct {
	times int
	last  time.Time
}

// wait is how long the next repair should wait; at most 0: it is due.
func (r repairs) wait(now time.Time) time.Duration {
	if r.times == 0 || now.Sub(r.last) >= rivalCalm {
		return 0
	}
	pause := rivalMax
	if shift := r.times - 1; shift < 9 { // 1 s doubled nine times is more than the most
		pause = min(rivalMin<<shift, rivalMax)
	}
	return r.last.Add(pause).Sub(now)
}

// made is what follows from a repair.
func (r repairs) made(now time.Time) repairs {
	if now.Sub(r.last) >= rivalCalm {
		r.times = 0
	}
	return repairs{times: r.times + 1, last: now}
}

// spoilt tells whether somebody has written over what was written here, and who
// has, as far as the object knows. An object that is older than that is not.
func (w written) spoilt(p *v1alpha1.Presence) (by string, yes bool) {
	if p.UID != w.uid || w.version == "" {
		return "", false
	}
	if order, err := resourceversion.CompareResourceVersion(p.ResourceVersion, w.version); err != nil || order <= 0 {
		return "", false
	}
	if holds(p.Status, w.status) {
		return "", false
	}
	var last time.Time
	by = "somebody"
	for _, f := range p.ManagedFields {
		if f.Subresource == "status" && f.Manager != string(failover.FieldOwner) && f.Time != nil && f.Time.After(last) {
			by, last = f.Manager, f.Time.Time
		}
	}
	return by, true
}

// holds tells whether a status still says all that was written. What others have
// added is theirs: conditions of other types, say.
func holds(now, ours v1alpha1.PresenceStatus) bool {
	return now.ObservedGeneration == ours.ObservedGeneration && now.Subject == ours.Subject &&
		now.Mode == ours.Mode && now.Reason == ours.Reason && equality.Semantic.DeepEqual(now.Counts, ours.Counts) &&
		equality.Semantic.DeepEqual(now.Evacuations, ours.Evacuations) &&
		!slices.ContainsFunc(ours.Conditions, func(c metav1.Condition) bool {
			n := meta.FindStatusCondition(now.Conditions, c.Type)
			return n == nil || n.Status != c.Status || n.Reason != c.Reason || n.Message != c.Message ||
				n.ObservedGeneration != c.ObservedGeneration || n.LastTransitionTime.Unix() != c.LastTransitionTime.Unix()
		}) &&
		!slices.ContainsFunc(ours.NotAlive, func(m v1alpha1.MemberStatus) bool {
			return !slices.ContainsFunc(now.NotAlive, func(n v1alpha1.MemberStatus) bool {
				return n.Name == m.Name && n.State == m.State && n.Message == m.Message &&
					n.Since.UnixMicro() == m.Since.UnixMicro() // the API's precision
			})
		})
}
