package controllers

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// mortal is a node whose agent beats to server-0, and that the agents of the
// three zones report on.
type mortal struct {
	w        *world
	name     string
	revision int64
}

func (w *world) mortal() *mortal {
	w.t.Helper()
	m := &mortal{w: w, name: w.namespace + "-mortal"}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.name, Labels: map[string]string{corev1.LabelTopologyZone: "d"}},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "someone.example/else", Effect: corev1.TaintEffectNoSchedule}}}}
	w.create(node)
	w.t.Cleanup(func() { _ = w.api.Delete(context.Background(), node) })
	m.beats(true)
	return m
}

// beats writes the agent's session as its server would.
func (m *mortal) beats(online bool) {
	m.w.t.Helper()
	s := m.w.servers["server-0"]
	write := store.SessionWrite{
		Key:     store.SessionKey{Namespace: m.w.namespace, Presence: "nodes", Client: m.name + ":0"},
		Session: store.Session{Server: s.name(), Incarnation: s.record.Incarnation, Since: time.Now().UnixMilli(), Interval: 1000, Offline: !online},
	}
	write.Revision = m.revision
	if online {
		bucket, err := m.w.store.NewBucket(m.w.t.Context(), s.name(), s.record.Incarnation)
		if err != nil {
			m.w.t.Fatal(err)
		}
		write.Bucket = bucket.ID
	}
	done, err := m.w.store.WriteSessions(m.w.t.Context(), []store.SessionWrite{write})
	if err != nil || !done[0].Won {
		m.w.t.Fatalf("%v: %+v", err, done)
	}
	m.revision = done[0].Revision
}

// reporters say a word on it.
func (m *mortal) reporters(word wire.NodeWord) {
	m.w.t.Helper()
	for _, zone := range zones {
		r := m.w.said[m.w.namespace+"-"+zone]
		m.w.seq++
		r.Seq, r.Suspicions = m.w.seq, map[string]wire.Suspicion{m.name: {Word: word, Since: time.Now()}}
		m.w.said[r.Node] = r
		if err := m.w.store.PutReport(m.w.t.Context(), r); err != nil {
			m.w.t.Fatal(err)
		}
	}
}

func (m *mortal) dies()    { m.reporters(wire.NodeDead); m.beats(false) }
func (m *mortal) returns() { m.reporters(wire.NodeAlive); m.beats(true) }

func (m *mortal) node() *corev1.Node {
	m.w.t.Helper()
	n := &corev1.Node{}
	if err := m.w.api.Get(m.w.t.Context(), types.NamespacedName{Name: m.name}, n); err != nil {
		m.w.t.Fatal(err)
	}
	return n
}

// elses is the taint that others have put on it, and that must stay.
func elses(t corev1.Taint) bool { return t.Key == "someone.example/else" }

func (m *mortal) tainted() bool {
	return slices.ContainsFunc(m.node().Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == v1alpha1.UnreachableTaint && t.Effect == corev1.TaintEffectNoExecute && t.Value == ""
	})
}

// watchNodes makes the Presence of the nodes of this world, for the whole cluster
// is everybody's.
func (w *world) watchNodes(mode v1alpha1.OnDeadMode) *v1alpha1.Presence {
	w.t.Helper()
	p := &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "nodes"},
		Spec:       v1alpha1.PresenceSpec{Nodes: &v1alpha1.NodesSpec{OnDead: v1alpha1.OnDeadPolicy{Mode: mode}}},
	}
	w.create(p)
	return p
}

// kept is a pod that a controller keeps, as that and a kubelet would leave it.
func (w *world) kept(name, node string, ready bool) *corev1.Pod {
	w.t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "web-of-" + types.UID(w.namespace), Controller: new(true)},
		}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "web", Image: "none"}}},
	}
	w.create(p)
	if ready {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		if err := w.api.Status().Update(w.t.Context(), p); err != nil {
			w.t.Fatal(err)
		}
	}
	return p
}

