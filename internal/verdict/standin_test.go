package verdict_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

func TestStandIns(t *testing.T) {
	standIn := func(name, zone, node string) verdict.Candidate {
		return verdict.Candidate{Observer: verdict.Observer{Name: name, Zone: zone, Node: node}}
	}
	one, two := standIn("s1", "", "n1"), standIn("s2", "", "n2")
	controller := standIn("controller", "", "n1")
	agent := verdict.Observer{Name: "n2"}
	for _, c := range []struct {
		name       string
		agents     []verdict.Observer
		candidates []verdict.Candidate
		want       []string
	}{
		{"nobody where the agents are enough", []verdict.Observer{{Name: "n2"}, {Name: "n3"}, {Name: "n4"}}, []verdict.Candidate{one, two, controller}, nil},
		{"as many as are missing", []verdict.Observer{agent, {Name: "n3"}}, []verdict.Candidate{one}, []string{"s1"}},
		{"all there are", nil, []verdict.Candidate{one, controller}, []string{"controller", "s1"}},
		{"another machine first", []verdict.Observer{agent, {Name: "n3"}}, []verdict.Candidate{two, standIn("s3", "", "n3"), controller}, []string{"controller"}},
		{"another zone first", []verdict.Observer{{Name: "n2", Zone: "b"}, {Name: "n3", Zone: "b"}},
			[]verdict.Candidate{standIn("s2", "b", "n5"), standIn("s4", "b", "n4"), standIn("s1", "a", "n1")}, []string{"s1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, o := range verdict.StandIns("im/server-1", c.agents, c.candidates, 3) {
				got = append(got, o.Name)
			}
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("chosen are %v, want %v", got, c.want)
			}
		})
	}
}

// Whoever computes it, in whatever order the candidates come, chooses the same;
// and when one leaves who was not chosen, nothing changes.
func TestStandInsAreChosenWithoutTalking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var candidates []verdict.Candidate
		for i := range rapid.IntRange(0, 8).Draw(t, "candidates") {
			candidates = append(candidates, verdict.Candidate{Observer: verdict.Observer{
				Name: fmt.Sprint("s", i), Node: fmt.Sprint("n", rapid.IntRange(1, 2).Draw(t, "node")),
			}})
		}
		agents := []verdict.Observer{{Name: "n2"}}[:rapid.IntRange(0, 1).Draw(t, "agents")]
		chosen := verdict.StandIns("im/a", agents, candidates, 3)
		if len(chosen) != min(3-len(agents), len(candidates)) {
			t.Fatalf("of %d, %d are chosen besides %d", len(candidates), len(chosen), len(agents))
		}
		turned := rapid.Permutation(candidates).Draw(t, "turned")
		if got := verdict.StandIns("im/a", agents, turned, 3); !slices.Equal(got, chosen) {
			t.Fatalf("the order of the candidates changes %v to %v", chosen, got)
		}
		for i, c := range candidates {
			if slices.Contains(chosen, c.Observer) {
				continue
			}
			rest := slices.Delete(slices.Clone(candidates), i, i+1)
			if got := verdict.StandIns("im/a", agents, rest, 3); !slices.Equal(got, chosen) {
				t.Fatalf("without %s, who was not chosen, %v becomes %v", c.Name, chosen, got)
			}
		}
	})
}
