package fewnodes

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/test/installation"
)

const (
	servers = 3
	// patience bounds each wait, on a busy machine.
	patience = 2 * time.Minute
)

func TestAHungServerIsFoundWhereAgentsAreFew(t *testing.T) {
	if testing.Short() {
		t.Skip("runs whole installations")
	}
	binary := filepath.Join(t.TempDir(), "rollcall")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/rollcall-dev/rollcall/cmd/rollcall").CombinedOutput(); err != nil {
		t.Fatalf("building rollcall: %v\n%s", err, out)
	}
	for _, machines := range []int{2, 1} {
		t.Run(fmt.Sprintf("%d machines", machines), func(t *testing.T) { found(t, binary, machines) })
	}
}

// found hangs each of the servers in turn.
func found(t *testing.T, binary string, machines int) {
	ctx := t.Context()
	w, err := installation.Start(ctx, installation.Config{
		Servers: servers, Agents: machines, Controllers: 1, Capacity: 1000, Binary: binary,
	})
	t.Cleanup(w.Close)
	if err != nil {
		t.Fatalf("%v\nLogs:\n%s", err, w.LogTails())
	}
	wait := func(what string, done func() bool) {
		t.Helper()
		if err := w.WaitFor(ctx, what, patience, done); err != nil {
			t.Fatalf("%v\nLogs:\n%s", err, w.LogTails())
		}
	}
	view := watch(ctx, w.Store)
	wait("others to stand in for agents", func() bool {
		return view.observed(func(a store.Assignment, said map[string]store.Observation) bool {
			// Each server is short of an agent: of its own machine's at least.
			if len(a.StandIns) != min(3-(machines-1), servers) {
				return false
			}
			for _, s := range a.StandIns {
				if o := said[s.Name]; o.Boot != s.Boot || o.Band != wire.BandOK {
					return false
				}
			}
			return true
		})
	})
	p, err := w.Servers(ctx)
	if err != nil || !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionFewObservers) {
		t.Fatalf("that agents are few is not said: %v, %+v", err, p.Status.Conditions)
	}

	for i := range servers {
		name := installation.ServerName(i)
		hung := time.Now()
		if err := w.Part(name).Pause(); err != nil {
			t.Fatal(err)
		}
		var told v1alpha1.MemberStatus
		wait(name+" to be found", func() bool {
			p, err := w.Servers(ctx)
			if err != nil {
				return false
			}
			for _, m := range p.Status.NotAlive {
				if m.Name == name && m.State == "Overloaded" {
					told = m
					return true
				}
			}
			return false
		})
		t.Logf("%s was found after %s: %s", name, time.Since(hung).Round(100*time.Millisecond), told.Message)
		if !two(told.Message) {
			t.Errorf("%s was found by one witness: %s", name, told.Message)
		}
		if err := w.Part(name).Resume(); err != nil {
			t.Fatal(err)
		}
		wait("all servers to be judged alive again", func() bool { return w.Judged(ctx, servers) })
	}
}

var (
	// voices are the observers that a verdict names, in parentheses.
	voices = regexp.MustCompile(`observers? \(([^)]*)\)`)
	// others are the second kinds of evidence.
	others = []string{"its record in etcd has expired", "clients leave it", "its own work queue is later", "is dead"}
)

// two tells whether a verdict's message names observers on two machines, or another
// kind of evidence.
func two(message string) bool {
	for _, o := range others {
		if strings.Contains(message, o) {
			return true
		}
	}
	machines := map[string]bool{}
	for _, m := range voices.FindAllStringSubmatch(message, -1) {
		for v := range strings.SplitSeq(m[1], ", ") {
			name, machine, standsIn := strings.Cut(v, " on ")
			if !standsIn {
				machine = name
			}
			machines[machine] = true
		}
	}
	return len(machines) >= 2
}

func TestTwoWitnessesAreTold(t *testing.T) {
	for message, want := range map[string]bool{
		"2 of 3 observers (node-2, server:s:b on node-1) wait 1.4s":            true,
		"2 of 3 observers (node-2, server:s:b on node-2) wait 1.4s":            false,
		"3 of 3 observers (a on node-1, b on node-1, c on node-1) wait":        false,
		"1 of 1 observers (a on node-1) waits; its record in etcd has expired": true,
	} {
		if got := two(message); got != want {
			t.Errorf("%q: %v", message, got)
		}
	}
}
