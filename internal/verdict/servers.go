package verdict

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Servers judges all servers of one Presence. prev and prevBrake are the
// outcome of the last judgement; nil and zero at the first.
//
// Each server's verdict follows from its own evidence and its own last verdict,
// and from whether most servers are strained; the brake follows from all of them. Judging again at the same moment, with
// the outcome as prev, changes nothing.
func Servers(w World, p ServerPolicy, ev []ServerEvidence, prev map[string]Verdict, prevBrake Brake) Judgement {
	if p.AnswerTime <= 0 {
		p.AnswerTime = DefaultAnswerTime
	}
	if p.Recovery <= 0 {
		p.Recovery = DefaultRecovery
	}
	if p.Observers <= 0 {
		p.Observers = DefaultObservers
	}
	if p.MinHealthy == nil {
		p.MinHealthy = func(total int) int { return (total + 1) / 2 }
	}

	j := Judgement{Verdicts: make(map[string]Verdict, len(ev))}
	c := census{what: "servers"}
	judge := serverJudge{w: w, p: p, leases: w.storeTrusted(), common: common(w.Now, ev)}
	for i := range ev {
		e := &ev[i]
		last, known := prev[e.Name]
		v := judge.judge(e, last, known)
		j.Verdicts[e.Name] = v
		if agents(e.Assigned) < p.Observers {
			j.FewObservers = append(j.FewObservers, e.Name)
		}
		if until := v.Recovering.Add(p.Recovery); !v.Recovering.IsZero() {
			j.Next = earliest(j.Next, until)
		}
		j.Next = earliest(earliest(j.Next, v.Suppressed), judge.grown)
		if e.Starting || e.Terminating {
			continue // on its way in or out: neither a loss nor a reserve
		}
		c.total++
		if v.State.Bad() || v.Held.Bad() {
			c.lose(e.Name)
		} else if v.State == Alive || v.State == Suspect && len(judge.ok) >= judge.quorum() {
			c.healthy++
		}
	}
	slices.Sort(j.FewObservers)

	c.minHealthy = p.MinHealthy(c.total)
	brake, next := w.brake(prevBrake, &c)
	j.Brake, j.Next = brake, earliest(j.Next, next)
	return j
}

// common tells whether most servers are strained.
func common(now time.Time, ev []ServerEvidence) bool {
	strained := 0
	for i := range ev {
		if ev[i].Kernel.strained(now) {
			strained++
		}
	}
	return strained > 1 && 2*strained > len(ev)
}

// serverJudge judges one server after the other; votes are those of the last.
type serverJudge struct {
	w      World
	p      ServerPolicy
	leases bool // whether the store can be trusted about leases
	common bool // whether most servers are strained: that is the load's doing
	votes
}

func (j *serverJudge) judge(e *ServerEvidence, last Verdict, known bool) Verdict {
	j.count(j.w.Now, e)
	if k := e.Kernel; k.Online && k.Healthy && young(j.w.Now, k.Booted) {
		j.grown = earliest(j.grown, k.Booted.Add(AuthorWindow))
	}
	v := Verdict{Incarnation: e.Incarnation}
	if v.Incarnation == "" {
		v.Incarnation = last.Incarnation
	}
	if v.Incarnation == "" && !j.w.Warm {
		v.Incarnation = e.Past.Incarnation
	}
	v.Answered = len(j.ok) > 0 || j.answered(e, v.Incarnation, last, known)

	was := last.State // before any exemption
	if last.Held != "" {
		was = last.Held
	}
	if !j.proven(&v, e) {
		if !was.Bad() || j.recovered(&v, was, last) {
			j.unproven(&v, e)
		}
	}
	j.exempt(&v, e, was)
	v.flap(j.w, was, last, e.Past)

	v.Detected = j.detected(&v, last)
	v.Since = j.w.Now
	if known && v.State == last.State {
		v.Since = last.Since
	}
	return v
}

// answered tells whether this incarnation counts as one that has answered
// before. A judge without a memory, that warms up, takes the first words as
// they are, since it can't know what was before it; it may act only once it is
// warm. A server that it first meets later must answer first, as must every
// new incarnation.
func (j *serverJudge) answered(e *ServerEvidence, incarnation string, last Verdict, known bool) bool {
	if e.Service && slices.ContainsFunc(e.Observations, func(o Observation) bool { return o.Answered }) {
		return true
	}
	if !known {
		return !j.w.Warm && !e.Starting && !e.Service
	}
	same := last.Incarnation == "" || last.Incarnation == incarnation
	return same && last.Answered
}

