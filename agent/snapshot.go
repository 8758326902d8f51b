package agent

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

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
		if port, ok := PortOf(p, intstr.FromString(GossipPort)); ok && reachable(p) && p.Spec.NodeName != "" {
			s.agents = append(s.agents, Peer{Node: p.Spec.NodeName, GossipAddress: join(p, port)})
		}
	}
	taken := map[string]bool{}
	for _, pop := range populations {
		pods := slices.DeleteFunc(slices.Clone(pop.pods), func(p corev1.Pod) bool { return finished(&p) })
		if slices.ContainsFunc(pods, func(p corev1.Pod) bool { return taken[nameOf(&p)] }) {
			continue
		}
		for i := range pods {
			taken[nameOf(&pods[i])] = true
			if t, ok := target(pop.presence, &pods[i], zones); ok {
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

// AddressOf is where a pod is probed, by the port that its Presence names; false: it
// cannot be reached.
func AddressOf(pod *corev1.Pod, port intstr.IntOrString) (string, bool) {
	number, ok := PortOf(pod, port)
	if !ok || !reachable(pod) {
		return "", false
	}
	return join(pod, number), true
}

// target makes a Target of a pod that can be reached.
func target(p *v1alpha1.Presence, pod *corev1.Pod, zones map[string]string) (Target, bool) {
	address, ok := AddressOf(pod, p.Spec.Servers.Port)
	if !ok {
		return Target{}, false
	}
	o := p.Spec.Servers.Overload
	return Target{
		Name: nameOf(pod), Node: pod.Spec.NodeName, Zone: zones[pod.Spec.NodeName], Address: address,
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

func nameOf(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }

func reachable(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodRunning && p.Status.PodIP != ""
}

func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func join(p *corev1.Pod, port int32) string {
	return net.JoinHostPort(p.Status.PodIP, strconv.Itoa(int(port)))
}

// PortOf finds a container's port by its name; a number is a port as it is.
func PortOf(p *corev1.Pod, port intstr.IntOrString) (int32, bool) {
	if port.Type == intstr.Int {
		return port.IntVal, port.IntVal > 0
	}
	// Init containers that go on running (sidecars) have ports, too.
	for _, containers := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for _, c := range containers {
			for _, cp := range c.Ports {
				if cp.Name == port.StrVal {
					return cp.ContainerPort, true
				}
			}
		}
	}
	return 0, false
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

// stripPod does the same for a pod.
func stripPod(o any) (any, error) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	ports := func(containers []corev1.Container) []corev1.Container {
		var kept []corev1.Container
		for _, c := range containers {
			if len(c.Ports) > 0 {
				kept = append(kept, corev1.Container{Ports: c.Ports})
			}
		}
		return kept
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
			// The cache selects by labels once more.
			Labels: p.Labels,
		},
		Spec: corev1.PodSpec{
			NodeName: p.Spec.NodeName, Containers: ports(p.Spec.Containers), InitContainers: ports(p.Spec.InitContainers),
		},
		Status: corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP},
	}, nil
}
