package sim

import (
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// strainedWorld plays a scenario with cgroups, and calls each with what the leader holds of
// the server that is starved, ten times a second.
func strainedWorld(t *testing.T, lines string, each func(at time.Duration, k verdict.Kernel, v verdict.Verdict)) *world {
	t.Helper()
	sc, err := ParseScenario(strings.NewReader("# Strained.\nworld servers=6 nodes=12 zones=3 clients=3000 controllers=1 cgroups=true\n" + lines + "\nend 60s\nexpect failovers = 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(sc.Setting, 7, true)
	w.play(sc.Steps)
	for at := time.Duration(0); at <= sc.End; at += 100 * time.Millisecond {
		w.run(at)
		c := w.controllers[0]
		each(at, c.book.servers[0].Kernel, c.servers.Verdicts[w.servers[0].name])
	}
	return w
}

// With a tenth of a CPU, in slices of 100 ms, it answers; so it does with pauses of 400 ms.
func TestWhoIsKeptFromRunningAndAnswersIsWell(t *testing.T) {
	for _, tt := range []struct {
		name, lines string
		strained    bool // it is said that it is kept from running
	}{
		{"a tenth of a CPU", "10s starve server-0 run=10ms period=100ms for=30s", true},
		{"pauses of 400 ms", "10s starve server-0 run=1600ms period=2s for=40s", false},
		{"nothing", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			strained := false
			w := strainedWorld(t, tt.lines, func(at time.Duration, k verdict.Kernel, v verdict.Verdict) {
				strained = strained || k.Strain != ""
				if v.State == verdict.Overloaded {
					t.Fatalf("after %v it is %s: %s", at, v.State, v.Message)
				}
			})
			if strained != tt.strained {
				t.Errorf("that it is kept from running is said: %v", strained)
			}
			if len(w.failovers) > 0 {
				t.Errorf("there are %d Failovers", len(w.failovers))
			}
		})
	}
}

// One that runs for 50 ms in each 2.5 s leaves its observers waiting: as soon as one says so,
// and the others don't hold it to be well, its cgroup is the second witness, or the verdict says why.
func TestWhoIsKeptFromRunningAndDoesNotAnswerIsOverloaded(t *testing.T) {
	var found verdict.Verdict
	strainedWorld(t, "10s starve server-0 run=50ms period=2500ms for=20s", func(at time.Duration, _ verdict.Kernel, v verdict.Verdict) {
		if v.Proven && strings.Contains(v.Message, "throttled") && found.State == "" {
			found = v
		}
		if v.State == verdict.Overloaded && at < 11*time.Second {
			t.Fatalf("after %v it is %s: %s", at, v.State, v.Message)
		}
	})
	if found.State != verdict.Overloaded || !strings.Contains(found.Message, "its pod was throttled ") {
		t.Errorf("it is %s: %s", found.State, found.Message)
	}
}
