package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

const (
	// darkFor is how long a node is away: longer than Kubernetes needs to notice,
	// which was 54 s.
	darkFor = 65 * time.Second
	// splitFor is shorter: Kubernetes does not notice at all.
	splitFor = 40 * time.Second
)

// dead is what is said of a member that is held dead.
var dead = row{"State": string(verdict.Dead)}

// poweredOff powers off a server's node.
func poweredOff(t *testing.T, s *scene) {
	s.needFaults(t)
	victim := s.victim(t)
	s.dark(victim.Spec.NodeName, victim.Name, darkFor, s.faults.PowerOff, s.faults.PowerOn)
}

// unplugged pulls the cable of a server's node.
func unplugged(t *testing.T, s *scene) {
	s.needFaults(t)
	victim := s.victim(t)
	s.dark(victim.Spec.NodeName, victim.Name, darkFor, s.faults.Unplug, s.faults.Plug)
}

// splitOff cuts a server's node off from the other nodes; the control plane still
// reaches it, so that Kubernetes sees nothing.
func splitOff(t *testing.T, s *scene) {
	s.needFaults(t)
	victim := s.victim(t)
	s.dark(victim.Spec.NodeName, victim.Name, splitFor, s.faults.Split, func(ctx context.Context, _ string) error { return s.faults.Join(ctx) })
}

// takeAway takes a node away from the others, and returns what gives it back. It may
// be held dead from now on.
func (s *scene) takeAway(node string, away, back func(context.Context, string) error) (mend func()) {
	s.t.Helper()
	s.away = node
	s.begin()
	return s.fault(func() { s.must(away(s.t.Context(), node)) }, func() {
		ctx, cancel := lasting(s.t)
		defer cancel()
		if err := back(ctx, node); err != nil {
			s.t.Error(err)
		}
	})
}

// dark takes a node away from the others, for so long, and gives it back.
func (s *scene) dark(node, server string, length time.Duration, away, back func(context.Context, string) error) {
	s.t.Helper()
	if led := s.ledFrom(s.t.Context(), node); led != "" {
		s.line.say("on it: %s leader", led)
	}
	mend := s.takeAway(node, away, back)
	s.line.say("nodes: DEAD 1 after %s", seconds(s.said(members, memberOf(nodes, node), time.Minute, dead)))
	s.line.say("servers: DEAD 1 after %s", seconds(s.said(members, memberOf(servers, server), time.Minute, dead)))
	s.movedAway(server, 90*time.Second)
	s.lasts(length)
	s.line.kubernetes("%s", s.unready(nodeReady, node))
	mend()
	s.line.say("after it was back: nodes HEALTHY after %s", s.healthy(nodes))
}

// lossy drops packets at a server's node. Nobody is to be held dead, and no client
// offline; clients may leave a server that answers them late, and come back.
func lossy(t *testing.T, s *scene) {
	s.needFaults(t)
	victim := s.victim(t)
	node := victim.Spec.NodeName
	s.begin()
	heal := s.fault(func() { s.must(s.faults.Lose(t.Context(), node, 30)) }, func() {
		ctx, cancel := lasting(t)
		defer cancel()
		if err := s.faults.Lose(ctx, node, 0); err != nil {
			t.Error(err)
		}
	})
	s.lasts(*lossFor)
	s.never(nodes, "Dead")
	s.never(servers, "Dead")
	s.never(servers, "Overloaded")
	s.noFailover()
	s.saidOf(nodes, "Suspect", "Dead")
	s.saidOfServers()
	told, err := s.people.heard(t.Context(), sdkName, s.began)
	s.must(err)
	s.line.say("clients of the SDK left by themselves %d times", told["Moved late"]+told["Moved broken"])
	s.line.kubernetes("%s", s.unready(nodeReady, node))
	s.line.Fault = fmt.Sprintf("30 %% of the packets to a node are lost, for %s", *lossFor)
	heal()
}
