package adoption

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// HeldLabel, on a Deployment, says that it was paused here, and is to be resumed
// here. It is a label because Kubernetes copies annotations of a Deployment to its
// ReplicaSets, and back when it is rolled back.
const HeldLabel = "rollcall.dev/adopting"

// deployment plans the change of a Deployment's template without a rollout.
//
// Kubernetes rolls a Deployment out when none of its ReplicaSets has the same
// template, but for the label pod-template-hash (FindNewReplicaSet and
// EqualIgnoreHash in pkg/controller/deployment/util). A ReplicaSet's template may
// be changed, and restarts nothing. So both are changed alike; and as each alone
// would set off a rollout at once, the Deployment is paused in between: then its
// controller makes no ReplicaSet (getNewReplicaSet is called with
// createIfNotExisted false). That the pause has been seen is told by the
// Deployment's status.observedGeneration, and that the ReplicaSets have been by
// theirs: both controllers read ReplicaSets from one cache.
//
// Former revisions get the label too, so that a rollback doesn't make pods that
// the Service leads past.
func (p *planner) deployment(pod *corev1.Pod, of *appsv1.ReplicaSet, d *appsv1.Deployment) error {
	object := objectOf("Deployment", d)
	change, needed, err := p.template(object, &d.Spec.Template)
	if err != nil {
		return err
	}
	held := d.Spec.Paused && d.Labels[HeldLabel] == on
	if !needed && !held && (p.Undo || p.following()) {
		return nil
	}
	all := p.revisions(d)
	current := newest(d, all)
	switch {
	case current == nil && d.Spec.Paused:
		return fmt.Errorf("%s is paused with changes that are not rolled out: resume it, wait for %s, and run this again", object, object.rollout())
	case current == nil || current.UID != of.UID || slices.ContainsFunc(all, func(rs *appsv1.ReplicaSet) bool { return rs != current && populated(rs) }):
		return fmt.Errorf("%s is being rolled out (pod %s is of ReplicaSet %s): wait for %s, and run this again", object, pod.Name, of.Name, object.rollout())
	case !needed && !held:
		return nil
	}
	for _, rs := range all {
		if rs == current {
			break
		}
		if alike(&rs.Spec.Template, &current.Spec.Template, key) {
			return fmt.Errorf("%s has an older ReplicaSet %s that is like the present one but for the label, and Kubernetes would go back to it: delete that (kubectl delete replicaset %s -n %s; it has no pods), and run this again",
				object, rs.Name, rs.Name, rs.Namespace)
		}
	}
	var sets []Change
	for _, rs := range all {
		change, needed, err := p.template(objectOf("ReplicaSet", rs), &rs.Spec.Template)
		if err != nil {
			return err
		}
		if needed {
			sets = append(sets, change)
		}
	}
	p.managed(d, object.String())
	if !d.Spec.Paused {
		held = true
		p.step("The Deployment is paused for a moment, so that Kubernetes rolls nothing out while its parts differ.", Observed, []Change{{Object: object, Edits: []Edit{
			{Path: []string{"metadata", "labels", HeldLabel}, From: some(d.Labels[HeldLabel]), To: on},
			{Path: []string{"spec", "paused"}, To: true},
		}}})
	}
	p.step("Pods of its ReplicaSets "+p.born()+", those of former revisions too, for a rollback.", Observed, sets)
	title := "So does its own template, which is that of a ReplicaSet then: nothing restarts."
	if !needed {
		change.Edits = nil
		title = "Its own template is as it should be."
	}
	if held {
		title += " It goes on."
		change.Edits = append(change.Edits,
			Edit{Path: []string{"spec", "paused"}, From: true},
			Edit{Path: []string{"metadata", "labels", HeldLabel}, From: on})
	}
	if len(change.Edits) > 0 {
		p.step(title, Observed, []Change{change})
	}
	return nil
}

// revisions are a Deployment's ReplicaSets, oldest first, as Kubernetes looks at
// them.
func (p *planner) revisions(d *appsv1.Deployment) []*appsv1.ReplicaSet {
	var all []*appsv1.ReplicaSet
	for i := range p.ReplicaSets {
		if rs := &p.ReplicaSets[i]; owned(rs, d.UID) {
			all = append(all, rs)
		}
	}
	slices.SortFunc(all, func(a, b *appsv1.ReplicaSet) int {
		if d := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}

// newest is the ReplicaSet that Kubernetes holds to be the Deployment's present
// one, or, of a Deployment that is paused in the middle, the one that will be.
func newest(d *appsv1.Deployment, all []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	for _, rs := range all {
		if alike(&rs.Spec.Template, &d.Spec.Template) {
			return rs
		}
	}
	for _, rs := range all {
		if d.Spec.Paused && populated(rs) && alike(&rs.Spec.Template, &d.Spec.Template, key) {
			return rs
		}
	}
	return nil
}

// alike tells whether templates are the same but for the hash and some labels.
func alike(a, b *corev1.PodTemplateSpec, but ...string) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	for _, l := range append(but, appsv1.DefaultDeploymentUniqueLabelKey) {
		delete(a.Labels, l)
		delete(b.Labels, l)
	}
	return equality.Semantic.DeepEqual(a, b)
}

// populated tells whether a ReplicaSet has pods, or should.
func populated(rs *appsv1.ReplicaSet) bool {
	return rs.Status.Replicas > 0 || rs.Spec.Replicas == nil || *rs.Spec.Replicas > 0
}
