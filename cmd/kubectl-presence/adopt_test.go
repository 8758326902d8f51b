package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/adoption"
)

// shop is a namespace with Service web and two pods of Deployment web, which is
// rolled out.
type shop struct {
	*world
	pods []*corev1.Pod
}

func newShop(t *testing.T) *shop {
	w := &shop{world: newWorld(t)}
	app := map[string]string{"app": "web"}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: app},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none"}}},
	}
	w.create(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: app, Ports: []corev1.ServicePort{{Port: 80}}},
	})
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: app}, Template: template},
	}
	w.create(d)
	hashed := map[string]string{"app": "web", appsv1.DefaultDeploymentUniqueLabelKey: "1"}
	template.Labels = hashed
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.namespace, Name: "web-1", Labels: hashed,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: hashed}, Template: template},
	}
	w.create(rs)
	for _, name := range []string{"web-1-a", "web-1-b"} {
		w.pods = append(w.pods, w.born(name, hashed, metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))))
	}
	return w
}

// born makes a pod as its controller would.
func (w *shop) born(name string, labels map[string]string, owner *metav1.OwnerReference) *corev1.Pod {
	w.t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: labels, OwnerReferences: []metav1.OwnerReference{*owner}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none"}}},
	}
	w.create(p)
	return p
}

// observe plays the controllers of Deployments and ReplicaSets: it tells that
// they have seen each change, and calls seen before, unless that is nil.
func (w *shop) observe(seen func(client.Object)) (stop func()) {
	w.t.Helper()
	var watches []watch.Interface
	done := make(chan error, 2)
	for _, list := range []client.ObjectList{&appsv1.DeploymentList{}, &appsv1.ReplicaSetList{}} {
		events, err := w.api.Watch(w.t.Context(), list, client.InNamespace(w.namespace))
		if err != nil {
			w.t.Fatal(err)
		}
		watches = append(watches, events)
		go func() { done <- w.follow(events, seen) }()
	}
	return func() {
		w.t.Helper()
		for _, events := range watches {
			events.Stop()
			if err := <-done; err != nil {
				w.t.Error(err)
			}
		}
	}
}

func (w *shop) follow(events watch.Interface, seen func(client.Object)) error {
	ctx := context.WithoutCancel(w.t.Context())
	for e := range events.ResultChan() {
		o, ok := e.Object.(client.Object)
		if !ok {
			continue
		}
		before, ok := o.DeepCopyObject().(client.Object)
		if !ok {
			continue
		}
		switch o := o.(type) {
		case *appsv1.Deployment:
			o.Status.ObservedGeneration = o.Generation
		case *appsv1.ReplicaSet:
			o.Status.ObservedGeneration = o.Generation
			o.Status.Replicas = *o.Spec.Replicas
		}
		if seen != nil {
			seen(o)
		}
		if err := w.api.Status().Patch(ctx, o, client.MergeFrom(before)); err != nil {
			return err
		}
	}
	return nil
}

// adopt runs the command for Service web, with what a person answers.
func (w *shop) adopt(answer string, args ...string) (status int, said string) {
	w.t.Helper()
	return w.adoptAs(w.cp.AdminKubeconfig(), answer, args...)
}

func (w *shop) adoptAs(kubeconfig, answer string, args ...string) (status int, said string) {
	w.t.Helper()
	var out bytes.Buffer
	p := newPlugin(&out, &out)
	p.in, p.look, p.settle = strings.NewReader(answer), p.look/20, 0
	status = run(w.t.Context(), append([]string{"adopt", "web", "--kubeconfig", kubeconfig, "-n", w.namespace}, args...), p)
	return status, w.stable(out.String())
}

// follows reads whether everything carries the label, and how often the API
// server has counted a change of a spec.
func (w *shop) follows() (service, deployment, sets, pods bool, generations int64) {
	w.t.Helper()
	var s corev1.Service
	var d appsv1.Deployment
	var rs appsv1.ReplicaSet
	for name, o := range map[string]client.Object{"Service": &s, "Deployment": &d} {
		if err := w.api.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: "web"}, o); err != nil {
			w.t.Fatalf("%s: %v", name, err)
		}
	}
	if err := w.api.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: "web-1"}, &rs); err != nil {
		w.t.Fatal(err)
	}
	if _, held := d.Labels[adoption.HeldLabel]; held || d.Spec.Paused {
		w.t.Errorf("the Deployment is left paused: %v, %v", d.Spec.Paused, d.Labels)
	}
	pods = true
	for _, p := range w.pods {
		if err := w.api.Get(w.t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
			w.t.Fatal(err)
		}
		pods = pods && p.Labels[v1alpha1.AcceptingLabel] == "true"
	}
	return s.Spec.Selector[v1alpha1.AcceptingLabel] == "true", d.Spec.Template.Labels[v1alpha1.AcceptingLabel] == "true",
		rs.Spec.Template.Labels[v1alpha1.AcceptingLabel] == "true", pods, d.Generation + rs.Generation
}

func (w *shop) want(all bool) (generations int64) {
	w.t.Helper()
	service, deployment, sets, pods, generations := w.follows()
	if service != all || deployment != all || sets != all || pods != all {
		w.t.Errorf("Service %v, Deployment %v, ReplicaSet %v, pods %v follow, and should: %v", service, deployment, sets, pods, all)
	}
	return generations
}

