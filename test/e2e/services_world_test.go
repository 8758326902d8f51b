package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/e2e/service"
)

// served is a service of three pods that is not Rollcall's own.
type served struct {
	*world
	workload
	// node that the clients run on.
	node string
	pods []corev1.Pod
}

// crowd is the name of the pod of its clients.
func (s *served) crowd() string { return s.Name + "-clients" }

// space makes a namespace, and takes it away in the end.
func (w *world) space(t *testing.T, name string) {
	t.Helper()
	t.Cleanup(func() {
		if *keep && t.Failed() {
			return
		}
		w.turn.Lock() // pods end
		defer w.turn.Unlock()
		ctx, cancel := lasting(t)
		defer cancel()
		if _, err := w.run(ctx, "", w.kubectl, "delete", "namespace", name, "--ignore-not-found", "--timeout=3m"); err != nil {
			t.Error(err)
		}
	})
	if err := w.apply(t.Context(), "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+name+"}\n"); err != nil {
		t.Fatal(err)
	}
}

// serve makes a service in a namespace of its own, and the Presence that looks after
// it: servers are taken out by their label, or by a readiness gate.
func (w *world) serve(t *testing.T, speech service.Speech, gated bool) *served {
	t.Helper()
	name := string(speech)
	if gated {
		name += "-gated"
	}
	l := workload{Namespace: "shop-" + name, Name: name, Speech: speech, Accepting: !gated, Gated: gated, Probes: soonNotReady}
	w.space(t, l.Namespace)
	w.line.alsoPodsOf(l.Namespace)
	s := w.deploy(t, l)
	s.lookAfter(t)
	return s
}

// deploy makes a service that nobody looks after.
func (w *world) deploy(t *testing.T, l workload) *served {
	t.Helper()
	text, err := l.manifest(*serviceImage)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.apply(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	return &served{world: w, workload: l, node: w.home(t)}
}

// lookAfter makes the Presence, and waits until it is able to judge and to act.
func (s *served) lookAfter(t *testing.T) {
	t.Helper()
	text, err := s.presenceManifest()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.apply(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	if err := s.allWell(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// fresh replaces the clients of services of one namespace by as many others each, whose
// answers cost so many units of work, and waits until all have been answered.
func (w *world) fresh(t *testing.T, count, units int, services ...*served) {
	t.Helper()
	var names, pods []string
	for _, s := range services {
		names, pods = append(names, s.crowd()), append(pods, s.clientsPod(s.crowd(), count, units))
	}
	if err := services[0].delete(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
	if err := w.apply(t.Context(), strings.Join(pods, "---")); err != nil {
		t.Fatal(err)
	}
	for _, s := range services {
		s.calm(t, count, 0)
	}
}

// calm waits until every client has been answered without trouble for so long.
func (s *served) calm(t *testing.T, count int, length time.Duration) {
	t.Helper()
	if err := poll(t.Context(), "every client of "+s.Name+" to be answered", 2*time.Minute, func() (bool, error) {
		all, err := s.ask(t.Context(), s.crowd())
		if err != nil {
			return false, err
		}
		calm := calmFor(all, length, time.Now())
		return len(all) == count && calm == len(all), fmt.Errorf("%d of %d clients are, for %s", calm, len(all), length)
	}); err != nil {
		t.Fatal(err)
	}
}

// calmFor is how many of the clients have been answered without trouble for so long.
func calmFor(all []service.Client, length time.Duration, now time.Time) int {
	calm := 0
	for i := range all {
		c := &all[i]
		if _, ok := c.Answered(now, now); ok && c.Pod != "" && (len(c.Turns) == 0 || now.Sub(c.Turns[len(c.Turns)-1].At) > length) {
			calm++
		}
	}
	return calm
}

// choose looks at its pods, and chooses one that the clients are not beside. It returns
// which of the clients that has.
func (s *served) choose(t *testing.T) (victim *corev1.Pod, on []int) {
	t.Helper()
	pods, err := s.podsOf(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Spec.NodeName != s.node })
	if i < 0 {
		t.Fatalf("every pod of %s is on %s", s.Name, s.node)
	}
	s.pods, victim = pods, &pods[i]
	all, err := s.ask(t.Context(), s.crowd())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Pod == victim.Name {
			on = append(on, c.ID)
		}
	}
	if len(on) == 0 {
		t.Fatalf("nobody is on %s", victim.Name)
	}
	return victim, on
}

// of are those of clients whose ids are on a list.
func of(all []service.Client, ids []int) []service.Client {
	var of []service.Client
	for _, c := range all {
		if slices.Contains(ids, c.ID) {
			of = append(of, c)
		}
	}
	return of
}

func (s *served) delete(ctx context.Context, pods ...string) error {
	args := append([]string{"delete", "pod", "--namespace", s.Namespace, "--ignore-not-found", "--timeout=1m"}, pods...)
	_, err := s.run(ctx, "", s.kubectl, args...)
	return err
}

// ask asks clients what they have seen.
func (s *served) ask(ctx context.Context, pod string) ([]service.Client, error) {
	raw, err := s.kube.CoreV1().RESTClient().Get().Namespace(s.Namespace).Resource("pods").Name(pod + ":8081").SubResource("proxy").Suffix("clients").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("what clients have seen: %w", err)
	}
	var all []service.Client
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("what clients have seen: %w", err)
	}
	return all, nil
}

// tell tells a server something by its controls.
func (s *served) tell(ctx context.Context, pod string, words ...string) error {
	if err := s.kube.CoreV1().RESTClient().Put().Namespace(s.Namespace).Resource("pods").Name(pod + ":8081").SubResource("proxy").
		Suffix(words...).Do(ctx).Error(); err != nil {
		return fmt.Errorf("telling %s %s: %w", pod, strings.Join(words, " "), err)
	}
	return nil
}

// behave has a server behave in a way.
func (s *served) behave(t *testing.T, pod *corev1.Pod, m service.Mode) {
	t.Helper()
	ctx, cancel := lasting(t)
	defer cancel()
	if err := s.tell(ctx, pod.Name, "mode", string(m)); err != nil {
		t.Fatal(err)
	}
}

// mode changes what is done about servers that hang.
func (s *served) mode(ctx context.Context, mode v1alpha1.FailoverMode) error {
	p, err := s.presence(ctx)
	if err != nil {
		return err
	}
	old := p.DeepCopy()
	p.Spec.Servers.Failover.Mode = mode
	return s.api.Patch(ctx, p, client.MergeFrom(old))
}

func (s *served) presence(ctx context.Context) (*v1alpha1.Presence, error) {
	var p v1alpha1.Presence
	if err := s.api.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: s.Name}, &p); err != nil {
		return nil, err
	}
	return &p, nil
}

