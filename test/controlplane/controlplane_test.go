package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// start begins a control plane for one test.
func start(t *testing.T) *ControlPlane {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a kube-apiserver, and -short asks for none")
	}
	cp, err := Start(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Stop(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(cp.Dir()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Stop left the directory: %v", err)
		}
	})
	return cp
}

func TestControlPlaneDoesWhatClustersDo(t *testing.T) {
	cp := start(t)
	ctx := t.Context()
	client, err := kubernetes.NewForConfig(cp.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	namespace := cp.Namespace(t, "does")

	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "server-0"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "server", Image: "none"}}},
	}
	if _, err := client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Errorf("a pod can be made without a service account: %v", err)
	}

	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "phone"}}
	if _, err := client.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"rollcall"}}}
	request, err = client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, "phone", request, metav1.CreateOptions{})
	if err != nil || request.Status.Token == "" {
		t.Errorf("a service account gets a token: %v", err)
	}

	nobody, err := cp.RESTConfig("nobody")
	if err != nil {
		t.Fatal(err)
	}
	powerless, err := kubernetes.NewForConfig(nobody)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := powerless.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("RBAC refuses a user without rights: got %v", err)
	}

	if err := cp.InstallCRDs(ctx, "testdata"); err != nil {
		t.Fatal(err)
	}
	kubectl := exec.CommandContext(ctx, cp.Kubectl(), "--kubeconfig", cp.AdminKubeconfig(), "get", "widgets", "-A")
	if out, err := kubectl.CombinedOutput(); err != nil || !strings.Contains(string(out), "No resources found") {
		t.Errorf("kubectl knows an installed kind: %v: %s", err, out)
	}
	if err := cp.InstallCRDs(ctx, t.TempDir()); err == nil || !strings.Contains(err.Error(), "no CustomResourceDefinition") {
		t.Errorf("a directory without CRDs: got %v", err)
	}
}

func TestAPIServerGoesAwayAndComesBack(t *testing.T) {
	cp := start(t)
	ctx := t.Context()
	config := cp.AdminConfig()
	config.Timeout = time.Minute
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	config.Timeout = time.Second
	hasty, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	namespace := cp.Namespace(t, "survives")
	by := func(client kubernetes.Interface) error {
		_, err := client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		return err
	}
	found := func() error { return by(client) }

	if err := cp.APIServer.Pause(); err != nil {
		t.Fatal(err)
	}
	err = by(hasty)
	if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a paused API server accepts and does not answer: got %v", err)
	}
	if err := cp.APIServer.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := found(); err != nil {
		t.Errorf("a resumed API server answers: %v", err)
	}

	before := cp.APIServer.PID()
	cp.APIServer.Kill()
	if err := found(); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a killed API server refuses: got %v", err)
	}
	if err := cp.APIServer.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if err := found(); err != nil {
		t.Errorf("a restarted API server has the same address and data: %v", err)
	}
	if cp.APIServer.PID() == before {
		t.Error("a restarted API server is another process")
	}
}

func TestEtcdAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an etcd, and -short asks for none")
	}
	etcd, err := StartEtcd(t.Context(), EtcdConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := etcd.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := etcd.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscanf(etcd.Endpoint(), "http://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	if _, err := StartEtcd(t.Context(), EtcdConfig{Port: port}); !errors.Is(err, errPortTaken) {
		t.Errorf("a port that is asked for and taken: got %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{"a port out of range", Config{EtcdPort: 70000}, "EtcdPort is 70000"},
		{"a negative time", Config{StartTimeout: -1}, "StartTimeout"},
		{"a directory without programs", Config{Assets: t.TempDir()}, "has no etcd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Start(context.Background(), c.config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to name %q", err, c.want)
			}
		})
	}
}

func TestFreePortIsTriedAgain(t *testing.T) {
	var tried []int
	err := onFreePort(0, func(port int) error {
		tried = append(tried, port)
		if len(tried) < 3 {
			return fmt.Errorf("starting: %w", errPortTaken)
		}
		return nil
	})
	if err != nil || len(tried) != 3 {
		t.Errorf("tried %v, got %v", tried, err)
	}
	for _, port := range tried {
		if port < firstPort || port >= lastPort {
			t.Errorf("port %d is out of range", port)
		}
	}
	failure := errors.New("no such file")
	if err := onFreePort(0, func(int) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("other failures are not tried again: got %v", err)
	}
}
