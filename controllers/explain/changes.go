package explain

import (
	"slices"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// change is one thing that could be otherwise.
type change struct {
	kind kind
	// observer is whose word changes, where kind is of an observer.
	observer string
	apply    func(*verdict.ServerEvidence)
}

// kind is what changes; words has a phrase for each.
type kind int

const (
	saysHung kind = iota
	saysRefused
	saysOK
	queueLate
	clientsLeave
	recordExpires
	recordRenewed
	queueInTime
	clientsStay
	podReady
	podResumed
)

// changes says what would change a verdict. It asks internal/verdict itself
// about evidence that could be, so that it can't disagree with the rules.
func changes(x Explanation) []string {
	var l []string
	w := words{x}
	if !x.Verdict.Recovering.IsZero() {
		at := x.Verdict.Recovering.Add(x.Policy.Recovery)
		l = append(l, w.trusted(at, x.judge(x.Evidence, at, x.Verdict).State))
	}
	for _, target := range []verdict.State{verdict.Overloaded, verdict.Dead} {
		if target == x.Verdict.State || x.Verdict.State == verdict.Dead {
			continue
		}
		reached := func(all []change) bool { return x.judge(x.with(all), x.World.Now, x.Verdict).State == target }
		if ways := singles(x.worse(target), reached); len(ways) > 0 {
			l = append(l, w.any(target, ways))
		} else if set := smallest(x.worse(target), reached); len(set) > 0 {
			l = append(l, w.all(target, set))
		}
	}
	if x.Verdict.State != verdict.Alive && x.Verdict.Recovering.IsZero() {
		at := x.World.Now.Add(x.Policy.Recovery)
		last := func(all []change) (now, later verdict.State) {
			e := x.with(all)
			first := x.judge(e, x.World.Now, x.Verdict)
			return first.State, x.judge(e, at, first).State
		}
		set := smallest(x.better(), func(all []change) bool { _, s := last(all); return s == verdict.Alive })
		if len(set) > 0 {
			now, _ := last(set)
			l = append(l, w.alive(set, now != verdict.Alive))
		}
	}
	return append(l, w.standing()...)
}

// judge judges the server alone on other evidence, at another time.
func (x Explanation) judge(e verdict.ServerEvidence, at time.Time, last verdict.Verdict) verdict.Verdict {
	w := x.World
	w.Now = at
	j := verdict.Servers(w, x.Policy, []verdict.ServerEvidence{e}, map[string]verdict.Verdict{e.Name: last}, x.Brake)
	return j.Verdicts[e.Name]
}

// with is the evidence after so many changes.
func (x Explanation) with(all []change) verdict.ServerEvidence {
	e := x.Evidence
	e.Observations = slices.Clone(e.Observations)
	for _, c := range all {
		c.apply(&e)
	}
	return e
}

// worse are the changes that speak for a bad state.
func (x Explanation) worse(target verdict.State) []change {
	var l []change
	kind, band := saysHung, wire.BandHung
	if target == verdict.Dead {
		kind, band = saysRefused, wire.BandRefused
	}
	for _, o := range x.Evidence.Assigned {
		l = append(l, x.says(o, kind, band))
	}
	if target == verdict.Overloaded {
		l = append(l,
			change{kind: queueLate, apply: func(e *verdict.ServerEvidence) { e.QueueDelay = x.Policy.AnswerTime + time.Millisecond }},
			change{kind: clientsLeave, apply: func(e *verdict.ServerEvidence) { e.LeftLate = leftLateLimit(e) }},
		)
	}
	return append(l, change{kind: recordExpires, apply: func(e *verdict.ServerEvidence) { e.Lease = verdict.LeaseGone }})
}

// better are all changes that speak for a server that is well.
func (x Explanation) better() []change {
	l := []change{
		{kind: recordRenewed, apply: func(e *verdict.ServerEvidence) { e.Lease = verdict.LeaseLive }},
		{kind: queueInTime, apply: func(e *verdict.ServerEvidence) {
			e.QueueDelay = 0
			for i := range e.Observations {
				e.Observations[i].QueueDelay = 0
			}
		}},
		{kind: clientsStay, apply: func(e *verdict.ServerEvidence) { e.LeftLate = 0 }},
		{kind: podReady, apply: func(e *verdict.ServerEvidence) { e.Starting = false }},
		{kind: podResumed, apply: func(e *verdict.ServerEvidence) { e.Paused = false }},
	}
	for _, o := range x.Evidence.Assigned {
		l = append(l, x.says(o, saysOK, wire.BandOK))
	}
	return l
}

// says is one observer that says something else from now on, and is well.
func (x Explanation) says(who verdict.Observer, kind kind, band wire.Band) change {
	return change{kind: kind, observer: who.Name, apply: func(e *verdict.ServerEvidence) {
		said := verdict.Observation{
			Observer: who, Band: string(band), Seen: x.World.Now, Incarnation: e.Incarnation, Healthy: true, Online: true,
		}
		for i := range e.Observations {
			if e.Observations[i].Observer.Name != who.Name {
				continue
			}
			if o := &e.Observations[i]; ignored(o, e) == "" && o.Band == string(band) {
				return // it says so already, and has for longer
			}
			e.Observations[i] = said
			return
		}
		e.Observations = append(e.Observations, said)
	}}
}

// singles are the changes that reach a goal alone.
func singles(all []change, reached func([]change) bool) []change {
	if reached(nil) {
		return nil
	}
	var ways []change
	for _, c := range all {
		if reached([]change{c}) {
			ways = append(ways, c)
		}
	}
	return ways
}

// smallest is a set of changes that reaches a goal, and of which none can be
// left out; nil: not even all of them reach it, or none is needed. There may be
// others.
func smallest(all []change, reached func([]change) bool) []change {
	if !reached(all) {
		return nil
	}
	set := slices.Clone(all)
	for i := len(set) - 1; i >= 0; i-- {
		if less := slices.Delete(slices.Clone(set), i, i+1); reached(less) {
			set = less
		}
	}
	return set
}
