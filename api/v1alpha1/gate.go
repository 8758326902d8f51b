package v1alpha1

import corev1 "k8s.io/api/core/v1"

// Gated tells whether a pod carries the readiness gate AcceptingGate.
func Gated(p *corev1.Pod) bool {
	for _, g := range p.Spec.ReadinessGates {
		if g.ConditionType == AcceptingGate {
			return true
		}
	}
	return false
}

// GateOf is the status of the condition AcceptingGate; empty: nobody has set it.
func GateOf(p *corev1.Pod) corev1.ConditionStatus {
	for _, c := range p.Status.Conditions {
		if c.Type == AcceptingGate {
			return c.Status
		}
	}
	return ""
}
