package judge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/agent/pods"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// +kubebuilder:rbac:groups=rollcall.dev,resources=presences,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=pods;nodes;services,verbs=get;list;watch

// roster is who there is, as Kubernetes says: what changes seldom. It is
// computed anew when a Presence, a pod or a node has changed.
type roster struct {
	populations []population
	nodes       map[string]node
	machines    map[string]Machine // likewise, for others to read
	// candidates are all nodes, which may watch others.
	candidates []verdict.Candidate
	pods       map[string]bool // every pod that a Presence of ours selects, "namespace/pod"
	taken      map[string]bool // and those that others' select, too
}

// population is one Presence and its members.
type population struct {
	presence *v1alpha1.Presence
	subject  string
	// refused is the reason of Accepted=False; empty: it is honoured.
	refused, why string
	pods         []Pod    // of Servers
	nodes        []string // of Nodes
	diversion    Diversion
}

// Pod is a server, as Kubernetes knows it.
type Pod struct {
	// Name is "namespace/pod".
	Name string
	UID  types.UID
	Node string
	// IP is its address, and Address where it is probed, host:port; either may be
	// empty: not known, or not to be reached.
	IP, Address string
	// Accepting is the value of AcceptingLabel; Labelled tells whether it is there.
	Accepting string
	Labelled  bool
	// Gate is the status of the condition AcceptingGate, empty where nobody has set
	// it; Gated tells whether the pod carries that gate.
	Gate                corev1.ConditionStatus
	Gated               bool
	Ready               bool
	Terminating, Paused bool
	// Revision is that of the template it was made from, and Created when, in
	// Unix seconds by the API server's clock: only their order counts.
	Revision string
	Created  int64
}

type node struct {
	name, zone string
	labels     labels.Set
	machine    Machine
}

// Machine is what matters here of a node's taints and annotations.
type Machine struct {
	// Tainted is when the taint was put on that marks dead nodes; zero: it is not
	// there, or not known. HasTaint tells which.
	HasTaint bool
	Tainted  time.Time
	// TaintedBy is the installation that did, by TaintedByAnnotation.
	TaintedBy string
	// Paused: exempt by annotation.
	Paused bool
}

// Ours tells whether an installation has put the taint on. The annotation alone
// doesn't say so: who takes the taint off by hand may leave it there, and put on
// another later. We always say when it was put on; a person's tools don't.
func (m Machine) Ours(installation string) bool {
	return m.HasTaint && !m.Tainted.IsZero() && m.TaintedBy == installation
}

// MachineOf is what matters here of a node.
func MachineOf(n *corev1.Node) Machine {
	m := Machine{TaintedBy: n.Annotations[v1alpha1.TaintedByAnnotation]}
	_, m.Paused = n.Annotations[v1alpha1.PausedAnnotation]
	for _, t := range n.Spec.Taints {
		if t.Key == v1alpha1.UnreachableTaint && t.Effect == corev1.TaintEffectNoExecute {
			m.HasTaint = true
			if t.TimeAdded != nil {
				m.Tainted = t.TimeAdded.Time
			}
		}
	}
	return m
}

// Subject of a Presence, as status.subject names it.
func Subject(p *v1alpha1.Presence) string {
	switch {
	case p.Spec.Nodes != nil:
		return v1alpha1.SubjectNodes
	case p.Spec.Servers != nil:
		return v1alpha1.SubjectServers
	default:
		return v1alpha1.SubjectClients
	}
}

// enrol reads the caches. What belongs to another installation is not judged; it
// only counts where two Presences select the same servers.
func enrol(ctx context.Context, cache client.Reader, ours v1alpha1.Installation) (*roster, error) {
	r := &roster{nodes: map[string]node{}, machines: map[string]Machine{}, pods: map[string]bool{}, taken: map[string]bool{}}
	var nodes corev1.NodeList
	if err := cache.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		r.nodes[n.Name] = node{n.Name, n.Labels[corev1.LabelTopologyZone], n.Labels, MachineOf(n)}
		r.machines[n.Name] = r.nodes[n.Name].machine
		r.candidates = append(r.candidates, verdict.Candidate{
			Observer: verdict.Observer{Name: n.Name, Zone: n.Labels[corev1.LabelTopologyZone]},
		})
	}
	slices.SortFunc(r.candidates, func(a, b verdict.Candidate) int { return cmp.Compare(a.Name, b.Name) })

	var presences v1alpha1.PresenceList
	if err := cache.List(ctx, &presences, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Presences: %w", err)
	}
	all := make([]*v1alpha1.Presence, 0, len(presences.Items))
	for i := range presences.Items {
		all = append(all, &presences.Items[i])
	}
	slices.SortFunc(all, older)
	dir := newDirectory(cache)
	for _, p := range all {
		pop, err := r.populate(ctx, dir, p, ours)
		if err != nil {
			return nil, err
		}
		for _, s := range pop.pods {
			r.taken[s.Name] = true
		}
		if !ours.Owns(p) {
			continue
		}
		for _, s := range pop.pods {
			r.pods[s.Name] = true
		}
		r.populations = append(r.populations, pop)
	}
	return r, nil
}

