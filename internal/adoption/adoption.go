// Package adoption plans how a Service of any kind comes to follow the label
// rollcall.dev/accepting, and how it ceases to. It is pure: objects in, changes
// and sentences out. Applying them, and waiting between them, is its caller's.
//
// The order is what matters. A Service that selects a label which its pods don't
// carry leads nowhere, so the pods come first, then the templates that pods are
// made from, then the Service; and the other way round when it is undone.
package adoption

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

const (
	key = v1alpha1.AcceptingLabel
	on  = "true"
	off = "false"
)

// State is what a plan is made from: objects of one namespace.
type State struct {
	Service corev1.Service
	// Services are all of the namespace.
	Services []corev1.Service
	// Pods are at least those that Selector selects.
	Pods []corev1.Pod
	// These are at least those that own the Pods, and of a Deployment all its
	// ReplicaSets.
	Deployments  []appsv1.Deployment
	ReplicaSets  []appsv1.ReplicaSet
	StatefulSets []appsv1.StatefulSet
	DaemonSets   []appsv1.DaemonSet
	// Presences are those of the namespace, the oldest first: they say how clients are
	// led past servers.
	Presences []v1alpha1.Presence
}

// Options are what a person has asked for.
type Options struct {
	// Undo plans the way back.
	Undo bool
	// Restart allows changes of templates whose pods Kubernetes restarts then.
	Restart bool
}

// Plan is what is to be done, in this order; without steps nothing is.
type Plan struct {
	Steps []Step
	// Notes are sentences for a person, about what is not done.
	Notes []string
}

// Step is a set of changes, made in any order, and all before the next step.
type Step struct {
	// Title says what it does, and why.
	Title   string
	Changes []Change
	// Await is what must be seen of each changed object before the next step.
	Await Await
	// Last is the step that would empty the endpoints if something else were left
	// to do: a new plan must have come to nothing but this step before.
	Last bool
}

// New plans, or says in one sentence why it can't be done and what to do about
// it. Of a State in which everything is done already the plan is empty.
func New(s State, o Options) (Plan, error) {
	p := planner{State: s, Options: o, want: on}
	if o.Undo {
		p.want = ""
	}
	if err := p.plan(); err != nil {
		return Plan{}, err
	}
	return p.out, nil
}

// Selector is what a Service selects without regard to the label.
func Selector(s *corev1.Service) map[string]string {
	rest := maps.Clone(s.Spec.Selector)
	delete(rest, key)
	return rest
}

type planner struct {
	State
	Options
	// want is the value that the label is to have; empty: none.
	want string
	// live are the pods that the Service selects, or will.
	live []*corev1.Pod
	out  Plan
}

func (p *planner) plan() error {
	if err := p.selectable(); err != nil {
		return err
	}
	s := labels.SelectorFromSet(Selector(&p.Service))
	for i := range p.Pods {
		pod := &p.Pods[i]
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		if s.Matches(labels.Set(pod.Labels)) && pod.DeletionTimestamp == nil && !ended {
			p.live = append(p.live, pod)
		}
	}
	if p.Undo {
		return p.undo()
	}
	return p.adopt()
}

// selectable refuses Services that can't follow a label.
func (p *planner) selectable() error {
	s := &p.Service
	value, has := s.Spec.Selector[key]
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		return fmt.Errorf("service/%s leads to the name %s and not to pods: adopt the one that selects the pods", s.Name, s.Spec.ExternalName)
	case len(s.Spec.Selector) == 0:
		return fmt.Errorf("service/%s has no spec.selector, so that its endpoints are kept by somebody else: give it one, or adopt another Service", s.Name)
	case len(Selector(s)) == 0:
		return fmt.Errorf("service/%s selects nothing but the label %s: add to its spec.selector what tells its pods from others", s.Name, key)
	case has && value != on:
		return fmt.Errorf("service/%s selects %s: %q, where only %q means anything: correct its spec.selector", s.Name, key, value, on)
	}
	return nil
}

func (p *planner) following() bool { return p.Service.Spec.Selector[key] == on }

func (p *planner) adopt() error {
	if len(p.live) == 0 {
		return fmt.Errorf("service/%s selects no live pod, so that there is nothing to begin with: start its pods, and run this again", p.Service.Name)
	}
	if gated, err := p.gated(); gated || err != nil {
		return err
	}
	if err := p.reachable(); err != nil {
		return err
	}
	var pods []Change
	for _, pod := range p.live {
		switch value, has := pod.Labels[key]; {
		case !has:
			pods = append(pods, labelled(pod, p.want))
		case value == off:
			p.note("pod %s has %s: %q and is left so: it is out of service, and the Service leads past it until that changes", pod.Name, key, off)
		case value != on:
			return fmt.Errorf("pod/%s has %s: %q, and service/%s would lead past it: take that off (kubectl label pod %s -n %s %s-), and run this again",
				pod.Name, key, value, p.Service.Name, pod.Name, pod.Namespace, key)
		}
	}
	p.step("The live pods carry the label, so that the Service leads to them in the end as it does now.", Nothing, pods)
	if err := p.workloads(); err != nil {
		return err
	}
	if !p.following() {
		p.step("The Service selects the label, which every pod has by now.", Nothing, []Change{p.selecting(on)})
		p.out.Steps[len(p.out.Steps)-1].Last = true
	}
	for _, s := range p.others() {
		// Who asks a headless Service by a pod's name comes back to that pod anyway.
		if s.Spec.Selector[key] != on && s.Spec.ClusterIP != corev1.ClusterIPNone {
			p.note("Service %s leads to these pods too, and doesn't follow the label: adopt it as well, if clients come by it", s.Name)
		}
	}
	return nil
}