// proven fills in Overloaded or Dead where the evidence at hand is enough for it.
func (j *serverJudge) proven(v *Verdict, e *ServerEvidence) bool {
	leaseGone := j.leases && e.Lease == LeaseGone
	gone := leaseGone || e.NodeState == Dead
	say := func(state State, reason string, second string, groups ...[]voice) bool {
		v.State, v.Reason, v.Proven = state, reason, true
		v.Witnesses = names(groups...)
		v.Message = j.complaint(j.p.AnswerTime)
		if second != "" {
			v.Witnesses = append(v.Witnesses, second)
			v.Message += "; " + j.words(second, e)
		}
		if state == Overloaded && second != witnessStrain && e.Kernel.strained(j.w.Now) {
			v.Message += "; " + j.words(witnessStrain, e) // it may be why
		}
		return true
	}
	second := func() string {
		if leaseGone {
			return witnessLease
		}
		return witnessNode
	}

	// A refusal is certain in itself. Where the majority is of one domain (or one
	// observer), something else must say so too.
	if len(j.refused) >= j.quorum() {
		if independent(j.zoned, j.refused) {
			return say(Dead, ReasonRefused, "", j.refused)
		}
		if gone {
			return say(Dead, ReasonRefused, second(), j.refused)
		}
		if enough(e.LeftBroken, e) {
			return say(Dead, ReasonRefused, witnessBroken, j.refused)
		}
	}

	// The kernel's word is a second witness, but not against most observers: who is
	// answered, or even accepted, stands against it. Who can't even connect while
	// nobody is accepted any more waits for the server, too.
	kernel := e.Kernel.hung(j.w.Now) && len(j.ok) < j.quorum()
	if kernel && e.Kernel.Band == string(wire.BandQueueFull) && len(j.unreachable) > 0 && v.Answered {
		return say(Overloaded, ReasonNotAnswering, witnessKernel, j.hung, j.slow, j.unreachable)
	}

	if late := j.late(); late > 0 && v.Answered {
		reason := ReasonAnswersLate
		if len(j.hung) > 0 {
			reason = ReasonNotAnswering
		}
		if late >= j.quorum() && independent(j.zoned, j.hung, j.slow) {
			return say(Overloaded, reason, "", j.hung, j.slow)
		}
		switch {
		case kernel:
			return say(Overloaded, reason, witnessKernel, j.hung, j.slow)
		case !j.common && e.Kernel.strained(j.w.Now) && j.prompt(j.p.AnswerTime) < j.quorum():
			// Who runs a little, and then not for a while, answers some in time: whoever
			// still says ok has seen it slow down.
			return say(Overloaded, reason, witnessStrain, j.hung, j.slow)
		case j.queueDelay > j.p.AnswerTime:
			return say(Overloaded, reason, witnessVitals, j.hung, j.slow)
		case enough(e.LeftLate, e):
			return say(Overloaded, reason, witnessClients, j.hung, j.slow)
		case leaseGone && len(j.ok) < j.quorum():
			// A server that is merely cut off from etcd still answers most.
			return say(Overloaded, reason, witnessLease, j.hung, j.slow)
		}
	}

	// Silence may be the network's. It takes more than observers, and nobody
	// whom the server, or its kernel, still answers.
	if len(j.unreachable)+len(j.refused) >= j.quorum() && len(j.unreachable) > 0 && gone && len(j.ok) == 0 && j.late() == 0 {
		return say(Dead, ReasonUnreachable, second(), j.unreachable, j.refused)
	}
	return false
}

// The second kinds of evidence, as Witnesses names them.
const (
	witnessKernel  = "kernel"
	witnessStrain  = "cgroup"
	witnessVitals  = "vitals"
	witnessClients = "clients"
	witnessBroken  = "clients' connections"
	witnessLease   = "lease"
	witnessNode    = "node"
)

func (j *serverJudge) words(witness string, e *ServerEvidence) string {
	switch witness {
	case witnessKernel:
		return "its kernel says that " + e.Kernel.Detail
	case witnessStrain:
		return "its pod was " + e.Kernel.StrainDetail
	case witnessVitals:
		return fmt.Sprintf("its own work queue is later than %v", j.p.AnswerTime)
	case witnessClients:
		return "clients leave it because its answers are late"
	case witnessBroken:
		return "clients come from it whose connection broke"
	case witnessLease:
		return "its record in etcd has expired"
	}
	return "its node " + e.Node + " is dead"
}

// enough tells whether so many clients of a server are worth a word.
func enough(clients int, e *ServerEvidence) bool {
	return clients >= max(LeftLateMin, (e.Sessions*LeftLateShare+99)/100)
}

