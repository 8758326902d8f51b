package adoption

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid of " + name)}
}

func by(kind, name string) []metav1.OwnerReference {
	return []metav1.OwnerReference{{Kind: kind, Name: name, UID: types.UID("uid of " + name), Controller: new(true)}}
}

func service(name string, selector map[string]string) corev1.Service {
	return corev1.Service{ObjectMeta: meta(name), Spec: corev1.ServiceSpec{Selector: selector}}
}

func pod(name string, l map[string]string, owner []metav1.OwnerReference) corev1.Pod {
	p := corev1.Pod{ObjectMeta: meta(name), Status: corev1.PodStatus{
		Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}}
	p.Labels, p.OwnerReferences = l, owner
	return p
}

func template(image string, l map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: l},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: image}}},
	}
}

// shop is a Service of two pods of a Deployment that has been rolled out once.
func shop() State {
	app := func(hash string) map[string]string {
		l := map[string]string{"app": "web"}
		if hash != "" {
			l[appsv1.DefaultDeploymentUniqueLabelKey] = hash
		}
		return l
	}
	d := appsv1.Deployment{ObjectMeta: meta("web"), Spec: appsv1.DeploymentSpec{Template: template("web:2", app(""))}}
	set := func(name, image, hash string, replicas int32, age time.Duration) appsv1.ReplicaSet {
		rs := appsv1.ReplicaSet{ObjectMeta: meta(name), Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Template: template(image, app(hash))}}
		rs.OwnerReferences, rs.CreationTimestamp = by("Deployment", "web"), metav1.NewTime(time.Unix(1e9, 0).Add(-age))
		return rs
	}
	s := service("web", map[string]string{"app": "web"})
	return State{
		Service: s, Services: []corev1.Service{s},
		Pods:        []corev1.Pod{pod("web-1-a", app("1"), by("ReplicaSet", "web-1")), pod("web-1-b", app("1"), by("ReplicaSet", "web-1"))},
		Deployments: []appsv1.Deployment{d},
		ReplicaSets: []appsv1.ReplicaSet{set("web-0", "web:1", "0", 0, time.Hour), set("web-1", "web:2", "1", 2, time.Minute)},
	}
}

// database is a Service of two pods of a StatefulSet.
func database(strategy appsv1.StatefulSetUpdateStrategyType) State {
	app := func() map[string]string { return map[string]string{"app": "db"} }
	s := service("db", app())
	set := appsv1.StatefulSet{
		ObjectMeta: meta("db"),
		Spec:       appsv1.StatefulSetSpec{Template: template("db:1", app()), UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: strategy}},
		Status:     appsv1.StatefulSetStatus{CurrentRevision: "db-1", UpdateRevision: "db-1"},
	}
	return State{
		Service: s, Services: []corev1.Service{s}, StatefulSets: []appsv1.StatefulSet{set},
		Pods: []corev1.Pod{pod("db-0", app(), by("StatefulSet", "db")), pod("db-1", app(), by("StatefulSet", "db"))},
	}
}

func partition(n int32) *appsv1.RollingUpdateStatefulSetStrategy {
	return &appsv1.RollingUpdateStatefulSetStrategy{Partition: &n}
}

// gateway is a Service of one pod of a DaemonSet.
func gateway(strategy appsv1.DaemonSetUpdateStrategyType) State {
	app := func() map[string]string { return map[string]string{"app": "gw"} }
	s := service("gw", app())
	set := appsv1.DaemonSet{
		ObjectMeta: meta("gw"),
		Spec:       appsv1.DaemonSetSpec{Template: template("gw:1", app()), UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: strategy}},
	}
	return State{
		Service: s, Services: []corev1.Service{s}, DaemonSets: []appsv1.DaemonSet{set},
		Pods: []corev1.Pod{pod("gw-x", app(), by("DaemonSet", "gw"))},
	}
}

// diverting is the Presence of a State's pods, with so many of them gated.
func diverting(s State, mode v1alpha1.DivertMode, gated int) State {
	s.Presences = []v1alpha1.Presence{{ObjectMeta: meta("web"), Spec: v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
		Selector: metav1.LabelSelector{MatchLabels: map[string]string{"app": s.Pods[0].Labels["app"]}},
		Probe:    v1alpha1.ProbeSpec{HTTP: &v1alpha1.HTTPProbe{}},
		Failover: v1alpha1.FailoverPolicy{Divert: mode},
	}}}}
	for i := range gated {
		s.Pods[i].Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: v1alpha1.AcceptingGate}}
	}
	return s
}

// adopted is a State in which everything carries the label.
func adopted(s State) State {
	s.Service.Spec.Selector[key] = on // and with it the one among Services
	for i := range s.Pods {
		s.Pods[i].Labels[key] = on
	}
	for i := range s.Deployments {
		s.Deployments[i].Spec.Template.Labels[key] = on
	}
	for i := range s.ReplicaSets {
		s.ReplicaSets[i].Spec.Template.Labels[key] = on
	}
	for i := range s.StatefulSets {
		s.StatefulSets[i].Spec.Template.Labels[key] = on
	}
	for i := range s.DaemonSets {
		s.DaemonSets[i].Spec.Template.Labels[key] = on
	}
	return s
}

