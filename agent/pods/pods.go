// Package pods reads of a pod what those need who look at pods from outside: where it
// is reached, and what of it is worth keeping in a cache. It asks no API, and knows
// nothing of what the pods are for.
package pods

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Name is a pod's, "namespace/name".
func Name(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }

// Finished tells whether all of a pod's containers have ended for good.
func Finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// AddressOf is where a pod is reached, host:port, by a port of its containers or by a
// number; false: it is not to be reached.
func AddressOf(p *corev1.Pod, port intstr.IntOrString) (string, bool) {
	number, ok := PortOf(p, port)
	if !ok || p.Status.Phase != corev1.PodRunning || p.Status.PodIP == "" {
		return "", false
	}
	return net.JoinHostPort(p.Status.PodIP, strconv.Itoa(int(number))), true
}

// AddressesOf are all of a pod's.
func AddressesOf(p *corev1.Pod) []netip.Addr {
	var all []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			all = append(all, a.Unmap())
		}
	}
	return all
}

// PortOf finds a container's port by its name; a number is a port as it is.
func PortOf(p *corev1.Pod, port intstr.IntOrString) (uint16, bool) {
	if port.Type == intstr.Int {
		return uint16(port.IntVal), port.IntVal > 0 && port.IntVal <= 65535
	}
	// Init containers that go on running (sidecars) have ports, too.
	for _, containers := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for _, c := range containers {
			for _, cp := range c.Ports {
				if cp.Name == port.StrVal {
					return uint16(cp.ContainerPort), true
				}
			}
		}
	}
	return 0, false
}

// Serving are the ids of the containers that run now and have a port among theirs; of all
// but init containers where none names it, which nobody need.
func Serving(p *corev1.Pod, port uint16) []string {
	named := map[string]bool{}
	for _, containers := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for _, c := range containers {
			for _, cp := range c.Ports {
				if cp.ContainerPort == int32(port) {
					named[c.Name] = true
				}
			}
		}
	}
	statuses := p.Status.ContainerStatuses
	if len(named) > 0 {
		statuses = slices.Concat(statuses, p.Status.InitContainerStatuses)
	}
	var ids []string
	for _, s := range statuses {
		if _, id, ok := strings.Cut(s.ContainerID, "://"); ok && id != "" && (len(named) == 0 || named[s.Name]) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Strip is a cache's transform: it keeps of a pod what is read here, and what selects
// it, since an agent on each of thousands of nodes may hold all of a service's pods.
// Objects of other kinds are left as they are.
func Strip(o any) (any, error) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	return &corev1.Pod{
		// Caches select by labels and fields once more.
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion, Labels: p.Labels},
		Spec: corev1.PodSpec{
			NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork,
			Containers: ports(p.Spec.Containers), InitContainers: ports(p.Spec.InitContainers),
		},
		Status: corev1.PodStatus{
			Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs,
			ContainerStatuses: ids(p.Status.ContainerStatuses), InitContainerStatuses: ids(p.Status.InitContainerStatuses),
		},
	}, nil
}

// ids keeps of containers' statuses whose they are, and the containers' ids.
func ids(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	var kept []corev1.ContainerStatus
	for _, s := range statuses {
		kept = append(kept, corev1.ContainerStatus{Name: s.Name, ContainerID: s.ContainerID})
	}
	return kept
}

// ports keeps of containers the ports of those that have any.
func ports(containers []corev1.Container) []corev1.Container {
	var kept []corev1.Container
	for _, c := range containers {
		if len(c.Ports) > 0 {
			kept = append(kept, corev1.Container{Name: c.Name, Ports: c.Ports})
		}
	}
	return kept
}
