package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/e2e/service"
)

// served is a service of three pods that is not Rollcall's own, in a namespace of
// its own, and the Presence that looks after it.
type served struct {
	*world
	speech    service.Speech
	namespace string
	// node that the clients run on.
	node string
	pods []corev1.Pod
}

// name is that of its Deployment, Service and Presence.
func (s *served) name() string { return string(s.speech) }

var serviceManifest = template.Must(template.New("service").Parse(`
apiVersion: v1
kind: Namespace
metadata: {name: {{.Namespace}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{.Name}}, namespace: {{.Namespace}}}
spec:
  replicas: 3
  selector: {matchLabels: {app: {{.Name}}}}
  template:
    metadata: {labels: {app: {{.Name}}, rollcall.dev/accepting: "true"}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: {{.Name}}}}}
      containers:
        - name: server
          image: {{.Image}}
          imagePullPolicy: IfNotPresent
          args: [serve, -speech, {{.Name}}]
          ports: [{name: app, containerPort: 8080}]
          readinessProbe: {tcpSocket: {port: app}, periodSeconds: 2}
---
apiVersion: v1
kind: Service
metadata: {name: {{.Name}}, namespace: {{.Namespace}}}
spec:
  selector: {app: {{.Name}}, rollcall.dev/accepting: "true"}
  ports: [{name: app, port: 8080, targetPort: app}]
---
apiVersion: rollcall.dev/v1alpha1
kind: Presence
metadata: {name: {{.Name}}, namespace: {{.Namespace}}}
spec:
  servers:
    selector: {matchLabels: {app: {{.Name}}}}
    port: app
    probe: {{.Probe}}
    failover: {mode: Automatic, clientsPerSecond: 100, sever: {mode: Paced}}
`))

// serve makes a service, and takes it away in the end.
func (w *world) serve(t *testing.T, speech service.Speech) *served {
	t.Helper()
	s := &served{world: w, speech: speech, namespace: "shop-" + string(speech), node: w.home(t)}
	probe := "{http: {path: /healthz}}"
	if speech == service.GRPC {
		probe = "{grpc: {}}"
	}
	var b bytes.Buffer
	if err := serviceManifest.Execute(&b, map[string]any{"Namespace": s.namespace, "Name": s.name(), "Image": *serviceImage, "Probe": probe}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if *keep && t.Failed() {
			return
		}
		ctx, cancel := lasting(t)
		defer cancel()
		if _, err := w.run(ctx, "", w.kubectl, "delete", "namespace", s.namespace, "--ignore-not-found", "--timeout=3m"); err != nil {
			t.Error(err)
		}
	})
	if err := w.apply(t.Context(), b.String()); err != nil {
		t.Fatal(err)
	}
	w.line.alsoPodsOf(s.namespace)
	if err := s.allWell(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// clientsPod is a pod of so many clients on the clients' node, whose answers cost
// so many units of work; 0: the usual ones.
func (s *served) clientsPod(name string, count, units int) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  enableServiceLinks: false
  terminationGracePeriodSeconds: 1
  nodeSelector: {kubernetes.io/hostname: %s}
  tolerations: [{operator: Exists}]
  containers:
    - name: clients
      image: %s
      imagePullPolicy: IfNotPresent
      args: [use, -speech, %s, -address, "%s:8080", -count, "%d", -units, "%d"]
`, name, s.namespace, s.node, *serviceImage, s.speech, s.name(), count, units)
}

func (s *served) delete(ctx context.Context, pod string) error {
	_, err := s.run(ctx, "", s.kubectl, "delete", "pod", pod, "--namespace", s.namespace, "--ignore-not-found", "--timeout=1m")
	return err
}

// ask asks clients what they have seen.
func (s *served) ask(ctx context.Context, pod string) ([]service.Client, error) {
	raw, err := s.kube.CoreV1().RESTClient().Get().Namespace(s.namespace).Resource("pods").Name(pod + ":8081").SubResource("proxy").Suffix("clients").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("what clients have seen: %w", err)
	}
	var all []service.Client
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("what clients have seen: %w", err)
	}
	return all, nil
}

// behave has a server behave in a way.
func (s *served) behave(t *testing.T, pod *corev1.Pod, m service.Mode) {
	t.Helper()
	ctx, cancel := lasting(t)
	defer cancel()
	if err := s.kube.CoreV1().RESTClient().Put().Namespace(s.namespace).Resource("pods").Name(pod.Name+":8081").SubResource("proxy").
		Suffix("mode", string(m)).Do(ctx).Error(); err != nil {
		t.Fatalf("having %s be %s: %v", pod.Name, m, err)
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
	if err := s.api.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: s.name()}, &p); err != nil {
		return nil, err
	}
	return &p, nil
}

func (s *served) podsOf(ctx context.Context) ([]corev1.Pod, error) {
	list, err := s.kube.CoreV1().Pods(s.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + s.name()})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// allWell waits until nothing is amiss: all is Ready, every pod of the service takes
// clients, Rollcall is able to judge and to act, and no Failover is in progress.
func (s *served) allWell(ctx context.Context) error {
	if err := s.allReady(ctx); err != nil {
		return err
	}
	return poll(ctx, "the service to be well", readyWithin, func() (bool, error) {
		asking, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		err := s.well(asking)
		return err == nil, err
	})
}

func (s *served) well(ctx context.Context) error {
	pods, err := s.podsOf(ctx)
	if err != nil {
		return err
	}
	if len(pods) != 3 {
		return fmt.Errorf("there are %d pods", len(pods))
	}
	for i := range pods {
		if !ready(&pods[i]) || pods[i].Labels[v1alpha1.AcceptingLabel] != "true" {
			return fmt.Errorf("pod %s is not ready, or takes no clients: its label is %q", pods[i].Name, pods[i].Labels[v1alpha1.AcceptingLabel])
		}
	}
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
	if err := s.api.List(ctx, &list, client.InNamespace(s.namespace)); err != nil {
		return err
	}
	for i := range list.Items {
		if list.Items[i].Status.CompletedAt == nil {
			return errors.New(list.Items[i].Name + " is in progress")
		}
	}
	return nil
}
