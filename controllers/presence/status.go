package presence

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// maxMessage is the API's bound on a member's message, in characters.
const maxMessage = 1024

// Status says what was judged of a population, on top of what was said last.
// It is pure.
func Status(last v1alpha1.PresenceStatus, w verdict.World, p *judge.Population) v1alpha1.PresenceStatus {
	s := v1alpha1.PresenceStatus{
		ObservedGeneration: p.Presence.Generation,
		Subject:            p.Subject,
		Conditions:         slices.Clone(last.Conditions),
	}
	set := func(kind string, status metav1.ConditionStatus, reason, message string) {
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, Message: message,
			ObservedGeneration: p.Presence.Generation, LastTransitionTime: metav1.NewTime(w.Now),
		})
	}
	switch p.Subject {
	case v1alpha1.SubjectServers:
		s.Mode = string(p.Presence.Spec.Servers.Failover.Mode)
	case v1alpha1.SubjectNodes:
		s.Mode = string(p.Presence.Spec.Nodes.OnDead.Mode)
	}
	if p.Refused != "" {
		set(v1alpha1.ConditionAccepted, metav1.ConditionFalse, p.Refused, p.Why)
		set(v1alpha1.ConditionReady, metav1.ConditionFalse, p.Refused, p.Why)
		for _, kind := range []string{v1alpha1.ConditionHealthy, v1alpha1.ConditionFrozen, v1alpha1.ConditionFewObservers, v1alpha1.ConditionCalibrating, v1alpha1.ConditionKernelAsked, v1alpha1.ConditionDiverted} {
			meta.RemoveStatusCondition(&s.Conditions, kind)
		}
		s.Reason = p.Refused
		return s
	}
	set(v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonHonoured, "The spec is in force.")
	ready := true
	switch {
	case w.StoreAway >= verdict.StoreAwayLimit:
		ready = false
		set(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonStoreAway, "etcd does not answer.")
	case !w.Warm:
		ready = false
		set(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonWarmingUp, "The leader has not yet watched for long enough.")
	default:
		set(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonJudging, "Evidence comes in, and verdicts go out.")
	}
	frozen(p, set)
	observers(p, set)
	calibration(p, set)
	diverted(&s, p, set)
	if !ready && meta.FindStatusCondition(last.Conditions, v1alpha1.ConditionHealthy) != nil {
		// What was known last stands until more is.
		s.Counts, s.NotAlive, s.AdvisedIntervals = last.Counts, last.NotAlive, last.AdvisedIntervals
	} else {
		healthy(&s, p, set)
		kernels(&s, p.Kernels(), set)
	}
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionReady, v1alpha1.ConditionHealthy} {
		if c := meta.FindStatusCondition(s.Conditions, kind); c != nil && c.Status != metav1.ConditionTrue {
			s.Reason = c.Reason
			break
		}
	}
	return s
}

type setter = func(kind string, status metav1.ConditionStatus, reason, message string)

// frozen says whether the brake forbids every action, or there is no room for any.
func frozen(p *judge.Population, set setter) {
	brake := p.Judgement.Brake
	switch {
	case p.Subject == v1alpha1.SubjectClients:
		set(v1alpha1.ConditionFrozen, metav1.ConditionFalse, v1alpha1.ReasonNotFrozen, "Nothing is done about clients here: see the Presence of their servers.")
	case brake.Frozen:
		set(v1alpha1.ConditionFrozen, metav1.ConditionTrue, brake.Reason, brake.Message)
	case p.Decision.NoHeadroom:
		set(v1alpha1.ConditionFrozen, metav1.ConditionTrue, v1alpha1.ReasonNoHeadroom, p.Decision.Blocked)
	default:
		message := "Actions are allowed."
		if p.Decision.Blocked != "" {
			message += " Not done: " + p.Decision.Blocked
		}
		set(v1alpha1.ConditionFrozen, metav1.ConditionFalse, v1alpha1.ReasonNotFrozen, message)
	}
}

// observers says whether every server is watched by as many as it should be.
func observers(p *judge.Population, set setter) {
	if p.Subject != v1alpha1.SubjectServers {
		return
	}
	few := p.Judgement.FewObservers
	if len(few) == 0 {
		set(v1alpha1.ConditionFewObservers, metav1.ConditionFalse, v1alpha1.ReasonEnough, "Every server has the observers that it should.")
		return
	}
	set(v1alpha1.ConditionFewObservers, metav1.ConditionTrue, v1alpha1.ReasonFewNodes,
		fmt.Sprintf("Too few agents can observe %d of %d servers, %s among them.", len(few), len(p.Members), few[0]))
}