// reachable refuses to make the Service lead to nobody, where it leads to
// somebody now.
func (p *planner) reachable() error {
	if p.following() {
		return nil
	}
	before, after, in := 0, 0, 0
	for _, pod := range p.live {
		out := pod.Labels[key] == off
		if !out {
			in++
		}
		if ready(pod) {
			before++
			if !out {
				after++
			}
		}
	}
	if in == 0 || before > 0 && after == 0 {
		return fmt.Errorf("service/%s would lead to no pod: those that are ready are out of service (%s: %q); wait until their Failovers have ended, or see kubectl presence why",
			p.Service.Name, key, off)
	}
	return nil
}

func (p *planner) undo() error {
	if len(p.live) == 0 {
		p.note("service/%s selects no live pod, so that what its pods are made by is not known: run this again when there are some", p.Service.Name)
	}
	if p.following() {
		for _, pod := range p.live {
			if pod.Labels[key] == off {
				return fmt.Errorf("pod/%s is out of service (%s: %q), and this would lead clients to it again: wait until its Failover has ended, or delete the Failover or the pod",
					pod.Name, key, off)
			}
		}
		p.step("The Service selects the label no more, and leads to the same pods as before.", Spread, []Change{p.selecting("")})
	}
	for _, s := range p.others() {
		if s.Spec.Selector[key] == on {
			p.note("Service %s follows the label on these pods, so that templates and pods keep it", s.Name)
			return nil
		}
	}
	if err := p.workloads(); err != nil {
		return err
	}
	var pods []Change
	for _, pod := range p.live {
		switch value, has := pod.Labels[key]; {
		case value == on:
			pods = append(pods, labelled(pod, ""))
		case has:
			p.note("pod %s has %s: %q and is left so", pod.Name, key, value)
		}
	}
	p.step("The live pods lose the label, which nothing selects any more.", Nothing, pods)
	return nil
}

// others are the namespace's other Services that lead to any of the pods, or
// would by the label.
func (p *planner) others() []*corev1.Service {
	var all []*corev1.Service
	for i := range p.Services {
		s := &p.Services[i]
		if s.Name == p.Service.Name || len(s.Spec.Selector) == 0 || s.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		rest := labels.SelectorFromSet(Selector(s))
		for _, pod := range p.live {
			if rest.Matches(labels.Set(pod.Labels)) {
				all = append(all, s)
				break
			}
		}
	}
	return all
}

// step adds one, if there is anything to change.
func (p *planner) step(title string, await Await, changes []Change) {
	if len(changes) > 0 {
		p.out.Steps = append(p.out.Steps, Step{Title: title, Changes: changes, Await: await})
	}
}

func (p *planner) note(format string, args ...any) {
	p.out.Notes = append(p.out.Notes, fmt.Sprintf(format, args...))
}

func (p *planner) selecting(value string) Change {
	s := &p.Service
	return Change{
		Object: Object{Kind: corev1.SchemeGroupVersion.WithKind("Service"), Name: s.Name, UID: s.UID},
		Edits:  []Edit{{Path: []string{"spec", "selector", key}, From: some(s.Spec.Selector[key]), To: some(value)}},
	}
}

func labelled(pod *corev1.Pod, value string) Change {
	return Change{
		Object: Object{Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Name: pod.Name, UID: pod.UID},
		Edits:  []Edit{{Path: []string{"metadata", "labels", key}, From: some(pod.Labels[key]), To: some(value)}},
	}
}

// some is a value, or nil where there is none.
func some(value string) any {
	if value == "" {
		return nil
	}
	return value
}

func ready(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// owned tells whether an object is controlled by the one of that UID.
func owned(o metav1.Object, by types.UID) bool {
	c := metav1.GetControllerOf(o)
	return c != nil && c.UID == by
}

// Remaining is nil if nothing but a plan's last step is left to do, and else one
// sentence on what has come between.
func (p Plan) Remaining() error {
	if len(p.Steps) == 0 || p.Steps[0].Last {
		return nil
	}
	names := make([]string, 0, len(p.Steps[0].Changes))
	for _, c := range p.Steps[0].Changes {
		names = append(names, c.Object.String())
	}
	return errors.New(strings.Join(names, ", ") + " came up or changed meanwhile, without the label")
}

// Held is the Deployment that may be paused when a step has failed, as kubectl
// calls it; empty: none is.
func (p Plan) Held(failed int) string {
	for i, s := range p.Steps {
		for _, c := range s.Changes {
			for _, e := range c.Edits {
				switch {
				case e.Path[len(e.Path)-1] != HeldLabel:
				case e.To == on && i > failed:
					return ""
				case e.To == nil && i >= failed:
					return c.Object.String()
				}
			}
		}
	}
	return ""
}
