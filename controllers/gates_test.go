package controllers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// gated makes a pod that is no heartbeat server, and carries the readiness gate. It
// has no condition yet, and so is not Ready.
func (w *world) gated(name, node string, labels map[string]string) *server {
	w.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: labels},
		Spec: corev1.PodSpec{
			NodeName: node, ReadinessGates: []corev1.PodReadinessGate{{ConditionType: v1alpha1.AcceptingGate}},
			Containers: []corev1.Container{{Name: "web", Image: "none", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}}},
		},
	}
	w.create(pod)
	before := pod.DeepCopy()
	pod.Status.Phase = corev1.PodRunning
	if err := w.api.Status().Patch(w.t.Context(), pod, client.MergeFrom(before)); err != nil {
		w.t.Fatal(err)
	}
	return &server{w: w, pod: pod, record: store.Server{Address: name + ".example:8080"}}
}

// gate is the status of a pod's condition.
func (w *world) gate(pod string) corev1.ConditionStatus {
	w.t.Helper()
	var p corev1.Pod
	if err := w.api.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: pod}, &p); err != nil {
		w.t.Fatal(err)
	}
	return v1alpha1.GateOf(&p)
}

// leading makes a Service that leads to all pods with some labels, and knows of no gate.
func (w *world) leading(name string, labels map[string]string) *corev1.Service {
	w.t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec:       corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: port("web")}}},
	}
	w.create(s)
	return s
}

// kubelet plays those of all nodes: pods with the gate are Ready by their condition.
type kubelet struct {
	mu    sync.Mutex
	ready map[string]bool
	// watched are groups of pods, of which one must be Ready at any moment.
	watched [][]string
	emptied []string
}

func (w *world) kubelet() *kubelet {
	w.t.Helper()
	ctx := w.t.Context()
	k := &kubelet{ready: map[string]bool{}}
	events, err := w.api.Watch(ctx, &corev1.PodList{}, client.InNamespace(w.namespace))
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- k.follow(ctx, w.api, events) }()
	w.t.Cleanup(func() {
		events.Stop()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	return k
}

func (k *kubelet) follow(ctx context.Context, api client.Client, events watch.Interface) error {
	for e := range events.ResultChan() {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok || e.Type == watch.Deleted || !v1alpha1.Gated(pod) {
			continue
		}
		want, is := v1alpha1.GateOf(pod), corev1.ConditionStatus("")
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady {
				is = c.Status
			}
		}
		if want == is {
			k.saw(pod.Name, is == corev1.ConditionTrue)
			continue
		}
		before := pod.DeepCopy()
		var others []corev1.PodCondition
		for _, c := range pod.Status.Conditions {
			if c.Type != corev1.PodReady {
				others = append(others, c)
			}
		}
		pod.Status.Conditions = append(others, corev1.PodCondition{Type: corev1.PodReady, Status: want})
		err := api.Status().Patch(ctx, pod, client.StrategicMergeFrom(before))
		if client.IgnoreNotFound(err) != nil && ctx.Err() == nil {
			return fmt.Errorf("the kubelet's word on %s: %w", pod.Name, err)
		}
	}
	return nil
}

func (k *kubelet) saw(pod string, ready bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ready[pod] = ready
	for _, group := range k.watched {
		some := false
		for _, p := range group {
			some = some || k.ready[p]
		}
		if !some {
			k.emptied = append(k.emptied, fmt.Sprint(group))
		}
	}
}

// watch has a group of pods looked after from now on, one of which is Ready.
func (k *kubelet) watch(pods ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.watched = append(k.watched, pods)
}

func (k *kubelet) all(pods ...string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range pods {
		if !k.ready[p] {
			return false
		}
	}
	return true
}

func byGates(p *v1alpha1.FailoverPolicy) { p.Divert = v1alpha1.DivertReadinessGate }