func TestADeadNodeIsTaintedUntilItIsBack(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAdvise)
	w.watchNodes(v1alpha1.OnDeadTaint)
	m := w.mortal()
	old := w.kept("web-1", m.name, true)
	one, stop := w.controller("one")
	w.ready(one)
	w.eventually("it is alive", func() bool { return one.judge.Last().Nodes.Verdicts[m.name].State == "Alive" })

	m.dies()
	w.eventually("it is tainted", m.tainted)
	n := m.node()
	if !slices.ContainsFunc(n.Spec.Taints, elses) || n.Annotations[v1alpha1.TaintedByAnnotation] != w.namespace {
		t.Errorf("the node has %+v and %v", n.Spec.Taints, n.Annotations)
	}
	evacuation := func() *v1alpha1.Evacuation {
		for _, e := range w.presence("nodes").Status.Evacuations {
			if e.Node == m.name {
				return &e
			}
		}
		return nil
	}
	w.eventually("the status says so", func() bool {
		e := evacuation()
		return e != nil && e.Pods == 0 && e.UntaintedAt == nil && w.presence("nodes").Status.Mode == "Taint"
	})
	// What Kubernetes does then is played here.
	if err := w.api.Delete(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	w.eventually("the pod is waited for", func() bool {
		e := evacuation()
		return e != nil && e.Pods == 1 && e.Elsewhere == 0 && e.Took == nil && strings.Contains(e.Message, w.namespace+"/web-1 (ReplicaSet)")
	})
	w.kept("web-2", w.namespace+"-a", true)
	w.eventually("it is elsewhere, and how long it took is told", func() bool {
		e := evacuation()
		return e != nil && e.Elsewhere == 1 && e.Took != nil && e.Took.Duration > 0 && e.Message == ""
	})
	took := *evacuation().Took
	t.Logf("the pod was elsewhere %v after the taint", took.Duration)

	// Another leader, which has seen nothing of this, goes on.
	stop()
	two, _ := w.controller("two")
	w.ready(two)
	w.eventually("it leads", two.Leading)
	w.always("the taint stays while the node is dead", time.Second, m.tainted)
	m.returns()
	w.eventually("the taint is taken off", func() bool { return !m.tainted() })
	n = m.node()
	if _, ours := n.Annotations[v1alpha1.TaintedByAnnotation]; ours || !slices.ContainsFunc(n.Spec.Taints, elses) {
		t.Errorf("the node keeps %+v and %v", n.Spec.Taints, n.Annotations)
	}
	w.eventually("the status remembers", func() bool {
		e := evacuation()
		return e != nil && e.UntaintedAt != nil && e.Took != nil && *e.Took == took
	})
}

func TestATaintOfAnotherHandStays(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAdvise)
	p := w.watchNodes(v1alpha1.OnDeadTaint)
	m := w.mortal()
	n := m.node()
	n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: v1alpha1.UnreachableTaint, Effect: corev1.TaintEffectNoExecute})
	// As it is where a person took ours off before, and left that.
	n.Annotations = map[string]string{v1alpha1.TaintedByAnnotation: w.namespace}
	if err := w.api.Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	c, _ := w.controller("one")
	w.ready(c)
	w.eventually("it is alive", func() bool { return c.judge.Last().Nodes.Verdicts[m.name].State == "Alive" })
	w.eventually("it is not claimed", func() bool { return m.node().Annotations[v1alpha1.TaintedByAnnotation] == "" })
	w.always("the taint stays", time.Second, m.tainted)
	// Without it, and after the policy is withdrawn, ours goes.
	n = m.node()
	n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.UnreachableTaint })
	if err := w.api.Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	m.dies()
	w.eventually("it is tainted", m.tainted)
	change := client.MergeFrom(p.DeepCopy())
	p.Spec.Nodes.OnDead.Mode = v1alpha1.OnDeadAdvise
	if err := w.api.Patch(t.Context(), p, change); err != nil {
		t.Fatal(err)
	}
	w.eventually("the taint is taken off a node that is dead", func() bool { return !m.tainted() })
}

func TestAControllerThatMayNotTaintSaysSo(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAdvise)
	w.watchNodes(v1alpha1.OnDeadTaint)
	m := w.mortal()
	user := "controller-of-" + w.namespace
	for _, o := range least(t, user) {
		w.create(o)
		t.Cleanup(func() { _ = w.api.Delete(context.Background(), o) })
	}
	config := rest.CopyConfig(w.cp.AdminConfig())
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	c, _ := w.controllerAs("one", config)
	w.ready(c)
	m.dies()
	w.eventually("it is dead", func() bool { return w.presence("nodes").Status.Counts.Dead == 1 })
	w.eventually("what is missing is told", func() bool {
		for _, c := range w.presence("nodes").Status.Conditions {
			if c.Type == v1alpha1.ConditionFrozen && strings.Contains(c.Message, "set controller.taintNodes=true in the chart") {
				return true
			}
		}
		return false
	})
	if m.tainted() {
		t.Error("it is tainted by somebody who may not")
	}
}

// least are the rights of a controller as config/rbac gives them, for a user.
func least(t *testing.T, user string) []client.Object {
	t.Helper()
	raw, err := os.ReadFile("../config/rbac/roles.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for document := range bytes.SplitSeq(raw, []byte("\n---\n")) {
		role := &rbacv1.ClusterRole{}
		if err := yaml.Unmarshal(document, role); err != nil {
			t.Fatal(err)
		}
		if role.Name == "rollcall-controller" {
			role.Name = user
			return []client.Object{role, &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: user},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
				Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
			}}
		}
	}
	t.Fatal("there is no role of the controller")
	return nil
}
