package judge

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rollcall-dev/rollcall/agent/pods"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// Diversion is how new clients are led past the servers of a Presence that are taken
// out, where they are not heartbeat servers. Those are led past by their label.
type Diversion struct {
	// Mode is the Presence's failover.divert; empty is Label.
	Mode v1alpha1.DivertMode
	// Pods is how many there are, and Lacking those without AcceptingLabel, or
	// AcceptingGate, by name.
	Pods    int
	Lacking []string
	// Following are the Services that lead past a server which is taken out, and
	// Straying those that would lead clients back to it, by name.
	Following, Straying []string
	// Ready are, with ReadinessGate, the pods ("namespace/pod") that each Service leads to
	// while they are Ready, by its name, whichever the port: those of others are left
	// without an endpoint just so.
	Ready map[string][]string
	// Forbidden: with ReadinessGate, this process may not write the status of pods.
	Forbidden bool
}

// Holds tells whether new clients can be led away from any pod that carries what it
// takes.
func (d Diversion) Holds() bool {
	return d.Mode != v1alpha1.DivertNone && !d.Forbidden && len(d.Following) > 0 && len(d.Straying) == 0
}

// From tells whether new clients can be led away from a pod.
func (d Diversion) From(p Pod) bool {
	if d.Mode == v1alpha1.DivertReadinessGate {
		return d.Holds() && p.Gated
	}
	return d.Holds() && p.Labelled
}

// Past tells whether they are: no Service leads to the pod, or will not in a moment.
func (d Diversion) Past(p Pod) bool {
	if d.Mode == v1alpha1.DivertReadinessGate {
		return d.From(p) && p.Gate == corev1.ConditionFalse
	}
	return d.From(p) && p.Accepting == "false"
}

// To tells whether new clients are led to a pod that accepts.
func (d Diversion) To(p Pod) bool {
	return p.Labelled || d.Mode == v1alpha1.DivertReadinessGate || d.Mode == v1alpha1.DivertNone
}

// diversion looks at all Services of a namespace. Those without an address of their
// own don't stray: whoever asks one by name has chosen the pod. Nor do those that
// lead to other ports.
func diversion(mode v1alpha1.DivertMode, servers []corev1.Pod, services []corev1.Service, port intstr.IntOrString) Diversion {
	d := Diversion{Mode: mode, Ready: map[string][]string{}}
	if mode == v1alpha1.DivertNone {
		return d
	}
	following, straying := map[string]bool{}, map[string]bool{}
	for i := range servers {
		pod := &servers[i]
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.DeletionTimestamp != nil {
			continue
		}
		d.Pods++
		if !d.carries(pod) {
			d.Lacking = append(d.Lacking, pod.Name)
		}
		for j := range services {
			s := &services[j]
			if !d.selects(s.Spec.Selector, pod.Labels) {
				continue
			}
			follows := d.follows(s)
			if follows && mode == v1alpha1.DivertReadinessGate {
				d.Ready[s.Name] = append(d.Ready[s.Name], pod.Namespace+"/"+pod.Name)
			}
			switch {
			case !leads(s, pod, port):
			case follows:
				following[s.Name] = true
			case s.Spec.ClusterIP != corev1.ClusterIPNone:
				straying[s.Name] = true
			}
		}
	}
	slices.Sort(d.Lacking)
	d.Following, d.Straying = slices.Sorted(maps.Keys(following)), slices.Sorted(maps.Keys(straying))
	return d
}

// carries tells whether a pod can be taken out.
func (d Diversion) carries(pod *corev1.Pod) bool {
	if d.Mode == v1alpha1.DivertReadinessGate {
		return v1alpha1.Gated(pod)
	}
	_, labelled := pod.Labels[v1alpha1.AcceptingLabel]
	return labelled
}

// follows tells whether a Service leads past the pods that are taken out.
func (d Diversion) follows(s *corev1.Service) bool {
	if d.Mode == v1alpha1.DivertReadinessGate {
		return !s.Spec.PublishNotReadyAddresses
	}
	return s.Spec.Selector[v1alpha1.AcceptingLabel] != ""
}

