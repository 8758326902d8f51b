package controllers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	ac "github.com/rollcall-dev/rollcall/api/applyconfiguration/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// severer makes the severer of a node say what its kernel says of a server.
func (w *world) severer(node string, seq int64, s *server, band wire.Band, connections int) {
	w.t.Helper()
	name := wire.KernelObserver(node)
	if seq == 1 {
		w.sessions(w.namespace+"/elsewhere", "elsewhere.1", "nodes", name+":0", name+":1")
	}
	err := w.store.PutReport(w.t.Context(), wire.Report{Node: name, Boot: w.boot, Seq: seq, Observations: map[string]wire.Observation{
		w.namespace + "/" + s.pod.Name: {Band: band, Incarnation: string(s.pod.UID), Connections: &connections, Detail: "9 bytes are unread"},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
}

// service makes a ready pod that is no heartbeat server: it has no record.
func (w *world) service(name, node string) *server {
	w.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: map[string]string{"app": "web", v1alpha1.AcceptingLabel: "true"}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{
			{Name: "web", Image: "none", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}},
		}},
	}
	w.create(pod)
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	if err := w.api.Status().Update(w.t.Context(), pod); err != nil {
		w.t.Fatal(err)
	}
	return &server{w: w, pod: pod, record: store.Server{Address: name + ".example:8080"}}
}

// watchWeb makes the Presence of services.
func (w *world) watchWeb(change ...func(*v1alpha1.FailoverPolicy)) {
	w.t.Helper()
	p := &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"},
		Spec: v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
			Selector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Port: port("web"),
			Probe:    v1alpha1.ProbeSpec{HTTP: &v1alpha1.HTTPProbe{Path: "/healthz"}},
			Overload: v1alpha1.OverloadSpec{Recovery: metav1.Duration{Duration: time.Second}},
			Failover: v1alpha1.FailoverPolicy{Mode: v1alpha1.ModeAutomatic, Sever: v1alpha1.SeverPolicy{Mode: v1alpha1.SeverPaced}},
		}},
	}
	for _, f := range change {
		f(&p.Spec.Servers.Failover)
	}
	w.create(p)
}

// following makes the Service that leads to services that accept.
func (w *world) following() *corev1.Service {
	w.t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web", v1alpha1.AcceptingLabel: "true"},
			Ports:    []corev1.ServicePort{{Port: 80, TargetPort: port("web")}},
		},
	}
	w.create(s)
	return s
}

