package agent

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rollcall-dev/rollcall/agent/pods"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// What the API's defaults are, for a Presence from before they were.
const (
	defaultAnswerTime = 500 * time.Millisecond
	defaultWindow     = time.Second
	defaultObservers  = 3
)

// snapshot is what the API says at one moment, in the order of names. It is
// never changed.
type snapshot struct {
	nodes   []Node
	agents  []Peer
	servers []Target
}

func (s *snapshot) equal(o *snapshot) bool {
	return slices.Equal(s.nodes, o.nodes) && slices.Equal(s.agents, o.agents) && slices.Equal(s.servers, o.servers)
}

// population is a Presence of servers, and the pods that it selects.
type population struct {
	presence *v1alpha1.Presence
	pods     []corev1.Pod
}

// compose draws a snapshot from objects. populations come in the order of age:
// a Presence that selects a pod of an older one is not honoured.
func compose(nodes []corev1.Node, agents []corev1.Pod, populations []population) *snapshot {
	s := &snapshot{}
	zones := map[string]string{}
	for i := range nodes {
		n := Node{Name: nodes[i].Name, Zone: nodes[i].Labels[corev1.LabelTopologyZone], Address: addressOf(&nodes[i])}
		zones[n.Name] = n.Zone
		s.nodes = append(s.nodes, n)
	}
	for i := range agents {
		p := &agents[i]
		if address, ok := pods.AddressOf(p, intstr.FromString(GossipPort)); ok && p.Spec.NodeName != "" {
			s.agents = append(s.agents, Peer{Node: p.Spec.NodeName, GossipAddress: address})
		}
	}
	taken := map[string]bool{}
	for _, pop := range populations {
		here := slices.DeleteFunc(slices.Clone(pop.pods), func(p corev1.Pod) bool { return pods.Finished(&p) })
		if slices.ContainsFunc(here, func(p corev1.Pod) bool { return taken[pods.Name(&p)] }) {
			continue
		}
		for i := range here {
			taken[pods.Name(&here[i])] = true
			if t, ok := target(pop.presence, &here[i], zones); ok {
				s.servers = append(s.servers, t)
			}
		}
	}
	slices.SortFunc(s.nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.agents, func(a, b Peer) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.GossipAddress, b.GossipAddress))
	})
	slices.SortFunc(s.servers, func(a, b Target) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// target makes a Target of a pod that can be reached.
func target(p *v1alpha1.Presence, pod *corev1.Pod, zones map[string]string) (Target, bool) {
	address, ok := pods.AddressOf(pod, p.Spec.Servers.Port)
	if !ok {
		return Target{}, false
	}
	o := p.Spec.Servers.Overload
	return Target{
		Name: pods.Name(pod), Node: pod.Spec.NodeName, Zone: zones[pod.Spec.NodeName], Address: address,
		AnswerTime: cmp.Or(o.AnswerTime.Duration, defaultAnswerTime),
		Window:     cmp.Or(o.Window.Duration, defaultWindow),
		Observers:  cmp.Or(int(o.Observers), defaultObservers),
		Presence:   p.Namespace + "/" + p.Name,
		Question:   question(p.Spec.Servers.Probe),
	}, true
}

// older orders Presences by age, as the controller does.
func older(a, b v1alpha1.Presence) int {
	return cmp.Or(
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// addressOf is a node's IP address, the internal one if it has one.
func addressOf(n *corev1.Node) string {
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, a := range n.Status.Addresses {
			if a.Type == kind {
				return a.Address
			}
		}
	}
	return ""
}

// stripNode keeps of a node what compose reads: an agent on each of thousands of
// nodes holds all of them.
func stripNode(o any) (any, error) {
	n, ok := o.(*corev1.Node)
	if !ok {
		return o, nil
	}
	zone := n.Labels[corev1.LabelTopologyZone]
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion,
			Labels: map[string]string{corev1.LabelTopologyZone: zone},
		},
		Status: corev1.NodeStatus{Addresses: n.Status.Addresses},
	}, nil
}