// selects tells whether a Service would select a pod that accepts: with ReadinessGate
// that is no question of labels. There may be thousands of either.
func (d Diversion) selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		is, has := labels[key]
		if key == v1alpha1.AcceptingLabel && d.Mode != v1alpha1.DivertReadinessGate {
			is, has = "true", true
		}
		if !has || is != value {
			return false
		}
	}
	return len(selector) > 0
}

// leads tells whether a Service leads to a port of a pod.
func leads(s *corev1.Service, pod *corev1.Pod, port intstr.IntOrString) bool {
	wanted, ok := pods.PortOf(pod, port)
	return ok && slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool {
		target := p.TargetPort
		if target == (intstr.IntOrString{}) {
			target = intstr.FromInt32(p.Port)
		}
		number, ok := pods.PortOf(pod, target)
		return ok && number == wanted
	})
}

// Say puts it into a sentence, with one of the API's reasons.
func (d Diversion) Say() (holds bool, reason, message string) {
	switch d.Mode {
	case v1alpha1.DivertNone:
		return false, v1alpha1.ReasonNotAsked,
			"failover.divert is None: new clients are not led past a server that is taken out, so nobody is moved. Set it to Label or ReadinessGate for that."
	case v1alpha1.DivertReadinessGate:
		return d.sayGates()
	}
	switch {
	case len(d.Straying) > 0:
		return false, v1alpha1.ReasonNotFollowing, fmt.Sprintf(
			"Clients would come back to a server that is taken out, so nobody is moved: these Services lead to the servers and do not select %s: %s. Run kubectl presence adopt for each.",
			v1alpha1.AcceptingLabel, strings.Join(d.Straying, ", "))
	case len(d.Following) == 0:
		return false, v1alpha1.ReasonNoService, fmt.Sprintf(
			`No Service that selects %s: "true" leads to servers.port of these servers, so nobody is moved. Run kubectl presence adopt for the Service that clients come through.`, v1alpha1.AcceptingLabel)
	case len(d.Lacking) > 0:
		return false, v1alpha1.ReasonNotLabelled, fmt.Sprintf(
			"%d of %d servers, %s among them, lack the label %s, so that no Service leads to them, and nobody is moved from them: put it into their template.",
			len(d.Lacking), d.Pods, d.Lacking[0], v1alpha1.AcceptingLabel)
	default:
		return true, v1alpha1.ReasonDiverted, "New clients are led past a server that is taken out by: " + strings.Join(d.Following, ", ") + "."
	}
}

// sayGates is what is said with ReadinessGate.
func (d Diversion) sayGates() (holds bool, reason, message string) {
	switch {
	case d.Forbidden:
		return false, v1alpha1.ReasonMayNotSetGates, fmt.Sprintf(
			"The controller may not write the status of pods, so nobody is moved, and new pods with the readiness gate %s are never Ready: set controller.readinessGates=true in the chart.", v1alpha1.AcceptingGate)
	case len(d.Straying) > 0:
		return false, v1alpha1.ReasonNotFollowing, fmt.Sprintf(
			"Clients would come back to a server that is taken out, so nobody is moved: these Services lead to the servers also while they are not Ready: %s. Take publishNotReadyAddresses off each.",
			strings.Join(d.Straying, ", "))
	case len(d.Following) == 0:
		return false, v1alpha1.ReasonNoService,
			"No Service leads to servers.port of these servers, so nobody is moved: clients that don't come through one can't be led past a server."
	case len(d.Lacking) > 0:
		return false, v1alpha1.ReasonNotGated, fmt.Sprintf(
			"%d of %d servers lack the readiness gate %s, %s among them, and nobody is moved from those: put conditionType %s into spec.readinessGates of their template, which a rollout gives them, or set failover.divert to Label.",
			len(d.Lacking), d.Pods, v1alpha1.AcceptingGate, firstOf(d.Lacking), v1alpha1.AcceptingGate)
	default:
		return true, v1alpha1.ReasonDiverted, "New clients are led past a server that is taken out, for its pod is not Ready then, by: " + strings.Join(d.Following, ", ") + "."
	}
}

// firstOf names some of many.
func firstOf(names []string) string { return strings.Join(names[:min(len(names), 5)], ", ") }
