package presence

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// kernels says whether the servers' kernels are asked, and counts connections, of
// services alone: a heartbeat server says itself what it holds.
func kernels(s *v1alpha1.PresenceStatus, all map[string]verdict.Kernel, set setter) {
	if len(all) == 0 {
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionKernelAsked)
		return
	}
	var away, blind, closed []string
	counted, connections := false, 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		k := all[name]
		switch {
		case !k.Online || k.Band == "":
			away = append(away, name)
			continue
		case k.Band == string(wire.BandBlind):
			blind = append(blind, name)
		case k.Band == string(wire.BandClosed):
			closed = append(closed, name)
		}
		if k.Connections >= 0 {
			counted = true
			connections += k.Connections
		}
	}
	if counted {
		n := clamp(connections)
		s.Counts.Connections = &n
	}
	const without = "verdicts on these rest on probes alone, and their connections are not counted"
	switch {
	case len(blind) > 0:
		set(v1alpha1.ConditionKernelAsked, metav1.ConditionFalse, v1alpha1.ReasonKernelBlind,
			shorten(fmt.Sprintf("The kernels of %d of %d servers can't be asked: %s. Of %s: %s.", len(blind), len(all), without, blind[0], all[blind[0]].Detail)))
	case len(away) > 0:
		set(v1alpha1.ConditionKernelAsked, metav1.ConditionFalse, v1alpha1.ReasonNoSeverer,
			fmt.Sprintf("Nobody asks the kernels of %d of %d servers, %s among them: %s. It takes the severer on their nodes (agent.sever.enabled).", len(away), len(all), away[0], without))
	case len(closed) > 0:
		set(v1alpha1.ConditionKernelAsked, metav1.ConditionTrue, v1alpha1.ReasonPortClosed,
			fmt.Sprintf("On %d of %d servers, %s among them, nothing listens on servers.port.", len(closed), len(all), closed[0]))
	default:
		set(v1alpha1.ConditionKernelAsked, metav1.ConditionTrue, v1alpha1.ReasonKernelAsked, "The kernel of every server's node is asked.")
	}
}

// diverted says whether new clients are led past a server that is taken out, of
// services alone: heartbeat servers say so themselves.
func diverted(s *v1alpha1.PresenceStatus, p *judge.Population, set setter) {
	if p.Subject != v1alpha1.SubjectServers || p.Presence.Spec.Servers.Probe.Heartbeats() {
		meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionDiverted)
		return
	}
	holds, reason, message := p.Diversion.Say()
	status := metav1.ConditionFalse
	if holds {
		status = metav1.ConditionTrue
	}
	set(v1alpha1.ConditionDiverted, status, reason, shorten(message))
}
