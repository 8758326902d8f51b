package sampler

import (
	"context"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

// With a real API server: the services' pods of this node come and go as targets,
// and observers of the installation are known by their addresses.
func TestTheClusterIsFollowed(t *testing.T) {
	cp := controlplane.ForTest(t)
	shop, installation := cp.Namespace(t, "sampler-shop"), cp.Namespace(t, "sampler")
	k, err := NewCluster(cp.AdminConfig(), v1alpha1.Installation{Namespace: installation, LabelledOnly: true}, "sampler-here")
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	api, err := client.New(cp.AdminConfig(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	create := func(pod corev1.Pod, namespace, ip string) *corev1.Pod {
		t.Helper()
		pod.Namespace, pod.UID, pod.Status = namespace, "", corev1.PodStatus{}
		if err := api.Create(t.Context(), &pod); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = api.Delete(context.Background(), &pod, client.GracePeriodSeconds(0)) })
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}
		if err := api.Status().Update(t.Context(), &pod); err != nil {
			t.Fatal(err)
		}
		return &pod
	}
	here, there, agent := aPod("web-0"), aPod("web-1"), aPod("agent-0")
	here.Spec.NodeName, there.Spec.NodeName, agent.Spec.NodeName = "sampler-here", "sampler-there", "sampler-there"
	agent.Labels = map[string]string{"app.kubernetes.io/name": "rollcall", "app.kubernetes.io/component": "agent"}
	pod := create(here, shop, "10.7.0.1")
	create(there, shop, "10.7.0.2")
	create(agent, installation, "10.7.0.99")
	stray := agent // of another installation
	stray.Name = "agent-1"
	create(stray, shop, "10.7.0.98")

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.After(patience); !ok(); {
			select {
			case <-k.Changed():
			case <-deadline:
				t.Fatalf("waited %v until %s; targets are %+v", patience, what, k.Targets())
			}
		}
	}
	p := aPresence("web", 0)
	p.Namespace, p.CreationTimestamp, p.Labels = shop, metav1.Time{}, map[string]string{v1alpha1.InstallationLabel: installation}
	if err := api.Create(t.Context(), &p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Delete(context.Background(), &p) })
	until("the pod of this node is a target", func() bool {
		all := k.Targets()
		return len(all) == 1 && all[0].Server == shop+"/web-0" && all[0].UID == pod.UID && all[0].Port == 8080 && all[0].Window == time.Second
	})
	if o := k.Observers(); len(o) != 1 || !o[netip.MustParseAddr("10.7.0.99")] {
		t.Errorf("observers are at %v", o)
	}
	fo := v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "web-9"},
		Spec:       v1alpha1.FailoverSpec{Presence: "web", Server: "web-9"},
	}
	if err := api.Create(t.Context(), &fo); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Delete(context.Background(), &fo) })
	meta.SetStatusCondition(&fo.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionProcessing, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMoving})
	if err := api.Status().Update(t.Context(), &fo); err != nil {
		t.Fatal(err)
	}
	web := types.NamespacedName{Namespace: shop, Name: "web"}
	for deadline := time.After(patience); !k.Moving(web); {
		select {
		case <-time.After(settle):
		case <-deadline:
			t.Fatal("that clients are moved among its servers is not known")
		}
	}
	if err := api.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	until("it is gone", func() bool { return len(k.Targets()) == 0 })
}
