package presence

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

func TestWhoeverWritesOverAStatusAgainAndAgainIsGivenWayTo(t *testing.T) {
	var r repairs
	at, made := now, 0
	for at.Before(now.Add(time.Hour)) { // a rival who answers every repair at once
		if wait := r.wait(at); wait > 0 {
			at = at.Add(wait)
			continue
		}
		r = r.made(at)
		made++
	}
	if made < 10 || made > 30 {
		t.Errorf("%d repairs in an hour", made)
	}
	if r.wait(at.Add(rivalCalm)) > 0 || (repairs{}).wait(now) > 0 {
		t.Error("after a calm a repair is not made at once")
	}
	if r = r.made(at.Add(rivalCalm)); r.times != 1 {
		t.Errorf("a calm is not remembered as one: %+v", r)
	}
}

func TestWhatIsWrittenOver(t *testing.T) {
	ours := Status(v1alpha1.PresenceStatus{}, world(), servers(verdict.Alive, verdict.Overloaded))
	ours.NotAlive[0].Since = metav1.NewMicroTime(now.Add(123456789)) // finer than the API's times
	w := written{uid: "u", version: "100", status: ours}
	for _, c := range []struct {
		name    string
		version string
		change  func(*v1alpha1.PresenceStatus)
		spoilt  bool
	}{
		{"what was written stands", "101", func(*v1alpha1.PresenceStatus) {}, false},
		{"the cache has not seen it yet", "99", func(s *v1alpha1.PresenceStatus) { *s = v1alpha1.PresenceStatus{} }, false},
		{"all of it is gone", "101", func(s *v1alpha1.PresenceStatus) { *s = v1alpha1.PresenceStatus{} }, true},
		{"a count", "1000", func(s *v1alpha1.PresenceStatus) { s.Counts.Alive = 7 }, true},
		{"a condition", "101", func(s *v1alpha1.PresenceStatus) { s.Conditions[0].Status = metav1.ConditionUnknown }, true},
		{"a condition is gone", "101", func(s *v1alpha1.PresenceStatus) { meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReady) }, true},
		{"who is not alive", "101", func(s *v1alpha1.PresenceStatus) { s.NotAlive = nil }, true},
		{"a condition of another's own is added", "101", func(s *v1alpha1.PresenceStatus) {
			meta.SetStatusCondition(&s.Conditions, metav1.Condition{Type: "Theirs", Status: metav1.ConditionTrue, Reason: "So"})
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &v1alpha1.Presence{ObjectMeta: metav1.ObjectMeta{UID: "u", ResourceVersion: c.version}, Status: *ours.DeepCopy()}
			p.Status.NotAlive[0].Since = metav1.NewMicroTime(p.Status.NotAlive[0].Since.Truncate(time.Microsecond))
			early, late := metav1.NewTime(now), metav1.NewTime(now.Add(time.Second))
			p.ManagedFields = []metav1.ManagedFieldsEntry{
				{Manager: "first", Subresource: "status", Time: &early}, {Manager: "rival", Subresource: "status", Time: &late},
				{Manager: string(failover.FieldOwner), Subresource: "status", Time: &late}, {Manager: "person", Time: &late},
			}
			c.change(&p.Status)
			by, yes := w.spoilt(p)
			if yes != c.spoilt || yes && by != "rival" {
				t.Errorf("spoilt %v, by %q", yes, by)
			}
		})
	}
}
