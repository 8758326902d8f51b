package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/e2e/service"
)

// adoptedFor is how long clients are looked at after their service was adopted.
const adoptedFor = 5 * time.Second

// adopted has a service follow the label by which servers are taken out, while clients
// use it: they must not notice.
func (w *world) adopted(t *testing.T) {
	const name = "adopt"
	w.space(t, "shop-"+name)
	s := w.deploy(t, workload{Namespace: "shop-" + name, Name: name, Speech: service.HTTP, Probes: soonNotReady})
	s.await(t)
	over := w.turns(t)
	w.fresh(t, plainClients, 0, s)
	over()
	s.calm(t, plainClients, plainCalm)
	over = w.turns(t)
	defer over()
	before, err := s.ask(t.Context(), s.crowd())
	if err != nil {
		t.Fatal(err)
	}
	old, err := s.podsOf(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fewest := s.watchEndpoints(t)
	began := time.Now()
	if _, err := w.run(t.Context(), "", filepath.Join(w.root, "bin", "kubectl-presence"), "adopt", s.Name, "--namespace", s.Namespace, "--yes"); err != nil {
		t.Fatalf("hack/e2e builds the plugin: %v", err)
	}
	took := time.Since(began)
	if err := pause(t.Context(), adoptedFor); err != nil {
		t.Fatal(err)
	}
	few := fewest()
	after, err := s.ask(t.Context(), s.crowd())
	if err != nil {
		t.Fatal(err)
	}
	cost := tollOf(before, after)
	if cost.Failed > 0 || cost.Ended > 0 || cost.Answered == 0 || few == 0 {
		t.Errorf("there were %d endpoints at the least, and of the clients %+v", few, cost)
	}
	s.follows(t, old)
	failed := ""
	if t.Failed() {
		failed = " **FAILED**"
	}
	publish(t, name, fmt.Sprintf("`kubectl presence adopt` of a Deployment of three pods under %d clients of HTTP: done after %s; %d answers meanwhile and in the %s after, %d failures, "+
		"%d connections ended, never fewer than %d endpoints; the pods are the same.%s\n", plainClients, seconds(took), cost.Answered, adoptedFor, cost.Failed, cost.Ended, few, failed))
}

// follows checks that a service has been adopted, and has the pods that it had.
func (s *served) follows(t *testing.T, old []corev1.Pod) {
	t.Helper()
	v, err := s.kube.CoreV1().Services(s.Namespace).Get(t.Context(), s.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if v.Spec.Selector[v1alpha1.AcceptingLabel] != "true" {
		t.Errorf("the Service selects %v", v.Spec.Selector)
	}
	pods, err := s.podsOf(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods {
		p := &pods[i]
		had := slices.ContainsFunc(old, func(o corev1.Pod) bool { return o.UID == p.UID && restarts(&o) == restarts(p) })
		if !had || len(pods) != len(old) || p.Labels[v1alpha1.AcceptingLabel] != "true" {
			t.Errorf("%s is not as it was, or has the label %q", p.Name, p.Labels[v1alpha1.AcceptingLabel])
		}
	}
}

// watchEndpoints follows the endpoints of a service. The function that it returns ends that,
// and tells how many that were ready there have been at the least.
func (s *served) watchEndpoints(t *testing.T) (fewest func() int) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	events, err := s.api.Watch(ctx, &discoveryv1.EndpointSliceList{}, client.InNamespace(s.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: s.Name})
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan int, 1)
	go func() {
		ready, few := map[string]int{}, -1
		for e := range events.ResultChan() {
			slice, ok := e.Object.(*discoveryv1.EndpointSlice)
			if !ok {
				continue
			}
			ready[slice.Name] = readyEndpoints(slice)
			total := 0
			for _, n := range ready {
				total += n
			}
			if few < 0 || total < few {
				few = total
			}
		}
		told <- few
	}()
	return func() int {
		stop()
		return max(0, <-told) // nothing was heard: there were none
	}
}

// readyEndpoints counts those that new connections are led to.
func readyEndpoints(s *discoveryv1.EndpointSlice) int {
	n := 0
	for _, e := range s.Endpoints {
		if e.Conditions.Ready == nil || *e.Conditions.Ready {
			n++
		}
	}
	return n
}
