package sim

import (
	"os"
	"testing"
)

func TestTry(t *testing.T) {
	f, err := os.Open("scenarios/" + os.Getenv("SC") + ".txt")
	if err != nil {
		t.Skip(err)
	}
	sc, err := ParseScenario(f)
	if err != nil {
		t.Fatal(err)
	}
	p := Trace(sc, 1)
	for _, n := range p.Notes() {
		t.Log(n)
	}
	r := Run(sc, 1, false)
	t.Log(r.Figures, r.Events, r.Unseen)
	for _, m := range r.Misses() {
		t.Error(m)
	}
}
