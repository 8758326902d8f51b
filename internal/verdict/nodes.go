package verdict

import (
	"fmt"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Nodes judges all nodes. prev and prevBrake are the outcome of the last
// judgement; nil and zero at the first.
func Nodes(w World, ev []NodeEvidence, prev map[string]Verdict, prevBrake Brake) Judgement {
	j := Judgement{Verdicts: make(map[string]Verdict, len(ev))}
	c := census{what: "nodes"}
	judge := nodeJudge{w: w}
	for i := range ev {
		e := &ev[i]
		last, known := prev[e.Name]
		v := judge.judge(e, last, known)
		j.Verdicts[e.Name] = v
		if !v.Recovering.IsZero() {
			j.Next = earliest(j.Next, v.Recovering.Add(NodeRecovery))
		}
		j.Next = earliest(j.Next, judge.grown)
		if v.State == Left {
			continue
		}
		c.total++
		if v.State == Dead {
			c.lose(e.Name)
		}
	}
	brake, next := w.brake(prevBrake, &c)
	j.Brake, j.Next = brake, earliest(j.Next, next)
	return j
}

// nodeJudge judges one node after the other; the rest is of the last one.
type nodeJudge struct {
	w     World
	beats beats
	// The words that count, by what they say.
	alive, suspect, dead, down, left []voice
	// zoned: two zones have a live reporter, so that two zones must agree.
	zoned     bool
	reporters int
	grown     time.Time // when the first of those that are too young will count
}

// beats is what servers that are Alive say of an agent's sessions. What the
// others say counts for nothing: a session that is lost with its server is no
// sign of the agent's death, and one that a hung server still holds none of life.
//
// But that sessions have ended counts, beside two reporters, where servers say so
// that are merely Suspect, if none of those still holds one: they run, or could not
// say it, and a node that falls silent has every server busy with those who come from
// the one that was on it.
type beats struct {
	online, offline int
	held, ended     int       // what servers that are Suspect say
	stopped         time.Time // the first that stopped
}

func (b beats) arrive() bool { return b.online > 0 }
func (b beats) gone() bool   { return b.online == 0 && b.offline > 0 }
func (b beats) over() bool   { return b.gone() || b.online+b.held == 0 && b.ended > 0 }

func (j *nodeJudge) judge(e *NodeEvidence, last Verdict, known bool) Verdict {
	j.count(e)
	v := j.evident(e)
	switch {
	case last.State != Dead || v.State == Dead || v.State == Left || v.State == AgentDown:
		// As the evidence has it. AgentDown is proof that the machine lives.
	case v.State == Alive || v.State == Isolated || v.State == Silent && len(j.alive) > 0:
		since := last.Recovering
		if since.IsZero() {
			since = j.w.Now
		}
		if j.w.Now.Before(since.Add(NodeRecovery)) {
			v = Verdict{State: Dead, Recovering: since, Reason: ReasonRecovering,
				Message: fmt.Sprintf("It shows life again (%s); it is trusted after %v of that", v.Message, NodeRecovery)}
		}
	case v.Reason == ReasonNobodyWatches || v.Reason == ReasonBeatsLost:
		v = Verdict{State: Dead, Reason: ReasonNobodyWatches,
			Message: "It was Dead when last seen, and no reporter counts now: nothing is done anew until one does"}
	default:
		v = Verdict{State: Dead, Reason: ReasonNotRecovered, Message: "It was Dead, and has not recovered: " + v.Message}
	}

	v.Detected = j.detected(v.State, last)
	v.Since = j.w.Now
	if known && v.State == last.State {
		v.Since = last.Since
	}
	return v
}

func (j *nodeJudge) count(e *NodeEvidence) {
	j.beats = beats{}
	for _, b := range e.Beats {
		switch {
		case b.ServerState == Alive && b.Online:
			j.beats.online++
		case b.ServerState == Alive:
			j.beats.offline++
			j.beats.stopped = earliest(j.beats.stopped, b.Seen)
		case b.ServerState == Suspect && b.Online:
			j.beats.held++
		case b.ServerState == Suspect:
			j.beats.ended++
			j.beats.stopped = earliest(j.beats.stopped, b.Seen)
		}
	}

	j.alive, j.suspect, j.dead, j.down, j.left = j.alive[:0], j.suspect[:0], j.dead[:0], j.down[:0], j.left[:0]
	j.reporters = len(e.Reporters)
	j.zoned, j.grown = false, time.Time{}
	var live *Observer
	for i := range e.Reporters {
		r := &e.Reporters[i]
		word := reporterWord(r.Name, e)
		if word != nil && !word.Online {
			continue
		}
		if live == nil {
			live = r
		} else if r.Zone != live.Zone {
			j.zoned = true
		}
		if word == nil || !word.Healthy {
			continue
		}
		if young(j.w.Now, word.Booted) {
			j.grown = earliest(j.grown, word.Booted.Add(AuthorWindow))
			continue
		}
		said := voice{Observer: *r, seen: word.Seen}
		switch wire.NodeWord(word.Says) {
		case wire.NodeAlive:
			j.alive = append(j.alive, said)
		case wire.NodeSuspect:
			j.suspect = append(j.suspect, said)
		case wire.NodeDead:
			j.dead = append(j.dead, said)
		case wire.NodeAgentDown:
			j.down = append(j.down, said)
		case wire.NodeLeft:
			j.left = append(j.left, said)
		}
	}
}

func reporterWord(name string, e *NodeEvidence) *Word {
	for i := range e.Words {
		if e.Words[i].Reporter.Name == name {
			return &e.Words[i]
		}
	}
	return nil
}

// evident is the verdict that the evidence at hand makes, without a memory.
func (j *nodeJudge) evident(e *NodeEvidence) Verdict {
	beating, stopped := j.beats.arrive(), j.beats.gone()
	lost := len(j.dead)+len(j.down) > 0
	lives := len(j.alive) > 0
	say := func(s State, reason, message string) Verdict {
		return Verdict{State: s, Reason: reason, Message: message}
	}

	switch {
	case e.Deleted:
		return say(Left, ReasonDeleted, "Its Node object is gone")
	case e.Goodbye && !beating:
		return say(Left, ReasonGoodbye, "Its agent said goodbye")
	case len(j.left) > 0 && !beating && !lives && !lost:
		return say(Left, ReasonGoodbye, j.gossip())

	case beating && lost && !lives && independent(j.zoned, j.dead, j.down):
		return say(Isolated, ReasonGossipLost, j.tells()+j.failed("nodes'", "pods'"))
	case beating && lost:
		return j.suspicion()
	case beating:
		return say(Alive, ReasonBeating, "Its beats arrive")

	case lives && lost:
		return j.suspicion()
	case lives && stopped:
		return say(Silent, ReasonBeatsLost, j.tells()+j.failed("pods'", "nodes'"))
	case lives:
		return say(Alive, ReasonGossiping, j.tells())

	// Whatever else is said, a machine that answers TCP is not dead.
	case len(j.down) > 0:
		return say(AgentDown, ReasonMachineAnswers, j.tells())
	case j.beats.over() && independent(j.zoned, j.dead):
		v := say(Dead, ReasonNothingAnswers, j.tells())
		v.Proven, v.Witnesses = true, append([]string{"beats"}, names(j.dead)...)
		return v
	case lost || len(j.suspect) > 0:
		return j.suspicion()
	case stopped:
		return say(Silent, ReasonBeatsLost, j.tells())
	}
	return say(Unknown, ReasonNobodyWatches, j.tells())
}

// failed names the network that only one kind of evidence goes by.
func (j *nodeJudge) failed(network, other string) string {
	if !j.w.Apart {
		return ""
	}
	return fmt.Sprintf(": the %s network has failed there, and the %s has not", network, other)
}

func (j *nodeJudge) suspicion() Verdict {
	return Verdict{State: Suspect, Reason: ReasonFewWitnesses, Witnesses: names(j.dead, j.down, j.suspect),
		Message: j.tells() + "; that is not enough for a verdict"}
}

// tells words beats and gossip.
func (j *nodeJudge) tells() string {
	b := "Nothing is known of its beats"
	switch {
	case j.beats.arrive():
		b = "Its beats arrive"
	case j.beats.gone():
		b = "Its beats stopped"
	case j.beats.over():
		b = "Its beats stopped, say servers that are Suspect themselves"
	}
	return b + "; " + j.gossip()
}

// gossip words what the reporters say.
func (j *nodeJudge) gossip() string {
	var l []string
	add := func(g []voice, one, many string) {
		if len(g) > 0 {
			l = append(l, share(g, j.reporters, "reporters", one, many))
		}
	}
	add(j.dead, "finds that nothing there answers: no gossip, no ping, no TCP", "find that nothing there answers: no gossip, no ping, no TCP")
	add(j.down, "finds that the machine answers TCP and its agent does not", "find that the machine answers TCP and its agent does not")
	add(j.left, "heard it say goodbye", "heard it say goodbye")
	add(j.suspect, "suspects it", "suspect it")
	if len(j.alive) > 0 {
		l = append(l, fmt.Sprintf("%d of %d reporters hear its gossip", len(j.alive), j.reporters))
	}
	if len(l) == 0 {
		return fmt.Sprintf("none of its %d reporters says anything that counts", j.reporters)
	}
	return strings.Join(l, "; ")
}

// detected is when the first evidence of the present trouble was seen.
func (j *nodeJudge) detected(s State, last Verdict) time.Time {
	if s == Alive || s == Left || s == Unknown {
		return time.Time{}
	}
	if !last.Detected.IsZero() {
		return last.Detected
	}
	seen := firstSeen(j.dead, j.down, j.suspect)
	if j.beats.over() {
		seen = earliest(seen, j.beats.stopped)
	}
	if seen.IsZero() {
		return j.w.Now
	}
	return seen
}
