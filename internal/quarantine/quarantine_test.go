package quarantine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

func dead(name string) Node {
	return Node{Name: name, Wanted: true, Verdict: verdict.Verdict{State: verdict.Dead, Proven: true}}
}

func tainted(name string, s verdict.State) Node {
	return Node{Name: name, Wanted: true, Tainted: true, Ours: true, Verdict: verdict.Verdict{State: s}}
}

// with changes one thing of a node.
func with(n Node, change func(*Node)) Node { change(&n); return n }

func TestWhichNodesAreTainted(t *testing.T) {
	frozen := verdict.Brake{Frozen: true, Reason: verdict.BrakeTooManyLost}
	for _, c := range []struct {
		name            string
		nodes           []Node
		brake           verdict.Brake
		put, take, held string
		disown          string
	}{
		{name: "a dead one", nodes: []Node{dead("a"), {Name: "b", Wanted: true, Verdict: verdict.Verdict{State: verdict.Alive}}}, put: "a"},
		{name: "not without a policy that wants it", nodes: []Node{with(dead("a"), func(n *Node) { n.Wanted = false })}},
		{name: "not on a verdict that only stands", nodes: []Node{with(dead("a"), func(n *Node) { n.Verdict.Proven = false })}},
		{name: "not what is exempt", nodes: []Node{with(dead("a"), func(n *Node) { n.Exempt = true })}},
		{name: "not twice", nodes: []Node{with(dead("a"), func(n *Node) { n.Tainted, n.Ours = true, true })}},
		{name: "not what another hand has tainted", nodes: []Node{with(dead("a"), func(n *Node) { n.Tainted = true })}},
		{name: "nothing under the brake", nodes: []Node{dead("a"), tainted("b", verdict.Alive)}, brake: frozen},
		{name: "no more than the brake lets be lost", nodes: []Node{dead("a"), dead("b"), dead("c")}, put: "a", held: "b c"},
		{name: "those that are tainted count", nodes: []Node{tainted("a", verdict.Dead), dead("b")}, held: "b"},
		{name: "those of another hand count too",
			nodes: []Node{with(tainted("a", verdict.Dead), func(n *Node) { n.Ours = false }), dead("b")}, held: "b"},
		{name: "one that is back makes room", nodes: []Node{tainted("a", verdict.Alive), dead("b")}, put: "b", take: "a"},
		{name: "off, when it is alive", nodes: []Node{tainted("a", verdict.Alive)}, take: "a"},
		{name: "off, when it beats", nodes: []Node{tainted("a", verdict.Isolated)}, take: "a"},
		{name: "off, when the machine answers", nodes: []Node{tainted("a", verdict.AgentDown)}, take: "a"},
		{name: "off, when it has left", nodes: []Node{tainted("a", verdict.Left)}, take: "a"},
		{name: "on, while nobody knows", nodes: []Node{tainted("a", verdict.Unknown)}},
		{name: "on, while it is suspect", nodes: []Node{tainted("a", verdict.Suspect)}},
		{name: "on, while it is silent", nodes: []Node{tainted("a", verdict.Silent)}},
		{name: "off, when the policy is withdrawn", nodes: []Node{with(tainted("a", verdict.Dead), func(n *Node) { n.Wanted = false })}, take: "a"},
		{name: "another hand's stays", nodes: []Node{with(tainted("a", verdict.Alive), func(n *Node) { n.Ours = false })}},
		{name: "what is claimed without a taint is disowned", nodes: []Node{{Name: "a", Claimed: true, Verdict: verdict.Verdict{State: verdict.Alive}}}, disown: "a"},
		{name: "and what is claimed of another hand's taint",
			nodes: []Node{with(tainted("a", verdict.Dead), func(n *Node) { n.Ours, n.Claimed = false, true })}, disown: "a"},
		{name: "what is claimed rightly is not", nodes: []Node{with(tainted("a", verdict.Dead), func(n *Node) { n.Claimed = true })}},
		{name: "nor what is about to be", nodes: []Node{with(dead("a"), func(n *Node) { n.Claimed = true })}, put: "a"},
		{name: "nor an exempt one", nodes: []Node{with(dead("a"), func(n *Node) { n.Claimed, n.Exempt = true, true })}},
		{name: "an exempt one stays as it is", nodes: []Node{with(tainted("a", verdict.Alive), func(n *Node) { n.Exempt = true })}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := Decide(c.nodes, c.brake)
			if got := strings.Join(d.Put, " "); got != c.put {
				t.Errorf("put %q, want %q", got, c.put)
			}
			if got := strings.Join(d.Take, " "); got != c.take {
				t.Errorf("take %q, want %q", got, c.take)
			}
			if got := strings.Join(d.Disown, " "); got != c.disown {
				t.Errorf("disown %q, want %q", got, c.disown)
			}
			if got := strings.Join(d.Held, " "); got != c.held {
				t.Errorf("held %q, want %q", got, c.held)
			}
		})
	}
}

