package agent

import (
	"context"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

// patience is what a test waits for what should take a second or two.
const patience = 30 * time.Second

// TestKubeCluster follows a real API server.
func TestKubeCluster(t *testing.T) {
	cp := controlplane.ForTest(t)
	namespace := cp.Namespace(t, "agent")
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(types); err != nil {
			t.Fatal(err)
		}
	}
	api, err := client.New(cp.AdminConfig(), client.Options{Scheme: types})
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewCluster(cp.AdminConfig(), v1alpha1.Installation{Namespace: namespace}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	until := func(what string, ok func() bool) {
		t.Helper()
		timeout := time.After(patience)
		for !ok() {
			select {
			case <-k.Changed():
			case <-timeout:
				t.Fatalf("%s: nodes %v, agents %v, servers %v", what, k.Nodes(), k.Agents(), k.Servers())
			}
		}
	}
	create := func(o client.Object, status func()) {
		t.Helper()
		if err := api.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
		if status != nil {
			status()
			if err := api.Status().Update(ctx, o); err != nil {
				t.Fatal(err)
			}
		}
	}
	pod := func(name, component, ip string, port corev1.ContainerPort) *corev1.Pod {
		t.Helper()
		p := testPod(namespace, name, namespace+"-n1", ip, port)
		p.Labels = map[string]string{AgentLabel: component}
		for i := range p.Spec.Containers {
			p.Spec.Containers[i].Image = "none"
		}
		want := p.Status
		create(&p, func() { p.Status = want })
		return &p
	}

	node := testNode(namespace+"-n1", "z1")
	create(&node, func() {
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}
	})
	t.Cleanup(func() { _ = api.Delete(context.Background(), &node) })
	pod("agent-1", "agent", "10.1.0.1", corev1.ContainerPort{Name: "gossip", ContainerPort: 7946})
	s0 := pod("s-0", "server", "10.2.0.0", corev1.ContainerPort{Name: "mqtt", ContainerPort: 1883})
	until("node and agent", func() bool { return len(k.Nodes()) == 1 && len(k.Agents()) == 1 })
	if got, want := k.Nodes()[0], (Node{node.Name, "z1", "10.0.0.1"}); got != want {
		t.Errorf("node %+v, want %+v", got, want)
	}
	if len(k.Servers()) != 0 {
		t.Errorf("servers without a Presence: %v", k.Servers())
	}

	presence := &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "servers"},
		Spec: v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
			Selector: metav1.LabelSelector{MatchLabels: map[string]string{AgentLabel: "server"}},
			Port:     intstr.FromString("mqtt"),
		}},
	}
	create(presence, nil)
	until("a server", func() bool { return len(k.Servers()) == 1 })
	want := Target{
		Name: namespace + "/s-0", Node: node.Name, Zone: "z1", Address: "10.2.0.0:1883",
		AnswerTime: 500 * time.Millisecond, Window: time.Second, Observers: 3, Presence: namespace + "/servers",
	}
	if got := k.Servers()[0]; got != want {
		t.Errorf("server %+v, want %+v", got, want)
	}

	s1 := pod("s-1", "server", "10.2.0.1", corev1.ContainerPort{Name: "mqtt", ContainerPort: 1883})
	until("another server", func() bool { return len(k.Servers()) == 2 })
	s1.Status.PodIP = "10.2.0.99"
	s1.Status.PodIPs = nil
	if err := api.Status().Update(ctx, s1); err != nil {
		t.Fatal(err)
	}
	until("its new address", func() bool { return len(k.Servers()) == 2 && k.Servers()[1].Address == "10.2.0.99:1883" })
	if err := api.Delete(ctx, s0, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	until("one server less", func() bool { return len(k.Servers()) == 1 && k.Servers()[0].Name == namespace+"/s-1" })
	if err := api.Delete(ctx, presence); err != nil {
		t.Fatal(err)
	}
	until("no servers", func() bool { return len(k.Servers()) == 0 })
}