func (s *served) podsOf(ctx context.Context) ([]corev1.Pod, error) {
	list, err := s.kube.CoreV1().Pods(s.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + s.Name})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// allWell waits until nothing is amiss: the installation is Ready, every pod of the service
// takes clients, Rollcall is able to judge and to act, and no Failover is in progress.
// Other services are not looked at: they have their own cases.
func (s *served) allWell(ctx context.Context) error {
	return poll(ctx, "the service "+s.Name+" to be well", readyWithin, func() (bool, error) {
		asking, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		for _, check := range []func(context.Context) error{
			s.nodesReady, s.world.podsReady, func(ctx context.Context) error { return s.presencesReadyIn(ctx, namespace) }, s.failoversOver, s.takesClients, s.well,
		} {
			if err := check(asking); err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

// takesClients tells whether all its pods do.
func (s *served) takesClients(ctx context.Context) error {
	pods, err := s.podsOf(ctx)
	if err != nil {
		return err
	}
	if len(pods) != 3 {
		return fmt.Errorf("there are %d pods of %s", len(pods), s.Name)
	}
	for i := range pods {
		if label := pods[i].Labels[v1alpha1.AcceptingLabel]; !ready(&pods[i]) || s.Accepting && label != "true" {
			return fmt.Errorf("pod %s is not ready, or takes no clients: its label is %q", pods[i].Name, label)
		}
	}
	return nil
}

// well tells what its Presence says.
func (s *served) well(ctx context.Context) error {
	p, err := s.presence(ctx)
	if err != nil {
		return err
	}
	if p.Status.Counts.Alive != 3 {
		return fmt.Errorf("the Presence says %+v", p.Status.Counts)
	}
	for condition, want := range map[string]bool{
		v1alpha1.ConditionReady: true, v1alpha1.ConditionHealthy: true, v1alpha1.ConditionKernelAsked: true, v1alpha1.ConditionDiverted: true,
		v1alpha1.ConditionFrozen: false, v1alpha1.ConditionCalibrating: false,
	} {
		c := meta.FindStatusCondition(p.Status.Conditions, condition)
		if c == nil {
			return fmt.Errorf("the Presence does not say whether it is %s", condition)
		}
		if c.Status != map[bool]metav1.ConditionStatus{true: metav1.ConditionTrue, false: metav1.ConditionFalse}[want] {
			return fmt.Errorf("the Presence says %s %s: %s %s", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	var list v1alpha1.FailoverList
	if err := s.api.List(ctx, &list, client.InNamespace(s.Namespace)); err != nil {
		return err
	}
	for i := range list.Items {
		if list.Items[i].Status.CompletedAt == nil {
			return errors.New(list.Items[i].Name + " is in progress")
		}
	}
	return nil
}
