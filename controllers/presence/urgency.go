package presence

import (
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

const (
	// lazily is how often a status is written in which only counts or words
	// have changed a little.
	lazily = 30 * time.Second
	// promptly is how often, where counts have changed by a share of 1/notable
	// or more.
	promptly = time.Second
	notable  = 100
)

// due is how long a status should wait after the last write before it is
// written; never: it says nothing new.
func due(old, new v1alpha1.PresenceStatus) (after time.Duration, never bool) {
	switch {
	case equality.Semantic.DeepEqual(old, new):
		return 0, true
	case news(old, new):
		return 0, false
	case moved(old.Counts.Members, new.Counts.Members, new.Counts.Members) ||
		moved(old.Counts.Alive, new.Counts.Alive, new.Counts.Members) ||
		moved(old.Counts.Suspect, new.Counts.Suspect, new.Counts.Members):
		return promptly, false
	default:
		return lazily, false
	}
}

// news tells whether a verdict or a condition differs.
func news(old, new v1alpha1.PresenceStatus) bool {
	if old.ObservedGeneration != new.ObservedGeneration || old.Mode != new.Mode || old.Reason != new.Reason ||
		len(old.Conditions) != len(new.Conditions) || len(old.NotAlive) != len(new.NotAlive) {
		return true
	}
	for i, m := range new.NotAlive {
		if was := old.NotAlive[i]; was.Name != m.Name || was.State != m.State {
			return true
		}
	}
	for _, c := range new.Conditions {
		was := meta.FindStatusCondition(old.Conditions, c.Type)
		if was == nil || was.Status != c.Status || was.Reason != c.Reason {
			return true
		}
	}
	// A population of a few members, all of whom are judged: every one counts.
	return new.Subject != v1alpha1.SubjectClients && old.Counts.Members != new.Counts.Members
}

func moved(old, new, all int32) bool {
	d := new - old
	if d < 0 {
		d = -d
	}
	return d > 0 && d*notable >= all
}
