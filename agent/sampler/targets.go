package sampler

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/agent/pods"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// defaultWindow is the API's, for a Presence from before there was one.
const defaultWindow = time.Second

// Target is a server of this node.
type Target struct {
	Server    string // "namespace/pod"
	Presence  types.NamespacedName
	UID       types.UID
	Addresses []netip.Addr
	Port      uint16
	// Containers are the ids of those that serve Port, as far as they have begun.
	Containers []string
	// Window is the Presence's.
	Window time.Duration
	// Refused is why its kernel can't be asked, and what to do about it; empty: it can.
	Refused string
}

func (t Target) equal(o Target) bool {
	return t.Server == o.Server && t.Presence == o.Presence && t.UID == o.UID && t.Port == o.Port && t.Window == o.Window && t.Refused == o.Refused &&
		slices.Equal(t.Addresses, o.Addresses) && slices.Equal(t.Containers, o.Containers)
}

// compose finds the targets among a node's pods: those that a Presence of services
// selects, by the oldest where several do. Heartbeat servers say themselves how
// many they hold, and whether they keep up.
func compose(presences []v1alpha1.Presence, here []corev1.Pod, ours v1alpha1.Installation, node string) []Target {
	presences = slices.Clone(presences)
	slices.SortFunc(presences, func(a, b v1alpha1.Presence) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	var all []Target
	taken := map[types.UID]bool{}
	for i := range presences {
		p := &presences[i]
		if p.Spec.Servers == nil || !ours.Owns(p) {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(&p.Spec.Servers.Selector)
		if err != nil {
			continue // the controller says so in the Presence
		}
		for j := range here {
			pod := &here[j]
			if pod.Namespace != p.Namespace || pod.Spec.NodeName != node || taken[pod.UID] || !selector.Matches(labels.Set(pod.Labels)) {
				continue
			}
			taken[pod.UID] = true
			if t, ok := targetOf(p, pod); ok && !p.Spec.Servers.Probe.Heartbeats() {
				all = append(all, t)
			}
		}
	}
	slices.SortFunc(all, func(a, b Target) int { return strings.Compare(a.Server, b.Server) })
	return all
}

// targetOf is false for a pod that does not run, or is not to be reached yet.
func targetOf(p *v1alpha1.Presence, pod *corev1.Pod) (Target, bool) {
	t := Target{
		Server: pods.Name(pod), Presence: client.ObjectKeyFromObject(p), UID: pod.UID, Addresses: pods.AddressesOf(pod),
		Window: cmp.Or(p.Spec.Servers.Overload.Window.Duration, defaultWindow),
	}
	if pod.Status.Phase != corev1.PodRunning || len(t.Addresses) == 0 {
		return t, false
	}
	port, known := pods.PortOf(pod, p.Spec.Servers.Port)
	t.Port, t.Containers = port, pods.Serving(pod, port)
	switch {
	case pod.Spec.HostNetwork:
		t.Refused = "the pod shares its node's network, where its connections can't be told from others' for certain: take hostNetwork off it"
	case !known:
		t.Refused = fmt.Sprintf("no container of the pod has a port called %q: set spec.servers.port of Presence %s to one that it has, or to its number",
			p.Spec.Servers.Port.String(), p.Name)
	}
	return t, true
}

// doubted are the servers that are called Suspect, or worse, in the statuses of
// Presences of services, which list some of them: who is not listed waits a little longer to be counted.
func doubted(presences []v1alpha1.Presence) map[string]bool {
	all := map[string]bool{}
	for i := range presences {
		p := &presences[i]
		if p.Spec.Servers == nil || p.Spec.Servers.Probe.Heartbeats() {
			continue
		}
		for _, m := range p.Status.NotAlive {
			if m.State != string(verdict.Unknown) {
				all[p.Namespace+"/"+m.Name] = true
			}
		}
	}
	return all
}

// moving are the Presences of whose servers one is losing its clients now: the
// connections of all are counted more often then.
func moving(failovers []v1alpha1.Failover) map[types.NamespacedName]bool {
	all := map[types.NamespacedName]bool{}
	for i := range failovers {
		c := meta.FindStatusCondition(failovers[i].Status.Conditions, v1alpha1.ConditionProcessing)
		if c != nil && c.Status == metav1.ConditionTrue && c.Reason == v1alpha1.ReasonMoving {
			all[types.NamespacedName{Namespace: failovers[i].Namespace, Name: failovers[i].Spec.Presence}] = true
		}
	}
	return all
}