// calibration says whether the answer time fits what the servers usually take.
func calibration(p *judge.Population, set setter) {
	if p.Subject != v1alpha1.SubjectServers {
		return
	}
	c, limit := p.Calibration, p.Presence.Spec.Servers.Overload.AnswerTime.Duration
	usual := c.Usual.Round(100 * time.Microsecond)
	switch {
	case c.Usual == 0:
		set(v1alpha1.ConditionCalibrating, metav1.ConditionTrue, v1alpha1.ReasonMeasuring,
			fmt.Sprintf("How long healthy servers usually take to answer is known once they have taken about the same for %v.", verdict.CalibrateFor))
	case !c.Fits(limit):
		set(v1alpha1.ConditionCalibrating, metav1.ConditionTrue, v1alpha1.ReasonAnswerTimeTooShort,
			fmt.Sprintf("Healthy servers usually take up to %v to answer, more than half of servers.overload.answerTime, which is %v: set it to %v.", usual, limit, c.Suggest()))
	default:
		set(v1alpha1.ConditionCalibrating, metav1.ConditionFalse, v1alpha1.ReasonCalibrated,
			fmt.Sprintf("Healthy servers usually take up to %v to answer; servers.overload.answerTime is %v.", usual, limit))
	}
}

// order is that in which states give the reason of Healthy, and NotAlive is sorted.
var order = []verdict.State{
	verdict.Dead, verdict.Overloaded, verdict.Orphaned, verdict.Suspect,
	verdict.AgentDown, verdict.Isolated, verdict.Silent, verdict.Unknown,
}

// healthy fills the counts, the list and the condition Healthy.
func healthy(s *v1alpha1.PresenceStatus, p *judge.Population, set setter) {
	if p.Subject == v1alpha1.SubjectClients {
		c := p.Counts
		s.AdvisedIntervals = advisedIntervals(p.Advised)
		s.Counts = v1alpha1.PresenceCounts{
			Members: clamp(c.Online + c.Late + c.Orphaned), Alive: clamp(c.Online), Suspect: clamp(c.Late + c.Orphaned),
		}
		if c.Orphaned > 0 {
			set(v1alpha1.ConditionHealthy, metav1.ConditionFalse, v1alpha1.ReasonOrphaned,
				fmt.Sprintf("%d clients were on a server that does not answer, and have not reached another.", c.Orphaned))
			return
		}
		set(v1alpha1.ConditionHealthy, metav1.ConditionTrue, v1alpha1.ReasonAllAlive, "No client is orphaned.")
		return
	}
	in := map[verdict.State]int{}
	for _, name := range p.Members {
		v := p.Judgement.Verdicts[name]
		if v.State == "" {
			v.State = verdict.Unknown
		}
		if v.State == verdict.Left {
			continue // not a member any more
		}
		in[v.State]++
		s.Counts.Members++
		switch v.State {
		case verdict.Alive:
			s.Counts.Alive++
			continue
		case verdict.Overloaded:
		case verdict.Dead:
			s.Counts.Dead++
		default:
			s.Counts.Suspect++
		}
		if i := strings.IndexByte(name, '/'); i >= 0 {
			name = name[i+1:]
		}
		s.NotAlive = append(s.NotAlive, v1alpha1.MemberStatus{
			Name: name, State: string(v.State), Since: metav1.NewMicroTime(v.Since), Message: shorten(v.Message),
		})
	}
	if p.Subject == v1alpha1.SubjectServers {
		overloaded := int32(in[verdict.Overloaded])
		s.Counts.Overloaded = &overloaded
	}
	// The worst first, so that a cut takes the least.
	slices.SortStableFunc(s.NotAlive, func(a, b v1alpha1.MemberStatus) int {
		return slices.Index(order, verdict.State(a.State)) - slices.Index(order, verdict.State(b.State))
	})
	s.NotAlive = s.NotAlive[:min(len(s.NotAlive), v1alpha1.MaxNotAlive)]
	if s.Counts.Members == 0 {
		set(v1alpha1.ConditionHealthy, metav1.ConditionUnknown, v1alpha1.ReasonNoMembers, "Nothing is selected.")
		return
	}
	for _, state := range order {
		if in[state] == 0 {
			continue
		}
		status := metav1.ConditionFalse
		if state == verdict.Unknown {
			status = metav1.ConditionUnknown
		}
		set(v1alpha1.ConditionHealthy, status, string(state),
			fmt.Sprintf("%d of %d are %s.", in[state], s.Counts.Members, state))
		return
	}
	set(v1alpha1.ConditionHealthy, metav1.ConditionTrue, v1alpha1.ReasonAllAlive, "Every member is alive.")
}

// advisedIntervals are in the order of their networks' names.
func advisedIntervals(advised map[string]time.Duration) []v1alpha1.AdvisedInterval {
	var all []v1alpha1.AdvisedInterval
	for _, network := range slices.Sorted(maps.Keys(advised)) {
		if len(all) < v1alpha1.MaxAdvised {
			all = append(all, v1alpha1.AdvisedInterval{Network: network, Max: metav1.Duration{Duration: advised[network]}})
		}
	}
	return all
}

func clamp(n int) int32 { return int32(min(max(n, 0), math.MaxInt32)) }

func shorten(s string) string {
	if r := []rune(s); len(r) > maxMessage {
		return string(r[:maxMessage-1]) + "…"
	}
	return s
}
