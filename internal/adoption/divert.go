package adoption

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// gated tells whether the pods are led past by their readiness, so that the Service
// needs no label. A gate that pods lack can only come by a rollout, which is not
// made here: nobody should have all pods of a Service restarted by the way.
func (p *planner) gated() (bool, error) {
	of := p.presence()
	if of == nil {
		return false, nil
	}
	switch of.Spec.Servers.Failover.Divert {
	case v1alpha1.DivertReadinessGate:
	case v1alpha1.DivertNone:
		p.note("Presence %s has failover.divert: %s, and leads nobody past a server until that is %s", of.Name, v1alpha1.DivertNone, v1alpha1.DivertLabel)
		return false, nil
	default:
		return false, nil
	}
	if p.Service.Spec.PublishNotReadyAddresses {
		return true, fmt.Errorf("presence/%s has failover.divert: %s, and service/%s leads to pods that are not Ready: take publishNotReadyAddresses off it, or set failover.divert to %s and run this again",
			of.Name, v1alpha1.DivertReadinessGate, p.Service.Name, v1alpha1.DivertLabel)
	}
	for _, pod := range p.live {
		if !v1alpha1.Gated(pod) {
			return true, fmt.Errorf("presence/%s has failover.divert: %s, and pod/%s lacks the readiness gate, which only a rollout gives: put conditionType: %s into spec.readinessGates of the pod template of %s, or set failover.divert to %s and run this again",
				of.Name, v1alpha1.DivertReadinessGate, pod.Name, v1alpha1.AcceptingGate, p.maker(pod), v1alpha1.DivertLabel)
		}
	}
	p.note("Presence %s has failover.divert: %s, and every live pod carries the readiness gate %s: the Service follows that as it is", of.Name, v1alpha1.DivertReadinessGate, v1alpha1.AcceptingGate)
	return true, nil
}

// presence is the one that is honoured for the live pods, if any: of several that
// select one of them, the oldest.
func (p *planner) presence() *v1alpha1.Presence {
	for i := range p.Presences {
		of := &p.Presences[i]
		if of.Spec.Servers == nil || apimeta.IsStatusConditionFalse(of.Status.Conditions, v1alpha1.ConditionAccepted) {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(&of.Spec.Servers.Selector)
		if err != nil {
			continue // it selects nothing
		}
		for _, pod := range p.live {
			if selector.Matches(labels.Set(pod.Labels)) {
				return of
			}
		}
	}
	return nil
}

// maker is what a pod is made by, as far as it is known.
func (p *planner) maker(pod *corev1.Pod) string {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return "whatever makes it"
	}
	for i := range p.ReplicaSets {
		if above := metav1.GetControllerOf(&p.ReplicaSets[i]); p.ReplicaSets[i].UID == owner.UID && above != nil {
			owner = above
		}
	}
	return owner.Kind + " " + owner.Name
}
