package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/controlplane/assets"
	"github.com/rollcall-dev/rollcall/test/e2e/fault"
	"github.com/rollcall-dev/rollcall/test/process"
)

const (
	release   = "rollcall"
	namespace = "rollcall-system"
)

// world is the cluster, and what looks at it and breaks it.
type world struct {
	root          string
	config        *rest.Config
	kube          kubernetes.Interface
	api           client.WithWatch
	helm, kubectl string
	spawner       *process.Spawner

	// faults is nil where there are none, and noFaults says why.
	faults   fault.Faults
	noFaults error

	// turn is had by whoever breaks something, or makes and ends pods, where cases of
	// several services run side by side: what one does must not be in another's times.
	turn sync.Mutex

	line    *timeline
	people  *people
	witness *witness
	report  *report
}

func newWorld(ctx context.Context) (*world, error) {
	w := &world{spawner: process.NewSpawner(), report: &report{}}
	var err error
	if w.root, err = assets.Root(); err != nil {
		return nil, err
	}
	kubeconfig := os.Getenv("KUBECONFIG")
	if w.config, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
		return nil, err
	}
	w.config.QPS = -1
	w.config.Timeout = 10 * time.Second
	if w.kube, err = kubernetes.NewForConfig(w.config); err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	unlimited := rest.CopyConfig(w.config)
	unlimited.Timeout = 0 // a watch lasts
	if w.api, err = client.NewWithWatch(unlimited, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	for _, p := range []struct {
		path *string
		name string
	}{{&w.helm, "helm"}, {&w.kubectl, "kubectl"}} {
		if *p.path, err = program(w.root, p.name); err != nil {
			return nil, err
		}
	}
	// A nil *Lab in the interface would not be nil.
	if lab, err := fault.Find(ctx, w.root, kubeconfig); err != nil {
		w.noFaults = err
	} else {
		w.faults = lab
	}
	return w, nil
}

// program looks for one on the PATH, and where the Makefile leaves it.
func program(root, name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if path, err := exec.LookPath(filepath.Join(root, "bin", "tools", name)); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("%s is not on the PATH: install it", name)
}

// needFaults skips a case that cannot be had here, so that it is seen.
func (w *world) needFaults(t *testing.T) {
	t.Helper()
	if w.faults == nil {
		t.Skipf("SKIPPED, THE FAULT CANNOT BE MADE HERE: %v (see docs/e2e.md)", w.noFaults)
	}
}

// run runs a program with the cluster of KUBECONFIG, and returns what it prints
// on both its outputs.
func (w *world) run(ctx context.Context, stdin, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(path), strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

func (w *world) apply(ctx context.Context, manifest string) error {
	_, err := w.run(ctx, manifest, w.kubectl, "apply", "--server-side", "-f", "-")
	return err
}

// part lists the pods of a part, by its component.
func (w *world) part(ctx context.Context, component string) ([]corev1.Pod, error) {
	pods, err := w.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/instance=" + release + ",app.kubernetes.io/component=" + component,
	})
	if err != nil {
		return nil, fmt.Errorf("list %s pods: %w", component, err)
	}
	return pods.Items, nil
}

