// Package quarantine decides which dead nodes are tainted, so that their pods are
// made anew elsewhere, and when a taint is taken off again; and it counts how far
// those pods have come. It is pure, like internal/verdict.
//
// Where the rules leave a choice, it is the one that does less:
//
//   - While the brake is on nothing is put on and nothing is taken off.
//   - Only a Dead verdict that the evidence at hand proves puts a taint on. One
//     that merely stands keeps what is there.
//   - Only a sign of life takes it off (Alive, Isolated, AgentDown, Left), or the
//     end of the policy that put it on. A leader that does not know yet does neither.
//   - What another hand has put on is never taken off, and counts as there.
//   - Never more nodes than the brake lets be lost, whatever verdicts say.
package quarantine

import (
	"slices"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// Node is all that is known of one node at one moment.
type Node struct {
	Name    string
	Verdict verdict.Verdict
	// Wanted: a policy says that it is to be tainted when it is dead.
	Wanted bool
	// Exempt: a person has asked that nothing be done about it.
	Exempt bool
	// Tainted: it carries the taint. Ours: by this installation's hand. Claimed: it is
	// said to be by that, be it there or not.
	Tainted, Ours, Claimed bool
}

// Decision is what is to be done now.
type Decision struct {
	// Put is the nodes to taint, Take those to take the taint off, by name.
	Put, Take []string
	// Disown is the nodes that are said to be tainted by this installation, and are
	// not: what is put on next by another hand would pass for ours.
	Disown []string
	// Held are dead nodes that would be tainted, were there not too many.
	Held []string
}

// Limit is how many of so many nodes may be tainted at once: as many as the brake
// lets be lost.
func Limit(nodes int) int { return max(1, verdict.LostShare*nodes/100) }

// Decide looks at all nodes of the cluster.
func Decide(nodes []Node, brake verdict.Brake) Decision {
	var d Decision
	if brake.Frozen {
		return d
	}
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	out := 0
	for _, n := range nodes {
		switch {
		case !n.Tainted:
		case n.Ours && !n.Exempt && (!n.Wanted || lives(n.Verdict.State)):
			d.Take = append(d.Take, n.Name)
		default:
			out++
		}
	}
	for _, n := range nodes {
		switch {
		case n.Tainted || n.Exempt || !n.Wanted || n.Verdict.State != verdict.Dead || !n.Verdict.Proven:
		case out >= Limit(len(nodes)):
			d.Held = append(d.Held, n.Name)
		default:
			out++
			d.Put = append(d.Put, n.Name)
			continue // and is claimed rightly then
		}
		if n.Claimed && !n.Ours && !n.Exempt {
			d.Disown = append(d.Disown, n.Name)
		}
	}
	return d
}

// lives tells whether a state is one that only a machine that lives can be in, or
// one that has left on purpose.
func lives(s verdict.State) bool {
	return s == verdict.Alive || s == verdict.Isolated || s == verdict.AgentDown || s == verdict.Left
}