// Whatever happens, in any order: never more than the limit, never under the brake,
// never another's nor what is exempt, and what lives is free of ours in the end.
func TestNeverTooMany(t *testing.T) {
	states := []verdict.State{verdict.Alive, verdict.Dead, verdict.Suspect, verdict.Unknown, verdict.Silent, verdict.AgentDown, verdict.Isolated}
	rapid.Check(t, func(t *rapid.T) {
		nodes := make([]Node, rapid.IntRange(1, 40).Draw(t, "nodes"))
		for i := range nodes {
			nodes[i] = Node{Name: fmt.Sprintf("n%02d", i), Wanted: true}
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			n := &nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "node")]
			n.Verdict.State = rapid.SampledFrom(states).Draw(t, "state")
			n.Verdict.Proven = n.Verdict.State == verdict.Dead && rapid.Bool().Draw(t, "proven")
			n.Wanted = rapid.IntRange(0, 9).Draw(t, "wanted") > 0
			n.Exempt = rapid.IntRange(0, 4).Draw(t, "exempt") == 0
			if rapid.IntRange(0, 4).Draw(t, "by hand") == 0 { // on, or off if it is, and what it claims stays
				n.Tainted, n.Ours = !n.Tainted, false
			}
			carryOut(t, nodes, verdict.Brake{Frozen: rapid.IntRange(0, 3).Draw(t, "frozen") == 0})
		}
		var theirs []string
		for i := range nodes {
			if n := &nodes[i]; n.Tainted && !n.Ours {
				theirs = append(theirs, n.Name)
			}
			nodes[i].Verdict, nodes[i].Exempt = verdict.Verdict{State: verdict.Alive}, false
		}
		carryOut(t, nodes, verdict.Brake{})
		for _, n := range nodes {
			if n.Ours || n.Claimed || n.Tainted != slices.Contains(theirs, n.Name) {
				t.Fatalf("in the end there is %+v", n)
			}
		}
	})
}

// carryOut does what is decided, and checks that it may be.
func carryOut(t *rapid.T, nodes []Node, brake verdict.Brake) {
	d := Decide(nodes, brake)
	if brake.Frozen && len(d.Put)+len(d.Take)+len(d.Disown) > 0 {
		t.Fatalf("under the brake: %+v", d)
	}
	tainted := 0
	for i := range nodes {
		n := &nodes[i]
		put, take, disown := slices.Contains(d.Put, n.Name), slices.Contains(d.Take, n.Name), slices.Contains(d.Disown, n.Name)
		switch {
		case put && (n.Tainted || n.Exempt || !n.Wanted || n.Verdict.State != verdict.Dead || !n.Verdict.Proven),
			take && (!n.Ours || n.Exempt), disown && (n.Ours || n.Exempt || !n.Claimed), put && take, put && disown, take && disown:
			t.Fatalf("put: %v, take: %v, disown: %v: %+v", put, take, disown, *n)
		case put:
			n.Tainted, n.Ours, n.Claimed = true, true, true
		case take:
			n.Tainted, n.Ours, n.Claimed = false, false, false
		case disown:
			n.Claimed = false
		}
		if n.Tainted {
			tainted++
		}
	}
	if len(d.Put) > 0 && tainted > Limit(len(nodes)) {
		t.Fatalf("%d of %d are tainted", tainted, len(nodes))
	}
}