// older orders Presences by age: of two that want the same servers the first gets them.
func older(a, b *v1alpha1.Presence) int {
	return cmp.Or(
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// populate finds the members of a Presence. Older ones have been selected already.
func (r *roster) populate(ctx context.Context, dir *directory, p *v1alpha1.Presence, ours v1alpha1.Installation) (population, error) {
	pop := population{presence: p, subject: Subject(p)}
	switch pop.subject {
	case v1alpha1.SubjectNodes:
		if p.Namespace != ours.Namespace {
			pop.refused = v1alpha1.ReasonForeign
			pop.why = "spec.nodes is honoured in the installation's namespace only, which is " + ours.Namespace +
				"; if there is another in this namespace, label the Presence " + v1alpha1.InstallationLabel + ": " + p.Namespace + "."
			return pop, nil
		}
		selector := pop.selector(&p.Spec.Nodes.Selector)
		for _, n := range r.nodes {
			if selector.Matches(n.labels) {
				pop.nodes = append(pop.nodes, n.name)
			}
		}
		slices.Sort(pop.nodes)
	case v1alpha1.SubjectServers:
		selector := pop.selector(&p.Spec.Servers.Selector)
		selected, err := dir.pods(ctx, p.Namespace, selector)
		if err != nil {
			return pop, fmt.Errorf("listing the pods of Presence %s/%s: %w", p.Namespace, p.Name, err)
		}
		for i := range selected {
			if s := PodOf(&selected[i]); selected[i].Status.Phase != corev1.PodSucceeded && selected[i].Status.Phase != corev1.PodFailed {
				s.Address, _ = pods.AddressOf(&selected[i], p.Spec.Servers.Port)
				pop.pods = append(pop.pods, s)
			}
		}
		slices.SortFunc(pop.pods, func(a, b Pod) int { return strings.Compare(a.Name, b.Name) })
		for _, s := range pop.pods {
			if r.taken[s.Name] {
				pop.refused = v1alpha1.ReasonConflict
				pop.why = "An older Presence selects the same servers, " + s.Name + " among them."
				pop.pods = nil
				return pop, nil
			}
		}
		if ours.Owns(p) && !p.Spec.Servers.Probe.Heartbeats() {
			services, err := dir.services(ctx, p.Namespace, selected)
			if err != nil {
				return pop, fmt.Errorf("listing the Services of namespace %s: %w", p.Namespace, err)
			}
			pop.diversion = diversion(p.Spec.Servers.Failover.Divert, selected, services, p.Spec.Servers.Port)
		}
	}
	return pop, nil
}

// selector reads a selector. One that can't be read selects nothing, and has the
// Presence refused.
func (p *population) selector(s *metav1.LabelSelector) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		p.refused, p.why = v1alpha1.ReasonInvalidSelector, err.Error()
		return labels.Nothing()
	}
	return selector
}

// PodOf is what matters here of a pod.
func PodOf(p *corev1.Pod) Pod {
	s := Pod{
		Name: p.Namespace + "/" + p.Name, UID: p.UID, Node: p.Spec.NodeName, IP: p.Status.PodIP,
		Terminating: p.DeletionTimestamp != nil,
	}
	s.Accepting, s.Labelled = p.Labels[v1alpha1.AcceptingLabel]
	s.Gate, s.Gated = v1alpha1.GateOf(p), v1alpha1.Gated(p)
	s.Created = p.CreationTimestamp.Unix()
	for _, label := range []string{appsv1.ControllerRevisionHashLabelKey, appsv1.DefaultDeploymentUniqueLabelKey} {
		if r, ok := p.Labels[label]; ok {
			s.Revision = r
		}
	}
	_, s.Paused = p.Annotations[v1alpha1.PausedAnnotation]
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			s.Ready = c.Status == corev1.ConditionTrue
		}
	}
	return s
}