// recovered decides about a server that was bad and is no longer proven to be:
// it stays so until a majority of the assigned has said ok, without a break,
// for the policy's Recovery. It tells whether that is so; if not, v is filled in.
func (j *serverJudge) recovered(v *Verdict, was State, last Verdict) bool {
	v.State = was
	switch {
	case len(j.ok) >= j.quorum():
		v.Recovering = last.Recovering
		if v.Recovering.IsZero() {
			v.Recovering = j.w.Now
		}
		v.Recovering = latest(v.Recovering, j.since(j.ok, j.quorum()))
		if !j.w.Now.Before(v.Recovering.Add(j.p.Recovery)) {
			v.Recovering = time.Time{}
			return true
		}
		v.Reason = ReasonRecovering
		v.Message = fmt.Sprintf("%d of %d observers get answers in time again; it is trusted after %v of that",
			len(j.ok), j.assigned, j.p.Recovery)
	case j.counted() == 0:
		v.Reason = ReasonNobodyWatches
		v.Message = fmt.Sprintf("It was %s when last seen, and no observer counts now: nothing is done anew until one does", was)
	default:
		v.Reason = ReasonNotRecovered
		v.Message = fmt.Sprintf("It was %s, and has not recovered: %d of %d observers get answers in time, and %d must, for %v",
			was, len(j.ok), j.assigned, j.quorum(), j.p.Recovery)
		if against := j.complaint(j.p.AnswerTime); against != "" {
			v.Message += "; " + against
		}
	}
	return false
}

// since is the moment from which n of the voices have said the same without a break.
func (j *serverJudge) since(g []voice, n int) time.Time {
	seen := make([]time.Time, len(g))
	for i := range g {
		seen[i] = g[i].seen
	}
	slices.SortFunc(seen, time.Time.Compare)
	return seen[n-1]
}

// unproven fills in Alive, Suspect or Unknown.
func (j *serverJudge) unproven(v *Verdict, e *ServerEvidence) {
	var signs []string
	if j.leases && e.Lease == LeaseGone {
		signs = append(signs, witnessLease)
	}
	if e.Kernel.hung(j.w.Now) {
		signs = append(signs, witnessKernel)
	}
	if j.against() > 0 && e.Kernel.strained(j.w.Now) {
		signs = append(signs, witnessStrain)
	}
	if j.queueDelay > j.p.AnswerTime {
		signs = append(signs, witnessVitals)
	}
	if enough(e.LeftLate, e) {
		signs = append(signs, witnessClients)
	}

	switch {
	case j.counted() == 0 && j.lossy > 0:
		v.State, v.Reason = Unknown, ReasonPathLossy
		v.Message = fmt.Sprintf("%d of %d observers lose packets on the way to it, and no other counts", j.lossy, j.assigned)
	case j.counted() == 0 && j.unasked > 0:
		v.State, v.Reason = Unknown, ReasonUnasked
		v.Message = fmt.Sprintf("%d of %d observers cannot ask it: %s", j.unasked, j.assigned, j.want)
	case j.counted() == 0:
		v.State, v.Reason = Unknown, ReasonNobodyWatches
		v.Message = fmt.Sprintf("None of its %d observers says anything that counts", j.assigned)
	case j.against() == 0 && len(signs) == 0:
		v.State, v.Reason = Alive, ReasonAnswering
		v.Message = fmt.Sprintf("%d of %d observers get answers in time", len(j.ok), j.assigned)
	default:
		v.State, v.Reason = Suspect, ReasonFewWitnesses
		v.Witnesses = append(names(j.hung, j.slow, j.refused, j.unreachable), signs...)
		said := make([]string, 0, len(signs)+2)
		if j.against() > 0 {
			said = append(said, j.complaint(j.p.AnswerTime))
		}
		for _, s := range signs {
			said = append(said, j.words(s, e))
		}
		if j.late() > 0 && !v.Answered {
			v.Reason = ReasonNeverAnswered
			said = append(said, "but it has not answered anybody since it started, so that this is not overload")
		} else {
			said = append(said, fmt.Sprintf("that is not enough for a verdict (%d of %d get answers in time)", len(j.ok), j.assigned))
		}
		v.Message = strings.Join(said, "; ")
	}
}

// exempt calls a server Suspect that is never acted on, and remembers what it
// would be called otherwise. A new pod that is refused until it listens has
// nothing to recover from, unless one of its name was bad before it.
func (j *serverJudge) exempt(v *Verdict, e *ServerEvidence, was State) {
	if !v.State.Bad() {
		return
	}
	var why string
	switch {
	case e.Terminating:
		v.Reason, why = ReasonTerminating, "Its pod is being deleted"
	case e.Starting:
		v.Reason, why = ReasonStarting, "Its pod has never been ready"
	case e.Paused:
		v.Reason, why = ReasonExempt, "It is exempt by annotation"
	default:
		return
	}
	if !e.Starting || was.Bad() {
		v.Held = v.State
	}
	v.State, v.Proven = Suspect, false
	v.Message = why + ", so nothing is done: " + v.Message
}

// detected is when the first evidence of the present trouble was seen.
func (j *serverJudge) detected(v *Verdict, last Verdict) time.Time {
	if v.State != Suspect && !v.State.Bad() {
		return time.Time{}
	}
	if !last.Detected.IsZero() && (v.State == last.State || !v.Proven) {
		return last.Detected
	}
	seen := firstSeen(j.hung, j.slow, j.refused, j.unreachable)
	if seen.IsZero() {
		seen = j.w.Now
	}
	if !last.Detected.IsZero() {
		seen = earliest(seen, last.Detected)
	}
	return seen
}