func TestHowLongPodsTookToBeElsewhere(t *testing.T) {
	began := time.Date(2030, 1, 1, 12, 0, 0, 300e6, time.UTC)
	at := func(s float64) time.Time { return began.Add(time.Duration(s * float64(time.Second))) }
	web := func(uid, node string, created time.Time, ready, terminating bool) Pod {
		return Pod{UID: uid, Name: "im/" + uid, Owner: "rs", OwnerKind: "ReplicaSet", Node: node, Ready: ready, Terminating: terminating, Created: created.Truncate(time.Second)}
	}
	old := at(-3600)
	e := NewEvacuation("n1", began)
	see := func(s float64, pods ...Pod) {
		Observe(at(s), []*Evacuation{e}, append(pods, web("other", "n2", old, true, false)))
	}

	see(0.1, web("a", "n1", old, true, false), web("b", "n1", old, true, false))
	if e.Pods() != 0 {
		t.Fatal("one that tolerates the taint has not been told to go")
	}
	gone := []Pod{web("a", "n1", old, true, true), web("b", "n1", old, true, true)}
	see(1, append(gone, web("c", "n2", at(1), false, false), web("d", "n3", at(1), false, false))...)
	if e.Pods() != 2 || e.Elsewhere() != 0 {
		t.Fatalf("%d of %d", e.Elsewhere(), e.Pods())
	}
	if m := e.Message(); m != "Not yet elsewhere: im/a (ReplicaSet), im/b (ReplicaSet)." {
		t.Error(m)
	}
	see(3, append(gone, web("c", "n2", at(1), true, false), web("d", "n3", at(1), false, false))...)
	if _, all := e.Took(at(3)); all || e.Elsewhere() != 1 {
		t.Errorf("%d of %d, all: %v", e.Elsewhere(), e.Pods(), all)
	}
	see(4.5, web("b", "n1", old, true, true), web("c", "n2", at(1), true, false), web("d", "n3", at(1), true, false)) // one is gone for good
	see(9, web("c", "n2", at(1), true, false), web("d", "n3", at(1), true, false))
	if took, all := e.Took(at(9)); !all || took != 4500*time.Millisecond || e.Message() != "" {
		t.Errorf("%v, %v, %q", took, all, e.Message())
	}

	db := Pod{UID: "db", Name: "im/db-0", Owner: "sts", OwnerKind: "StatefulSet", Node: "n1", Terminating: true}
	see(10, db, web("c", "n2", at(1), true, false), web("d", "n3", at(1), true, false))
	if _, all := e.Took(at(10)); all || !strings.Contains(e.Message(), "im/db-0 (StatefulSet)") || !strings.Contains(e.Message(), "out-of-service") {
		t.Errorf("a StatefulSet's pod is not waited for: %q", e.Message())
	}
}

func TestAPodStandsForOneOfAnotherNode(t *testing.T) {
	began := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	web := func(uid, node string, created int, ready bool) Pod {
		return Pod{UID: uid, Name: "im/" + uid, Owner: "rs", OwnerKind: "ReplicaSet", Node: node, Ready: ready, Terminating: !ready, Created: at(created)}
	}
	one, two := NewEvacuation("n1", at(0)), NewEvacuation("n2", at(0))
	see := func(s int, what string, of1, of2 int, pods ...Pod) {
		t.Helper()
		Observe(at(s), []*Evacuation{two, one}, pods)
		if one.Elsewhere() != of1 || two.Elsewhere() != of2 {
			t.Errorf("%s: %d and %d are elsewhere, want %d and %d", what, one.Elsewhere(), two.Elsewhere(), of1, of2)
		}
	}
	a, b := web("a", "n1", -60, false), web("b", "n2", -60, false)
	c, d, e := web("c", "n3", 2, true), web("d", "n4", 3, true), web("e", "n4", 9, true)
	see(1, "two nodes are tainted", 0, 0, a, b)
	see(3, "one pod is made for both", 1, 0, a, b, c)
	if _, all := two.Took(at(3)); all || two.Message() != "Not yet elsewhere: im/b (ReplicaSet)." {
		t.Errorf("of the other is said: %q", two.Message())
	}
	see(4, "and another", 1, 1, a, b, c, d)

	// The node of the first of them is tainted, too.
	three := NewEvacuation("n3", at(8))
	c.Ready, c.Terminating = false, true
	for _, s := range []struct {
		what      string
		pods      []Pod
		elsewhere int
	}{
		{"it is told to go", []Pod{a, b, c, d}, 0},
		{"it is made anew", []Pod{a, b, c, d, e}, 1},
		{"it is gone", []Pod{d, e}, 1},
	} {
		Observe(at(10), []*Evacuation{three, two, one}, s.pods)
		if one.Elsewhere() != 1 || two.Elsewhere() != 1 || three.Elsewhere() != s.elsewhere {
			t.Errorf("%s: %d, %d and %d are elsewhere, want 1, 1 and %d", s.what, one.Elsewhere(), two.Elsewhere(), three.Elsewhere(), s.elsewhere)
		}
	}
}