// objects are all of a State, by what kubectl calls them.
func objects(s *State) map[string]runtime.Object {
	all := map[string]runtime.Object{"service/" + s.Service.Name: &s.Service}
	for i := range s.Pods {
		all["pod/"+s.Pods[i].Name] = &s.Pods[i]
	}
	for i := range s.Deployments {
		all["deployment.apps/"+s.Deployments[i].Name] = &s.Deployments[i]
	}
	for i := range s.ReplicaSets {
		all["replicaset.apps/"+s.ReplicaSets[i].Name] = &s.ReplicaSets[i]
	}
	for i := range s.StatefulSets {
		all["statefulset.apps/"+s.StatefulSets[i].Name] = &s.StatefulSets[i]
	}
	for i := range s.DaemonSets {
		all["daemonset.apps/"+s.DaemonSets[i].Name] = &s.DaemonSets[i]
	}
	return all
}

// apply makes the changes of a step as an API server would, one after another,
// and looks after each whether the endpoints and the pods are as they should be.
func apply(t *testing.T, s *State, step Step) {
	t.Helper()
	for _, c := range step.Changes {
		object := objects(s)[c.Object.String()]
		if object == nil {
			t.Fatalf("there is no %s", c.Object)
		}
		raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Patch(&unstructured.Unstructured{Object: raw}); err != nil {
			t.Fatal(err)
		}
		for _, e := range c.Edits {
			if e.To == nil {
				unstructured.RemoveNestedField(raw, e.Path...)
			} else if err := unstructured.SetNestedField(raw, e.To, e.Path...); err != nil {
				t.Fatal(err)
			}
		}
		if service, ok := object.(*corev1.Service); ok {
			service.Spec.Selector = nil // decoding adds to a map that is there
		} else {
			clear(labelsOf(object))
		}
		if d, ok := object.(*appsv1.Deployment); ok {
			d.Spec.Paused, d.Labels = false, nil
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, object); err != nil {
			t.Fatal(err)
		}
		holds(t, s, c)
	}
}

// labelsOf are the labels of a pod, or of a template.
func labelsOf(o runtime.Object) map[string]string {
	switch o := o.(type) {
	case *corev1.Pod:
		return o.Labels
	case *appsv1.Deployment:
		return o.Spec.Template.Labels
	case *appsv1.ReplicaSet:
		return o.Spec.Template.Labels
	case *appsv1.StatefulSet:
		return o.Spec.Template.Labels
	case *appsv1.DaemonSet:
		return o.Spec.Template.Labels
	}
	return nil
}

// holds checks what must be true at every moment.
func holds(t *testing.T, s *State, after Change) {
	t.Helper()
	selected := labels.SelectorFromSet(s.Service.Spec.Selector)
	for i := range s.Pods {
		if !selected.Matches(labels.Set(s.Pods[i].Labels)) {
			t.Errorf("after %s the Service leads past pod %s", after.Object, s.Pods[i].Name)
		}
	}
	if s.Service.Spec.Selector[key] == on {
		for name, o := range objects(s) {
			if l := labelsOf(o); l != nil && l[key] != on {
				t.Errorf("after %s the Service follows, and %s would make pods that it leads past", after.Object, name)
			}
		}
	}
	for i := range s.Deployments {
		d := &s.Deployments[i]
		p := planner{State: *s}
		var found *appsv1.ReplicaSet
		for _, rs := range p.revisions(d) {
			if found == nil && alike(&rs.Spec.Template, &d.Spec.Template) {
				found = rs
			}
		}
		if !d.Spec.Paused && (found == nil || !populated(found)) {
			t.Errorf("after %s Kubernetes would roll Deployment %s out", after.Object, d.Name)
		}
	}
}

func TestAtNoMomentIsAServerLeftOutOrRestarted(t *testing.T) {
	for name, s := range map[string]State{"Deployment": shop(), "StatefulSet": database("OnDelete"), "DaemonSet": gateway("OnDelete")} {
		t.Run(name, func(t *testing.T) {
			for _, o := range []Options{{}, {Undo: true}} {
				plan, err := New(s, o)
				if err != nil {
					t.Fatal(err)
				}
				// Stopped after any step it goes on where it was.
				for range 10 {
					if len(plan.Steps) == 0 {
						break
					}
					apply(t, &s, plan.Steps[0])
					s.Services[0] = s.Service
					if plan, err = New(s, o); err != nil {
						t.Fatal(err)
					}
				}
				if len(plan.Steps) > 0 {
					t.Fatalf("it comes to no end: %s", plan.Diff())
				}
			}
			for name, o := range objects(&s) {
				if _, has := labelsOf(o)[key]; has {
					t.Errorf("%s has the label after it was undone", name)
				}
			}
		})
	}
}
