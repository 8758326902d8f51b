package adoption

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// workloads plans the changes of the templates that the live pods are made from.
func (p *planner) workloads() error {
	done := map[types.UID]bool{}
	for _, pod := range p.live {
		owner := metav1.GetControllerOf(pod)
		if owner == nil {
			if !p.Undo {
				p.note("pod %s belongs to no workload: whoever makes it anew must give it the label %s: %q, or the Service won't lead to it", pod.Name, key, on)
			}
			continue
		}
		if done[owner.UID] {
			continue
		}
		known, err := p.workload(pod, owner)
		if err != nil {
			return err
		}
		done[owner.UID] = known
	}
	return nil
}

// workload plans for the owner of a pod. Known is one with a template, which is
// looked at once for all its pods.
func (p *planner) workload(pod *corev1.Pod, owner *metav1.OwnerReference) (known bool, err error) {
	for i := range p.ReplicaSets {
		if rs := &p.ReplicaSets[i]; rs.UID == owner.UID {
			return p.replicaSet(pod, rs)
		}
	}
	for i := range p.StatefulSets {
		if s := &p.StatefulSets[i]; s.UID == owner.UID {
			return true, p.statefulSet(s)
		}
	}
	for i := range p.DaemonSets {
		if d := &p.DaemonSets[i]; d.UID == owner.UID {
			return true, p.daemonSet(d)
		}
	}
	return false, p.foreign(pod, owner.Kind, owner.Name)
}

// foreign is for pods whose template is somebody else's to change.
func (p *planner) foreign(pod *corev1.Pod, kind, name string) error {
	switch _, has := pod.Labels[key]; {
	case p.Undo:
		p.note("%s %s makes pod %s: take the label out of its pod template yourself, if it is there", kind, name, pod.Name)
	case !has:
		return fmt.Errorf("pod/%s is made by %s %s, which is no Deployment, StatefulSet, DaemonSet or ReplicaSet: put %s: %q into its pod template yourself, and run this again when its pods have it",
			pod.Name, kind, name, key, on)
	default:
		p.note("pod %s is made by %s %s: see that its pod template has %s: %q, for pods made anew", pod.Name, kind, name, key, on)
	}
	return nil
}

// managed notes that somebody else may take back what is changed here.
func (p *planner) managed(o metav1.Object, name string) {
	if owner := metav1.GetControllerOf(o); owner != nil {
		p.note("%s belongs to %s %s, which may take the change back: make it there as well", name, owner.Kind, owner.Name)
	}
}

func (p *planner) replicaSet(pod *corev1.Pod, rs *appsv1.ReplicaSet) (known bool, err error) {
	owner := metav1.GetControllerOf(rs)
	if owner == nil {
		change, needed, err := p.template(objectOf("ReplicaSet", rs), &rs.Spec.Template)
		if needed {
			p.step("Pods that it makes anew "+p.born()+"; nothing restarts.", Observed, []Change{change})
		}
		return true, err
	}
	for i := range p.Deployments {
		if d := &p.Deployments[i]; d.UID == owner.UID {
			return true, p.deployment(pod, rs, d)
		}
	}
	return false, p.foreign(pod, owner.Kind, owner.Name)
}

func (p *planner) statefulSet(s *appsv1.StatefulSet) error {
	object := objectOf("StatefulSet", s)
	change, needed, err := p.template(object, &s.Spec.Template)
	rolling := s.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType
	var partition int32
	if r := s.Spec.UpdateStrategy.RollingUpdate; rolling && r != nil && r.Partition != nil {
		partition = *r.Partition
	}
	switch {
	case err != nil:
		return err
	case needed && partition > 0:
		return fmt.Errorf("%s has spec.updateStrategy.rollingUpdate.partition %d, so that pods below would be made anew from the old template: set it to 0, wait for %s, and run this again",
			object, partition, object.rollout())
	case !needed && !p.Undo && !p.following() && rolling && s.Status.CurrentRevision != s.Status.UpdateRevision:
		return fmt.Errorf("%s is being rolled out, and may still make pods from the old template: wait for %s, and run this again", object, object.rollout())
	case needed:
		p.managed(s, object.String())
		return p.restarting(object, change, rolling)
	}
	return nil
}

func (p *planner) daemonSet(d *appsv1.DaemonSet) error {
	object := objectOf("DaemonSet", d)
	change, needed, err := p.template(object, &d.Spec.Template)
	if err != nil || !needed {
		return err
	}
	p.managed(d, object.String())
	return p.restarting(object, change, d.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType)
}

// restarting changes a template whose pods Kubernetes tells apart by the revision
// that they were made from: with RollingUpdate there is no way around a restart.
func (p *planner) restarting(object Object, change Change, rolling bool) error {
	switch {
	case !rolling:
		p.step("Pods that it makes anew "+p.born()+"; nothing restarts, for its updateStrategy is OnDelete.", Observed, []Change{change})
	case !p.Restart:
		return fmt.Errorf("%s has the updateStrategy RollingUpdate, so that Kubernetes restarts its pods when its template changes: allow that with --restart, or set spec.updateStrategy.type to OnDelete for as long as nothing may restart",
			object)
	default:
		p.step("Pods that it makes anew "+p.born()+". THIS RESTARTS ALL ITS PODS, by its updateStrategy, and is waited for.", RolledOut, []Change{change})
	}
	return nil
}

// born words what is to be true of pods that are made later.
func (p *planner) born() string {
	if p.Undo {
		return "are born without the label"
	}
	return "are born with the label"
}

// template is the change that a pod template needs, if any.
func (p *planner) template(o Object, t *corev1.PodTemplateSpec) (change Change, needed bool, err error) {
	value, has := t.Labels[key]
	if has && value != on {
		return Change{}, false, fmt.Errorf("the pod template of %s has %s: %q: set it to %q, or take it out, and run this again", o, key, value, on)
	}
	return Change{Object: o, Edits: []Edit{{Path: []string{"spec", "template", "metadata", "labels", key}, From: some(value), To: some(p.want)}}}, value != p.want, nil
}

func objectOf(kind string, o metav1.Object) Object {
	return Object{Kind: schema.GroupVersionKind{Group: appsv1.GroupName, Version: "v1", Kind: kind}, Name: o.GetName(), UID: o.GetUID()}
}
