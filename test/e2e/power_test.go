package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// The bars of a power-off: from the moment of the fault to the status that says
// Dead. They are figures for the table: a busy machine misses them without a fault.
const (
	powerBar       = 3 * time.Second
	powerLeaderBar = 6 * time.Second
)

// powered is one power-off.
type powered struct {
	round  int
	node   string
	leader string // what led there, in words; empty: nothing
	dead   time.Duration
}

func (p powered) bar() time.Duration {
	if p.leader != "" {
		return powerLeaderBar
	}
	return powerBar
}

// heard is whom the nodes' Presence said to be dead, and when.
type heard struct {
	at    time.Time
	nodes []string
}

// heardDead tells whom the nodes' Presence first says to be dead, as a watch of it
// is told.
func (s *scene) heardDead(t *testing.T) <-chan heard {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	events, err := s.api.Watch(ctx, &v1alpha1.PresenceList{}, client.InNamespace(namespace), client.MatchingFields{"metadata.name": nodes})
	s.must(err)
	told := make(chan heard, 1)
	go func() {
		defer events.Stop()
		for e := range events.ResultChan() {
			p, ok := e.Object.(*v1alpha1.Presence)
			if !ok {
				continue
			}
			h := heard{at: time.Now()}
			for _, m := range p.Status.NotAlive {
				if m.State == string(verdict.Dead) {
					h.nodes = append(h.nodes, m.Name)
				}
			}
			if len(h.nodes) > 0 {
				told <- h
				return
			}
		}
	}()
	return told
}

// TestPower powers nodes off, one after the other, again and again, and lists how
// long each took to be Dead.
func TestPower(t *testing.T) {
	if *rounds == 0 {
		t.Skip("no power-offs were asked for: `make e2e-power`")
	}
	w := givenCluster(t)
	w.needFaults(t)
	w.install(t)
	w.settle(t)
	var all []powered
	for round := 1; round <= *rounds && !t.Failed(); round++ {
		list := w.nodes(t)
		// Not the clients' node: whether they are wrongly held offline is looked at too.
		node := list[1+round%(len(list)-1)].Name
		w.scene(t, fmt.Sprintf("power off %d", round), func(t *testing.T, s *scene) {
			all = append(all, s.powerOff(t, round, node))
		})
		w.replaceServers(t, node)
	}
	var b strings.Builder
	b.WriteString("| round | node | a leader was on it | Dead after | bar |\n|---|---|---|---|---|\n")
	missed := 0
	for _, p := range all {
		verdict := ""
		if p.dead > p.bar() {
			missed, verdict = missed+1, " **missed**"
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %.2f s | %.0f s%s |\n", p.round, p.node, p.leader, p.dead.Seconds(), p.bar().Seconds(), verdict)
	}
	fmt.Fprintf(&b, "\n%d power-offs, %d of them Dead within the bar.\n", len(all), len(all)-missed)
	publish(t, "power", b.String())
	if len(all) < *rounds {
		t.Errorf("only %d of %d power-offs were made", len(all), *rounds)
	}
}

// replaceServers has the servers of a node begin anew: one that failed every other
// minute would be kept out as flapping from the seventh time on, for longer than the
// suite waits, and a pod that was replaced is not held to what went before it.
func (w *world) replaceServers(t *testing.T, node string) {
	t.Helper()
	pods, err := w.part(t.Context(), "server")
	if err != nil {
		t.Fatal(err)
	}
	gone := map[types.UID]bool{}
	for i := range pods {
		if pods[i].Spec.NodeName != node {
			continue
		}
		if err := w.kube.CoreV1().Pods(namespace).Delete(t.Context(), pods[i].Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		gone[pods[i].UID] = true
	}
	if err := poll(t.Context(), "servers to be replaced", readyWithin, func() (bool, error) {
		now, err := w.part(t.Context(), "server")
		if err != nil {
			return false, err
		}
		for i := range now {
			if gone[now[i].UID] {
				return false, fmt.Errorf("%s is still ending", now[i].Name)
			}
		}
		return len(now) == len(pods), fmt.Errorf("there are %d of %d", len(now), len(pods))
	}); err != nil {
		t.Fatal(err)
	}
}

func (s *scene) powerOff(t *testing.T, round int, node string) powered {
	p := powered{round: round, node: node, leader: s.ledFrom(t.Context(), node)}
	told := s.heardDead(t)
	on := s.takeAway(node, s.faults.PowerOff, s.faults.PowerOn)
	select {
	case h := <-told:
		if !slices.Equal(h.nodes, []string{node}) {
			t.Fatalf("the fault is of %s, and dead are held %v", node, h.nodes)
		}
		p.dead = h.at.Sub(s.began)
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	case <-time.After(time.Minute):
		t.Fatalf("%s was not Dead within a minute", node)
	}
	s.line.say("DEAD 1 after %.2f s", p.dead.Seconds())
	on()
	return p
}