func (w *world) pod(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	pod, err := w.kube.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// container is the id of a pod's one container, as its runtime knows it.
func container(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	id, err := containerOf(pod)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func containerOf(pod *corev1.Pod) (string, error) {
	if len(pod.Status.ContainerStatuses) != 1 {
		return "", fmt.Errorf("%s has %d containers that are known of", pod.Name, len(pod.Status.ContainerStatuses))
	}
	_, id, ok := strings.Cut(pod.Status.ContainerStatuses[0].ContainerID, "://")
	if !ok {
		return "", fmt.Errorf("%s has the container id %q", pod.Name, pod.Status.ContainerStatuses[0].ContainerID)
	}
	return id, nil
}

// turns waits for its turn, and returns what ends it, at the end of the test at the latest.
func (w *world) turns(t *testing.T) (over func()) {
	w.turn.Lock()
	over = sync.OnceFunc(w.turn.Unlock)
	t.Cleanup(over)
	return over
}

// signal sends a signal to a pod's process.
func (w *world) signal(t *testing.T, pod *corev1.Pod, signal string) {
	t.Helper()
	ctx, cancel := lasting(t)
	defer cancel()
	if err := fault.Signal(ctx, w.faults, pod.Spec.NodeName, container(t, pod), signal); err != nil {
		t.Fatal(err)
	}
}

// leader is the controller's pod that leads, as its metrics say.
func (w *world) leader(ctx context.Context) (*corev1.Pod, error) {
	pods, err := w.part(ctx, "controller")
	if err != nil {
		return nil, err
	}
	for i := range pods {
		if v, err := w.metric(ctx, pods[i].Name, "rollcall_controller_leading"); err == nil && v == 1 {
			return &pods[i], nil
		}
	}
	return nil, errors.New("no controller says that it leads")
}

// ledFrom is what leads from a node, in words; empty: nothing.
func (w *world) ledFrom(ctx context.Context, node string) string {
	var led []string
	if leader, err := w.leader(ctx); err == nil && leader.Spec.NodeName == node {
		led = append(led, "the controllers'")
	}
	members, err := w.part(ctx, "etcd")
	if err != nil {
		return strings.Join(led, " and ")
	}
	for i := range members {
		if v, err := w.metricAt(ctx, members[i].Name, 2381, "etcd_server_is_leader"); err == nil && v == 1 && members[i].Spec.NodeName == node {
			led = append(led, "etcd's")
		}
	}
	return strings.Join(led, " and ")
}

// metric is the sum of a metric of one of Rollcall's pods.
func (w *world) metric(ctx context.Context, pod, name string) (float64, error) {
	return w.metricAt(ctx, pod, 8080, name)
}

func (w *world) metricAt(ctx context.Context, pod string, port int, name string) (float64, error) {
	raw, err := w.kube.CoreV1().RESTClient().Get().Namespace(namespace).Resource("pods").Name(fmt.Sprintf("%s:%d", pod, port)).
		SubResource("proxy").Suffix("metrics").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("metrics of %s: %w", pod, err)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(string(raw)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		fields := strings.Fields(rest)
		var v float64
		if _, err := fmt.Sscan(fields[len(fields)-1], &v); err != nil {
			return 0, fmt.Errorf("metric %s of %s: %w", name, pod, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("%s has no metric %s", pod, name)
	}
	return sum, nil
}

// home is the node on which the clients run; no fault meets it.
func (w *world) home(t *testing.T) string {
	t.Helper()
	return w.nodes(t)[0].Name
}

// nodes are those that pods are scheduled to, by name.
func (w *world) nodes(t *testing.T) []corev1.Node {
	t.Helper()
	list, err := w.kube.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var nodes []corev1.Node
	for _, n := range list.Items {
		scheduled := !n.Spec.Unschedulable
		for _, taint := range n.Spec.Taints {
			scheduled = scheduled && taint.Effect == corev1.TaintEffectPreferNoSchedule
		}
		if scheduled {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) < 3 {
		t.Fatalf("the cluster has %d nodes that take pods, and the suite needs 3", len(nodes))
	}
	return nodes
}

// victim is a server that is not on the clients' node. What else is on its node, the
// leader perhaps, a fault of that node meets too.
func (w *world) victim(t *testing.T) *corev1.Pod {
	t.Helper()
	servers, err := w.part(t.Context(), "server")
	if err != nil {
		t.Fatal(err)
	}
	home := w.home(t)
	for i := range servers {
		if servers[i].Spec.NodeName != home {
			return &servers[i]
		}
	}
	t.Fatalf("every server is on %s", home)
	return nil
}