func TestTheClientsOfAServiceAreLedPastByItsReadiness(t *testing.T) {
	w := newWorld(t, 0)
	k := w.kubelet()
	app := map[string]string{"app": "web"}
	var pods []*server
	for i := range 3 {
		pods = append(pods, w.gated(fmt.Sprintf("web-%d", i), fmt.Sprintf("far-%d", i), app))
		w.hear(pods[i], wire.BandOK, zones...)
		w.severer(fmt.Sprintf("far-%d", i), 1, pods[i], wire.BandOK, 100)
	}
	w.leading("web", app)
	w.watchWeb(byGates)
	c, _ := w.controller("one")
	w.ready(c)
	w.eventually("all are welcome, and the Service follows", func() bool {
		p := w.presence("web")
		return k.all("web-0", "web-1", "web-2") && says(p, v1alpha1.ConditionHealthy, "True", v1alpha1.ReasonAllAlive) &&
			says(p, v1alpha1.ConditionDiverted, "True", v1alpha1.ReasonDiverted)
	})
	k.watch("web-0", "web-1", "web-2")

	w.severer("far-1", 2, pods[1], wire.BandUnread, 100)
	w.hear(pods[1], wire.BandHung, "a", "b")
	w.eventually("it is not Ready any more", func() bool { return w.gate("web-1") == corev1.ConditionFalse && !k.all("web-1") })
	w.eventually("and the severer is asked", func() bool {
		all := w.failovers()
		return len(all) == 1 && all[0].Status.Sever != nil && all[0].Status.Sever.Divert == v1alpha1.DivertReadinessGate
	})
	if label := w.accepting("web-1"); label != "" {
		t.Errorf("it is labelled %q", label)
	}
	w.severer("far-1", 3, pods[1], wire.BandOK, 0)
	w.hear(pods[1], wire.BandOK, "a", "b")
	w.eventually("it is let in again", func() bool { return w.gate("web-1") == corev1.ConditionTrue && k.all("web-1") })

	w.hear(w.gated("web-3", "far-0", app), wire.BandOK, zones...)
	w.eventually("a new one is welcome", func() bool { return k.all("web-3") })
	ungated := w.service("web-4", "far-0")
	w.eventually("one without the gate is named", func() bool {
		return says(w.presence("web"), v1alpha1.ConditionDiverted, "False", v1alpha1.ReasonNotGated)
	})
	w.hear(ungated, wire.BandHung, zones...)
	w.eventually("it is judged", func() bool {
		return slices.ContainsFunc(w.presence("web").Status.NotAlive, func(m v1alpha1.MemberStatus) bool { return m.Name == "web-4" })
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.emptied) > 0 {
		t.Errorf("none of them was Ready: %v", k.emptied)
	}
}

func TestNoServiceIsLeftWithoutAPodThatIsReady(t *testing.T) {
	w := newWorld(t, 0)
	k := w.kubelet()
	for i := range 3 {
		kind := "later"
		if i == 0 {
			kind = "first"
		}
		s := w.gated(fmt.Sprintf("web-%d", i), fmt.Sprintf("far-%d", i), map[string]string{"app": "web", "kind": kind})
		w.hear(s, wire.BandOK, zones...)
		w.severer(fmt.Sprintf("far-%d", i), 1, s, wire.BandOK, 10)
	}
	w.leading("web", map[string]string{"app": "web"})
	first := w.leading("first", map[string]string{"kind": "first"})
	w.watchWeb(byGates)
	c, _ := w.controller("one")
	w.ready(c)
	w.eventually("all are welcome", func() bool {
		return k.all("web-0", "web-1", "web-2") && says(w.presence("web"), v1alpha1.ConditionHealthy, "True", v1alpha1.ReasonAllAlive)
	})
	k.watch("web-0", "web-1", "web-2")
	k.watch("web-0")
	w.create(&v1alpha1.Failover{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "by-hand"}, Spec: v1alpha1.FailoverSpec{Presence: "web", Server: "web-0"}})
	w.directed("web-0")
	w.always("it stays: a Service leads to it alone", time.Second, func() bool { return w.gate("web-0") == corev1.ConditionTrue })
	k.mu.Lock()
	k.watched = k.watched[:1]
	if len(k.emptied) > 0 {
		t.Errorf("none of them was Ready: %v", k.emptied)
	}
	k.mu.Unlock()
	if err := w.api.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	w.eventually("it is taken out when none does", func() bool { return w.gate("web-0") == corev1.ConditionFalse })
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.emptied) > 0 {
		t.Errorf("none of them was Ready: %v", k.emptied)
	}
}