func TestAServiceIsAdoptedAndGivenBack(t *testing.T) {
	w := newShop(t)
	defer w.observe(nil)()
	var b strings.Builder
	tell := func(answer string, args ...string) {
		status, said := w.adopt(answer, args...)
		b.WriteString("$ kubectl presence " + strings.Join(append([]string{"adopt", "web"}, args...), " ") + "\n" + said)
		if want := map[bool]int{true: 0, false: exitFailed}[!strings.Contains(said, "error: ")]; status != want {
			t.Errorf("status %d, want %d", status, want)
		}
	}
	before := w.want(false)
	tell("", "--dry-run")
	tell("n\n")
	tell("")
	if now := w.want(false); now != before {
		t.Error("something was changed that nobody agreed to")
	}
	tell("y\n")
	after := w.want(true)
	tell("", "--yes")
	if now := w.want(true); now != after {
		t.Error("the second time something was changed")
	}
	tell("", "--undo", "--yes")
	before = w.want(false)
	tell("", "--undo", "--yes")
	if now := w.want(false); now != before {
		t.Error("the second time something was changed back")
	}
	golden(t, "adopt", b.String())
}

func TestAPodThatComesBetweenStopsTheServiceFromFollowing(t *testing.T) {
	w := newShop(t)
	hashed := map[string]string{"app": "web", appsv1.DefaultDeploymentUniqueLabelKey: "1"}
	late := false
	stop := w.observe(func(o client.Object) {
		if rs, ok := o.(*appsv1.ReplicaSet); ok && rs.Spec.Template.Labels[v1alpha1.AcceptingLabel] == "true" && !late {
			late = true // made from the template as it was before
			w.pods = append(w.pods, w.born("web-1-c", hashed, metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))))
		}
	})
	status, said := w.adopt("", "--yes")
	if status != exitFailed || !strings.Contains(said, "error: service/web is not changed") || !strings.Contains(said, "pod/web-1-c") {
		t.Errorf("status %d: %s", status, said)
	}
	if service, deployment, _, _, _ := w.follows(); service || !deployment {
		t.Errorf("Service %v, Deployment %v", service, deployment)
	}
	if status, said := w.adopt("", "--yes"); status != 0 {
		t.Errorf("the same command goes on, and says %d: %s", status, said)
	}
	stop()
	w.want(true)
}

func TestWhoIsInterruptedGoesOn(t *testing.T) {
	for name, args := range map[string][]string{"to the end": nil, "back": {"--undo"}} {
		t.Run(name, func(t *testing.T) {
			w := newShop(t)
			// No controller tells that it has seen the pause.
			status, said := w.adopt("", "--yes", "--timeout", "100ms")
			if status != exitFailed || !strings.Contains(said, "see whether kube-controller-manager runs; deployment.apps/web may be left paused until then") {
				t.Errorf("status %d: %s", status, said)
			}
			defer w.observe(nil)()
			if status, said := w.adopt("", append([]string{"--yes"}, args...)...); status != 0 {
				t.Errorf("status %d: %s", status, said)
			}
			w.want(args == nil)
		})
	}
}

func TestAPodThatIsMadeAnewMeanwhileIsLeftToItsTemplate(t *testing.T) {
	w := newShop(t)
	p := newPlugin(&bytes.Buffer{}, &bytes.Buffer{})
	kubeconfig := w.cp.AdminKubeconfig()
	p.flags.KubeConfig, p.flags.Namespace = &kubeconfig, &w.namespace
	c, err := p.connect()
	if err != nil {
		t.Fatal(err)
	}
	path := []string{"metadata", "labels", v1alpha1.AcceptingLabel}
	for _, name := range []string{"web-1-a", "web-1-gone"} {
		was := adoption.Object{Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Name: name, UID: "of the one before"}
		if _, err := p.change(t.Context(), c, adoption.Change{Object: was, Edits: []adoption.Edit{{Path: path, To: "true"}}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.want(false)
	of := adoption.Object{Kind: corev1.SchemeGroupVersion.WithKind("Service"), Name: "web", UID: "of the one before"}
	if _, err := p.change(t.Context(), c, adoption.Change{Object: of}); err == nil || !strings.Contains(err.Error(), "made anew meanwhile") {
		t.Errorf("another Service of the name: %v", err)
	}
}

func TestRightsToAdoptThatAreMissingAreNamed(t *testing.T) {
	w := newShop(t)
	bob, err := w.cp.Kubeconfig("bob")
	if err != nil {
		t.Fatal(err)
	}
	status, said := w.adoptAs(bob, "", "--yes")
	if status != exitFailed || strings.Count(said, "\n") != 1 || !strings.Contains(said, "reading service/web is not allowed: ask an administrator") {
		t.Errorf("%d, %q", status, said)
	}
}

func TestAServiceThatThereIsNot(t *testing.T) {
	w := newWorld(t)
	status, _, stderr := w.run(w.cp.AdminKubeconfig(), "adopt", "svc/web")
	if status != exitFailed || !strings.Contains(stderr, "there is no Service web in namespace im: choose the namespace with -n") {
		t.Errorf("%d, %q", status, stderr)
	}
}
