package quarantine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// settle is how long after the taint more pods may still be told to go.
	settle = 2 * time.Second
	// named is how many of the pods that wait are called by name.
	named = 3
)

// Pod is one that some controller keeps: a bare pod and one of a DaemonSet come
// back nowhere else.
type Pod struct {
	UID, Name string // "namespace/name"
	// Owner is its controller's UID, OwnerKind that one's kind.
	Owner, OwnerKind string
	Node             string
	Ready            bool
	// Terminating: it has been told to go.
	Terminating bool
	// Created is when, by the API server's clock, to the second.
	Created time.Time
}

// Evacuation is how far the pods of one tainted node have come.
type Evacuation struct {
	Node string
	// Since is when the taint was put on.
	Since time.Time

	// evicted are the pods that were told to go, also those that are gone by now.
	evicted   map[string]Pod
	elsewhere int
	waiting   []string
	// reached is when the last change of elsewhere was seen.
	reached time.Time
}

// NewEvacuation begins to watch a node that was tainted then.
func NewEvacuation(node string, since time.Time) *Evacuation {
	return &Evacuation{Node: node, Since: since, evicted: map[string]Pod{}}
}

// Observe looks at all pods, for all evacuations that are under way. A pod that was
// told to go is elsewhere when its controller has another that is Ready on another
// node, and was made since. Each such pod stands for one, of the node that was
// tainted first; and it goes on to when it is told to go itself, for then another
// is waited for in its own place.
func Observe(now time.Time, all []*Evacuation, pods []Pod) {
	instead := map[string][]Pod{} // by owner
	for _, p := range pods {
		if p.Ready && !p.Terminating {
			instead[p.Owner] = append(instead[p.Owner], p)
		}
	}
	for _, e := range all {
		for _, p := range pods {
			if p.Node == e.Node && p.Terminating {
				e.evicted[p.UID] = p
			}
		}
		for _, p := range e.evicted {
			instead[p.Owner] = append(instead[p.Owner], p)
		}
	}
	for _, made := range instead {
		slices.SortFunc(made, func(a, b Pod) int { return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.UID, b.UID)) })
	}
	oldest := func(a, b *Evacuation) int { return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Node, b.Node)) }
	for _, e := range slices.SortedFunc(slices.Values(all), oldest) {
		e.tally(now, instead)
	}
}

// tally takes the pods that stand for those of this node.
func (e *Evacuation) tally(now time.Time, instead map[string][]Pod) {
	left := slices.SortedFunc(maps.Values(e.evicted), func(a, b Pod) int { return strings.Compare(a.Name, b.Name) })
	elsewhere := 0
	e.waiting = e.waiting[:0]
	for _, p := range left {
		i := slices.IndexFunc(instead[p.Owner], func(other Pod) bool {
			return other.Node != e.Node && !other.Created.Before(e.Since.Truncate(time.Second))
		})
		if i >= 0 {
			instead[p.Owner] = slices.Delete(instead[p.Owner], i, i+1)
			elsewhere++
			continue
		}
		e.waiting = append(e.waiting, fmt.Sprintf("%s (%s)", p.Name, p.OwnerKind))
	}
	if elsewhere != e.elsewhere {
		e.elsewhere, e.reached = elsewhere, now
	}
}

// Pods is how many were told to go.
func (e *Evacuation) Pods() int { return len(e.evicted) }

// Elsewhere is how many of them are made anew.
func (e *Evacuation) Elsewhere() int { return e.elsewhere }

// Took is how long it took from the taint until all were elsewhere; false: they
// are not, or more may yet be told to go.
func (e *Evacuation) Took(now time.Time) (time.Duration, bool) {
	if len(e.evicted) == 0 || e.elsewhere < len(e.evicted) || now.Sub(e.Since) < settle {
		return 0, false
	}
	return e.reached.Sub(e.Since), true
}

// Message words who is still waited for; empty: nobody.
func (e *Evacuation) Message() string {
	if len(e.waiting) == 0 {
		return ""
	}
	first := e.waiting[:min(len(e.waiting), named)]
	more := ""
	if n := len(e.waiting) - len(first); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	text := "Not yet elsewhere: " + strings.Join(first, ", ") + more + "."
	if slices.ContainsFunc(e.waiting, func(s string) bool { return strings.HasSuffix(s, "(StatefulSet)") }) {
		text += " A StatefulSet's pod is made anew only when the old one is gone: fence the node, then taint it node.kubernetes.io/out-of-service."
	}
	return text
}
