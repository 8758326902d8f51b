package explain

import (
	"fmt"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// words puts changes into sentences.
type words struct{ x Explanation }

// any: each of the changes is enough.
func (w words) any(state verdict.State, ways []change) string {
	return fmt.Sprintf("It would be %s if %s.", state, join(w.phrases(ways, " or "), ", if ", ", or if "))
}

// all: the changes together are enough.
func (w words) all(state verdict.State, set []change) string {
	return fmt.Sprintf("It would be %s if, for instance, %s.", state, join(w.phrases(set, " and "), ", ", ", and "))
}

// alive: the changes together make it well, some only when they last.
func (w words) alive(set []change, lasting bool) string {
	s := fmt.Sprintf("It will be Alive once %s", join(w.phrases(set, " and "), ", ", ", and "))
	if lasting {
		s += fmt.Sprintf(", for %v without a break", w.x.Policy.Recovery)
	}
	return s + "."
}

// trusted: time alone changes the state.
func (w words) trusted(at time.Time, state verdict.State) string {
	return fmt.Sprintf("It will be %s in %v if its observers go on as now.", state, at.Sub(w.x.World.Now).Round(100*time.Millisecond))
}

// standing is what nothing in the evidence would change.
func (w words) standing() []string {
	var l []string
	v, e := w.x.Verdict, w.x.Evidence
	if len(e.Assigned) == 0 {
		l = append(l, "No agent can observe it: one on another node must be running and online.")
	}
	if v.Reason == verdict.ReasonNeverAnswered {
		l = append(l, "It can't be Overloaded before this process has answered somebody.")
	}
	if e.Terminating {
		l = append(l, "Nothing is done about it any more: its pod is being deleted.")
	}
	return l
}

// phrases has one for each kind of change, with all observers of that kind.
func (w words) phrases(all []change, between string) []string {
	var l []string
	for _, k := range []kind{saysHung, saysRefused, saysOK, queueLate, clientsLeave, recordExpires, recordRenewed, queueInTime, clientsStay, podReady, podResumed} {
		var who []string
		some := false
		for _, c := range all {
			if c.kind == k {
				some = true
				who = append(who, c.observer)
			}
		}
		if some {
			l = append(l, w.phrase(k, who, between))
		}
	}
	return l
}

func (w words) phrase(k kind, who []string, between string) string {
	one := len(who) == 1 || between == " or "
	names := strings.Join(who, between)
	if n := len(who); n > 2 {
		names = strings.Join(who[:n-1], ", ") + between + who[n-1]
	}
	switch k {
	case saysHung:
		return fmt.Sprintf("%s got no answer for %v", names, verdict.HungAfter)
	case saysRefused:
		if one {
			return names + " was refused a connection"
		}
		return names + " were refused a connection"
	case saysOK:
		if one {
			return names + " gets answers in time"
		}
		return names + " get answers in time"
	case queueLate:
		return fmt.Sprintf("its own work queue were later than %v", w.x.Policy.AnswerTime)
	case clientsLeave:
		return fmt.Sprintf("%d clients had left it within seconds because its answers were late", leftLateLimit(&w.x.Evidence))
	case recordExpires:
		return "its record in etcd expired"
	case recordRenewed:
		return "its record in etcd is renewed"
	case queueInTime:
		return fmt.Sprintf("its own work queue is no later than %v", w.x.Policy.AnswerTime)
	case clientsStay:
		return "clients no longer leave it because its answers are late"
	case podReady:
		return "its pod is ready"
	default:
		return "it is no longer exempt by annotation"
	}
}

// join makes a list of phrases.
func join(l []string, between, last string) string {
	if len(l) < 2 {
		return strings.Join(l, "")
	}
	return strings.Join(l[:len(l)-1], between) + last + l[len(l)-1]
}