// Whoever waits for a leader before it is Ready would wait for ever where none comes.
func TestNewPodsAreWelcomeWhileNobodyLeads(t *testing.T) {
	w := newWorld(t, 0)
	w.occupy()
	k := w.kubelet()
	w.gated("web-0", "far", map[string]string{"app": "web"})
	w.watchWeb(byGates)
	c, _ := w.controller("one")
	w.eventually("it is welcome", func() bool { return k.all("web-0") })
	if c.Leading() {
		t.Error("somebody led")
	}
	w.etcd.Stop()
	w.gated("web-1", "far", map[string]string{"app": "web"})
	w.eventually("one that comes while etcd is away is welcome, too", func() bool { return k.all("web-1") })
	w.etcd.Restart()
}

func TestAControllerThatMayNotSetGatesSaysSo(t *testing.T) {
	w := newWorld(t, 0)
	app := map[string]string{"app": "web"}
	w.gated("web-0", "far", app)
	w.leading("web", app)
	w.watchWeb(byGates)
	user := "controller-of-" + w.namespace
	for _, o := range least(t, user) {
		w.create(o)
		t.Cleanup(func() { _ = w.api.Delete(context.Background(), o) })
	}
	config := rest.CopyConfig(w.cp.AdminConfig())
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	c, _ := w.controllerAs("one", config)
	w.ready(c)
	w.eventually("what is missing is told", func() bool {
		return says(w.presence("web"), v1alpha1.ConditionDiverted, "False", v1alpha1.ReasonMayNotSetGates)
	})
	if is := w.gate("web-0"); is != "" {
		t.Errorf("its condition is set to %s by somebody who may not", is)
	}
}

func TestAServiceThatNobodyIsToLeadPastIsJudgedAndLeftAlone(t *testing.T) {
	w := newWorld(t, 0)
	var pods []*server
	for i := range 3 {
		pods = append(pods, w.service(fmt.Sprintf("web-%d", i), fmt.Sprintf("far-%d", i)))
		w.hear(pods[i], wire.BandOK, zones...)
		w.severer(fmt.Sprintf("far-%d", i), 1, pods[i], wire.BandOK, 100)
	}
	w.following()
	w.watchWeb(func(p *v1alpha1.FailoverPolicy) { p.Divert = v1alpha1.DivertNone })
	c, _ := w.controller("one")
	w.ready(c)
	w.eventually("all are alive", func() bool {
		p := w.presence("web")
		return says(p, v1alpha1.ConditionHealthy, "True", v1alpha1.ReasonAllAlive) && says(p, v1alpha1.ConditionDiverted, "False", v1alpha1.ReasonNotAsked)
	})
	w.hear(pods[1], wire.BandHung, "a", "b")
	w.eventually("the one that hangs is overloaded", func() bool { return *w.presence("web").Status.Counts.Overloaded == 1 })
	w.always("nobody is moved", time.Second, func() bool { return len(w.failovers()) == 0 && w.accepting("web-1") == "true" })
	w.create(&v1alpha1.Failover{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "by-hand"}, Spec: v1alpha1.FailoverSpec{Presence: "web", Server: "web-1"}})
	w.eventually("nor by hand", func() bool {
		all := w.failovers()
		return len(all) == 1 && failover.Outcome(&all[0]) == v1alpha1.ReasonCancelled
	})
}
