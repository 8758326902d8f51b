package presence

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

func TestWhoLedSaysThatNothingIsKnownWhileEtcdIsAway(t *testing.T) {
	p := servers(verdict.Alive, verdict.Dead)
	known := Status(v1alpha1.PresenceStatus{}, world(), p)
	w := world()
	if _, say := blind(known, w, p); say {
		t.Error("it was said while etcd answers")
	}
	w.StoreAway = verdict.StoreAwayLimit
	s, say := blind(known, w, p)
	if !say || s.Reason != v1alpha1.ReasonStoreAway || !reflect.DeepEqual(s.Counts, known.Counts) || !reflect.DeepEqual(s.NotAlive, known.NotAlive) {
		t.Errorf("said: %v, %+v", say, s)
	}
	for kind, want := range map[string]metav1.ConditionStatus{
		v1alpha1.ConditionReady: metav1.ConditionFalse, v1alpha1.ConditionFrozen: metav1.ConditionTrue, v1alpha1.ConditionHealthy: metav1.ConditionFalse,
	} {
		if c := meta.FindStatusCondition(s.Conditions, kind); c == nil || c.Status != want {
			t.Errorf("%s is %+v, want %s", kind, c, want)
		}
	}
	if _, say := blind(s, w, p); say {
		t.Error("it was said again")
	}
	for name, spoil := range map[string]func(*judge.Population, *v1alpha1.PresenceStatus){
		"one that is refused":                func(p *judge.Population, _ *v1alpha1.PresenceStatus) { p.Refused = v1alpha1.ReasonForeign },
		"one of which nothing was ever said": func(_ *judge.Population, s *v1alpha1.PresenceStatus) { s.Conditions = nil },
	} {
		p, last := servers(verdict.Alive), *known.DeepCopy()
		spoil(p, &last)
		if _, say := blind(last, w, p); say {
			t.Error("it was said of " + name)
		}
	}
}
