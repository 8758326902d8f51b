package verdict_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

func candidates(n, zones int) []verdict.Candidate {
	var l []verdict.Candidate
	for i := range n {
		l = append(l, verdict.Candidate{Observer: verdict.Observer{Name: fmt.Sprint("node-", i), Zone: fmt.Sprint("zone-", i%zones)}})
	}
	return l
}

// TestAssignIsTheSameForEver pins the hash: agents and controllers of different
// releases must agree.
func TestAssignIsTheSameForEver(t *testing.T) {
	got := verdict.Assign("rollcall-system/server-0", "node-1", candidates(9, 3), 3)
	want := []verdict.Observer{{Name: "node-8", Zone: "zone-2"}, {Name: "node-4", Zone: "zone-1"}, {Name: "node-6", Zone: "zone-0"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the assignment changed:\n%s", d)
	}
}

func TestAssign(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zones := rapid.IntRange(1, 5).Draw(t, "zones")
		all := candidates(rapid.IntRange(0, 12).Draw(t, "candidates"), zones)
		subject, k := rapid.StringMatching("im/s-[0-9]{1,4}").Draw(t, "subject"), rapid.IntRange(0, 5).Draw(t, "k")
		own := fmt.Sprint("node-", rapid.IntRange(0, 12).Draw(t, "own"))
		got := verdict.Assign(subject, own, all, k)

		eligible := slices.DeleteFunc(slices.Clone(all), func(c verdict.Candidate) bool { return c.Name == own })
		seen, gotZones, allZones := map[string]bool{}, map[string]bool{}, map[string]bool{}
		for _, c := range eligible {
			allZones[c.Zone] = true
		}
		for _, o := range got {
			if o.Name == own || seen[o.Name] {
				t.Fatalf("%s is chosen twice, or on the subject's own node: %v", o.Name, got)
			}
			seen[o.Name], gotZones[o.Zone] = true, true
		}
		if len(got) != min(k, len(eligible)) || len(gotZones) != min(k, len(allZones)) {
			t.Fatalf("%d of %d, from %d of %d zones: %v", len(got), len(eligible), len(gotZones), len(allZones), got)
		}

		shuffled := slices.Clone(all)
		rng := rand.New(rand.NewPCG(1, 2))
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if d := cmp.Diff(got, verdict.Assign(subject, own, shuffled, k)); d != "" {
			t.Fatalf("the order of the candidates matters:\n%s", d)
		}

		// Whoever goes is replaced, and nobody else.
		for _, gone := range eligible {
			rest := slices.DeleteFunc(slices.Clone(all), func(c verdict.Candidate) bool { return c.Name == gone.Name })
			after := verdict.Assign(subject, own, rest, k)
			for _, o := range got {
				if o.Name != gone.Name && !slices.Contains(after, o) {
					t.Fatalf("%s goes, and %s loses its place: %v, then %v", gone.Name, o.Name, got, after)
				}
			}
			if !seen[gone.Name] && !slices.Equal(got, after) {
				t.Fatalf("%s was not chosen, and its going changes %v to %v", gone.Name, got, after)
			}
		}
	})
}

func TestAssignSpreadsEvenly(t *testing.T) {
	for _, zones := range []int{1, 3, 5} {
		all := candidates(30, zones)
		load := map[string]int{}
		const subjects, k = 10000, 3
		for i := range subjects {
			for _, o := range verdict.Assign(fmt.Sprint("im/server-", i), "", all, k) {
				load[o.Name]++
			}
		}
		mean := float64(subjects*k) / float64(len(all))
		for _, c := range all {
			if n := float64(load[c.Name]); n < 0.8*mean || n > 1.2*mean {
				t.Errorf("%d zones: %s watches %v, and the mean is %v", zones, c.Name, n, mean)
			}
		}
	}
}

// BenchmarkAssign chooses the reporters of all of 5,000 nodes, as every agent
// does when the nodes change.
func BenchmarkAssign(b *testing.B) {
	all := candidates(5000, 3)
	for b.Loop() {
		e := verdict.NewElectorate(all)
		for i := range all {
			e.Assign(all[i].Name, all[i].Name, 3)
		}
	}
}
