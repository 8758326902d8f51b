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
// written; never: it says nothing now.
func due(old, now v1alpha1.PresenceStatus) (after time.Duration, never bool) {
	switch {
	case equality.Semantic.DeepEqual(old, now):
		return 0, true
	case news(old, now):
		return 0, false
	case moved(old.Counts.Members, now.Counts.Members, now.Counts.Members) ||
		moved(old.Counts.Alive, now.Counts.Alive, now.Counts.Members) ||
		moved(old.Counts.Suspect, now.Counts.Suspect, now.Counts.Members):
		return promptly, false
	default:
		return lazily, false
	}
}

// news tells whether a verdict or a condition differs.
func news(old, now v1alpha1.PresenceStatus) bool {
	if old.ObservedGeneration != now.ObservedGeneration || old.Mode != now.Mode || old.Reason != now.Reason ||
		len(old.Conditions) != len(now.Conditions) || len(old.NotAlive) != len(now.NotAlive) ||
		!equality.Semantic.DeepEqual(old.Evacuations, now.Evacuations) {
		return true
	}
	for i, m := range now.NotAlive {
		if was := old.NotAlive[i]; was.Name != m.Name || was.State != m.State {
			return true
		}
	}
	for _, c := range now.Conditions {
		was := meta.FindStatusCondition(old.Conditions, c.Type)
		if was == nil || was.Status != c.Status || was.Reason != c.Reason {
			return true
		}
	}
	// A population of a few members, all of whom are judged: every one counts.
	return now.Subject != v1alpha1.SubjectClients && old.Counts.Members != now.Counts.Members
}

func moved(old, now, all int32) bool {
	d := now - old
	if d < 0 {
		d = -d
	}
	return d > 0 && d*notable >= all
}
