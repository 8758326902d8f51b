package judge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rollcall-dev/rollcall/agent/pods"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// service is what stands for the record of a server that has none: its pod is its
// incarnation, and its clients are the connections that its kernel counts.
func service(presence string, p Pod, k verdict.Kernel) evidence.Server {
	s := evidence.Server{
		Service: true, Known: true, Live: true,
		Record: store.Server{Incarnation: string(p.UID), Address: p.Address, Node: p.Node},
	}
	if s.Record.Address == "" {
		s.Record.Address = p.Name // so that it can receive: nobody reads where it is
	}
	if k.Connections > 0 {
		s.Record.Sessions = map[string]int{presence: k.Connections}
		s.Well.Clients = k.Connections
	}
	return s
}

// known is what is known of a server at a time: of one that has no record, as of
// the last judgement.
func (j *Judge) known(r *Result, server string, now time.Time) evidence.Server {
	if s, ok := r.Servers[server]; ok && s.Service {
		return s
	}
	return j.cfg.Book.Server(server, now)
}

// service is what a Failover must know of one of its servers that has no record.
func (p *Population) service(server string, severed *v1alpha1.Severed) *failover.Service {
	s := &failover.Service{Severed: severed, Left: -1}
	for name, e := range p.evidence {
		switch {
		case name == server && e.Kernel.Online:
			s.Left = e.Kernel.Connections
		case name != server && e.Kernel.Connections > 0:
			s.Elsewhere += e.Kernel.Connections
		}
	}
	return s
}

// Diversion is who leads new clients to the servers of a Presence that are not
// heartbeat servers. Those do so themselves.
type Diversion struct {
	// Pods is how many there are, and Unlabelled those without AcceptingLabel, by name.
	Pods       int
	Unlabelled []string
	// Following are the Services that follow the label, and Straying those that
	// don't, and would lead clients back to a server that was taken out, by name.
	Following, Straying []string
}

// Holds tells whether new clients can be led away from any pod that is labelled.
func (d Diversion) Holds() bool { return len(d.Following) > 0 && len(d.Straying) == 0 }

// diversion looks at all Services of a namespace. Those without an address of their
// own don't count: whoever asks one by name has chosen the pod. Nor do those that
// lead to other ports.
func diversion(pods []corev1.Pod, services []corev1.Service, port intstr.IntOrString) Diversion {
	var d Diversion
	following, straying := map[string]bool{}, map[string]bool{}
	for i := range pods {
		pod := &pods[i]
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || pod.DeletionTimestamp != nil {
			continue
		}
		d.Pods++
		if _, labelled := pod.Labels[v1alpha1.AcceptingLabel]; !labelled {
			d.Unlabelled = append(d.Unlabelled, pod.Name)
		}
		for j := range services {
			s := &services[j]
			if !selects(s.Spec.Selector, pod.Labels) || !leads(s, pod, port) {
				continue
			}
			if s.Spec.Selector[v1alpha1.AcceptingLabel] != "" {
				following[s.Name] = true
			} else if s.Spec.ClusterIP != corev1.ClusterIPNone {
				straying[s.Name] = true
			}
		}
	}
	slices.Sort(d.Unlabelled)
	d.Following, d.Straying = slices.Sorted(maps.Keys(following)), slices.Sorted(maps.Keys(straying))
	return d
}

// selects tells whether a Service would select a pod that accepts. There may be
// thousands of either.
func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if key == v1alpha1.AcceptingLabel && value != "true" || key != v1alpha1.AcceptingLabel && labels[key] != value {
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
	switch {
	case len(d.Straying) > 0:
		return false, v1alpha1.ReasonNotFollowing, fmt.Sprintf(
			"Clients would come back to a server that is taken out, so nobody is moved: these Services lead to the servers and do not select %s: %s. Run kubectl presence adopt for each.",
			v1alpha1.AcceptingLabel, strings.Join(d.Straying, ", "))
	case len(d.Following) == 0:
		return false, v1alpha1.ReasonNoService, fmt.Sprintf(
			`No Service that selects %s: "true" leads to servers.port of these servers, so nobody is moved. Run kubectl presence adopt for the Service that clients come through.`, v1alpha1.AcceptingLabel)
	case len(d.Unlabelled) > 0:
		return false, v1alpha1.ReasonNotLabelled, fmt.Sprintf(
			"%d of %d servers, %s among them, lack the label %s, so that no Service leads to them, and nobody is moved from them: put it into their template.",
			len(d.Unlabelled), d.Pods, d.Unlabelled[0], v1alpha1.AcceptingLabel)
	default:
		return true, v1alpha1.ReasonDiverted, "New clients are led past a server that is taken out by: " + strings.Join(d.Following, ", ") + "."
	}
}