func TestTheClientsOfAServiceAreMoved(t *testing.T) {
	w := newWorld(t, 0)
	var pods []*server
	for i := range 3 {
		pods = append(pods, w.service(fmt.Sprintf("web-%d", i), fmt.Sprintf("far-%d", i)))
		w.hear(pods[i], wire.BandOK, zones...)
	}
	seq := make([]int64, len(pods))
	holds := func(i int, band wire.Band, connections int) {
		seq[i]++
		w.severer(fmt.Sprintf("far-%d", i), seq[i], pods[i], band, connections)
	}
	for i := range pods {
		holds(i, wire.BandOK, 100)
	}
	service := w.following()
	w.watchWeb()
	c, _ := w.controller("one")
	w.ready(c)
	w.eventually("all are alive, and the Service follows", func() bool {
		p := w.presence("web")
		return says(p, v1alpha1.ConditionHealthy, "True", v1alpha1.ReasonAllAlive) && p.Status.Counts.Connections != nil && *p.Status.Counts.Connections == 300 &&
			says(p, v1alpha1.ConditionDiverted, "True", v1alpha1.ReasonDiverted)
	})

	holds(1, wire.BandUnread, 100)
	w.hear(pods[1], wire.BandHung, "a", "b")
	only := func() *v1alpha1.Failover {
		if all := w.failovers(); len(all) == 1 {
			return &all[0]
		}
		return nil
	}
	w.eventually("a Failover asks the severer", func() bool {
		fo := only()
		return fo != nil && fo.Status.Sever != nil
	})
	fo := only()
	if o := fo.Status.Sever; fo.Spec.Server != "web-1" || fo.Spec.Incarnation != string(pods[1].pod.UID) || fo.Spec.Clients != 100 ||
		o.PodUID != pods[1].pod.UID || o.Node != "far-1" || o.Port != port("web") {
		t.Fatalf("the Failover is %+v", fo)
	}
	w.eventually("its label says that it takes nobody", func() bool { return w.accepting("web-1") == "false" })

	severed := func(connections, remaining int32) {
		t.Helper()
		config := ac.Failover(fo.Name, fo.Namespace).WithStatus(ac.FailoverStatus().WithSevered(
			ac.Severed().WithNode("far-1").WithPort(8080).WithConnections(connections).WithRemaining(remaining)))
		if err := w.api.Status().Apply(t.Context(), config, client.FieldOwner("rollcall-sever"), client.ForceOwnership); err != nil {
			t.Fatal(err)
		}
	}
	severed(60, 40)
	// Until that is known, others' connections count as there before.
	w.eventually("40 are left", func() bool { return only().Status.Pending == 40 })
	holds(0, wire.BandOK, 135)
	holds(2, wire.BandOK, 125)
	w.eventually("who came up elsewhere is counted", func() bool {
		s := only().Status
		return s.Moved == 60 && s.Pending == 40 && s.MovedBy.Severed == 60
	})
	severed(100, 0)
	holds(0, wire.BandOK, 150)
	holds(2, wire.BandOK, 150)
	holds(1, wire.BandUnread, 0)
	w.eventually("all are elsewhere", func() bool {
		fo := only()
		c := meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionProcessing)
		return c.Reason == v1alpha1.ReasonMoved && fo.Status.Moved == 100 && fo.Status.Sever == nil
	})

	holds(1, wire.BandOK, 0)
	w.hear(pods[1], wire.BandOK, "a", "b")
	w.eventually("it is let in again", func() bool { return w.accepting("web-1") == "true" && w.directive("web-1") == nil })
	w.always("nobody is sent back: the others answer", 4*time.Second, func() bool { return len(w.failovers()) == 1 })
	drain := &v1alpha1.Failover{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "by-hand"}, Spec: v1alpha1.FailoverSpec{Presence: "web", Server: "web-0"}}

	service.Spec.Selector = map[string]string{"app": "web"}
	if err := w.api.Update(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	w.eventually("a Service that does not follow is said", func() bool {
		return says(w.presence("web"), v1alpha1.ConditionDiverted, "False", v1alpha1.ReasonNotFollowing)
	})
	w.create(drain)
	w.eventually("and who drains by hand", func() bool {
		if err := w.api.Get(t.Context(), client.ObjectKeyFromObject(drain), drain); err != nil {
			t.Fatal(err)
		}
		c := meta.FindStatusCondition(drain.Status.Conditions, v1alpha1.ConditionProcessing)
		return c != nil && c.Reason == v1alpha1.ReasonCancelled && strings.Contains(c.Message, "these Services lead to the servers")
	})
	w.hear(pods[0], wire.BandHung, "a", "b")
	w.eventually("it is overloaded", func() bool { return *w.presence("web").Status.Counts.Overloaded == 1 })
	w.always("and keeps its clients, who would come back to it", time.Second, func() bool { return len(w.failovers()) == 2 })
}

