package quarantine

import (
	"fmt"
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

// Observe looks at all pods. A pod that was told to go is elsewhere when its
// controller has another that is Ready on another node, and was made since.
func (e *Evacuation) Observe(now time.Time, pods []Pod) {
	for _, p := range pods {
		if p.Node == e.Node && p.Terminating {
			e.evicted[p.UID] = p
		}
	}
	instead := map[string]int{}
	for _, p := range pods {
		if p.Node != e.Node && p.Ready && !p.Terminating && !p.Created.Before(e.Since.Truncate(time.Second)) {
			instead[p.Owner]++
		}
	}
	left := make([]Pod, 0, len(e.evicted))
	for _, p := range e.evicted {
		left = append(left, p)
	}
	slices.SortFunc(left, func(a, b Pod) int { return strings.Compare(a.Name, b.Name) })
	elsewhere := 0
	e.waiting = e.waiting[:0]
	for _, p := range left {
		if instead[p.Owner] > 0 {
			instead[p.Owner]--
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