// The last resort, which a disruption budget may forbid for a while.
func TestAServerThatStaysOverloadedIsEvicted(t *testing.T) {
	w := newWorld(t, 0)
	var pods []*server
	for i := range 3 {
		pods = append(pods, w.service(fmt.Sprintf("web-%d", i), fmt.Sprintf("far-%d", i)))
		w.hear(pods[i], wire.BandOK, zones...)
		w.severer(fmt.Sprintf("far-%d", i), 1, pods[i], wire.BandOK, 0)
	}
	w.following()
	w.watchWeb(func(p *v1alpha1.FailoverPolicy) {
		p.Restart = &v1alpha1.RestartPolicy{After: metav1.Duration{Duration: 10 * time.Second}}
	})
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}
	w.create(budget) // nobody reckons with budgets here, so that none allows anything
	c, _ := w.controller("one")
	w.ready(c)
	w.hear(pods[1], wire.BandHung, "a", "b")
	w.eventually("it is taken out, and has no connection", func() bool {
		all := w.failovers()
		return len(all) == 1 && failover.Outcome(&all[0]) == v1alpha1.ReasonMoved
	})
	evicted := func(i int) bool {
		var pod corev1.Pod
		if err := w.api.Get(t.Context(), client.ObjectKeyFromObject(pods[i].pod), &pod); err != nil {
			t.Fatal(err)
		}
		return pod.DeletionTimestamp != nil
	}
	w.always("the budget holds", 12*time.Second, func() bool { return !evicted(1) })
	if err := w.api.Delete(t.Context(), budget); err != nil {
		t.Fatal(err)
	}
	w.eventually("it is evicted", func() bool { return evicted(1) })
	if evicted(0) || evicted(2) {
		t.Error("others are evicted too")
	}
}

func TestAServiceThatNobodyLeadsPastIsJudgedAndLeftAlone(t *testing.T) {
	w := newWorld(t, 3)
	var pods []*server
	for i := range 3 {
		pods = append(pods, w.service(fmt.Sprintf("web-%d", i), "far"))
	}
	for _, s := range pods {
		w.hear(s, wire.BandOK, zones...)
	}
	w.watchWeb()
	c, _ := w.controller("one")
	w.ready(c)
	w.eventually("all are alive", func() bool {
		p := w.presence("web")
		return says(p, v1alpha1.ConditionHealthy, "True", v1alpha1.ReasonAllAlive) && p.Status.Counts.Alive == 3
	})
	w.hear(pods[1], wire.BandHung, "a", "b")
	w.eventually("the one that hangs is overloaded", func() bool {
		p := w.presence("web")
		return says(p, v1alpha1.ConditionHealthy, "False", v1alpha1.ReasonOverloaded) && *p.Status.Counts.Overloaded == 1 &&
			len(p.Status.NotAlive) == 1 && p.Status.NotAlive[0].Name == "web-1"
	})
	w.always("nobody is moved: they would come back", time.Second, func() bool { return len(w.failovers()) == 0 })
	w.hear(pods[1], wire.BandOK, "a", "b")
	w.eventually("all are alive again", func() bool {
		return says(w.presence("web"), v1alpha1.ConditionHealthy, "True", v1alpha1.ReasonAllAlive)
	})

	// One observer, and the kernel: and nobody asks those of the other servers.
	if p := w.presence("web"); !says(p, v1alpha1.ConditionKernelAsked, "False", v1alpha1.ReasonNoSeverer) || p.Status.Counts.Connections != nil {
		t.Errorf("before there is a severer the status is %+v", p.Status)
	}
	w.severer("far", 1, pods[2], wire.BandOK, 7)
	w.eventually("connections are counted", func() bool {
		n := w.presence("web").Status.Counts.Connections
		return n != nil && *n == 7
	})
	w.hear(pods[2], wire.BandHung, "a")
	w.hear(pods[2], wire.BandLossy, "b") // else most get answers, against which the kernel's word does not count
	w.eventually("one observer is not enough", func() bool {
		p := w.presence("web")
		return p.Status.Counts.Suspect == 1 && len(p.Status.NotAlive) == 1 && p.Status.NotAlive[0].State == "Suspect"
	})
	w.severer("far", 2, pods[2], wire.BandUnread, 7)
	w.eventually("with the kernel it is", func() bool {
		p := w.presence("web")
		return *p.Status.Counts.Overloaded == 1 && strings.Contains(p.Status.NotAlive[0].Message, "its kernel says that 9 bytes are unread")
	})
}
