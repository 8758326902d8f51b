package sever

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/sockets"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

func aPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "server-2", UID: "pod-1", Labels: map[string]string{"app": "broker", v1alpha1.AcceptingLabel: "false"}},
		Spec: corev1.PodSpec{NodeName: "here", Containers: []corev1.Container{{
			Name: "server", Image: "none", Ports: []corev1.ContainerPort{{Name: "mqtt", ContainerPort: 1883}},
		}}},
		Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}},
	}
}

func TestWhichPodsMayBeSevered(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*corev1.Pod, *v1alpha1.SeverOrder)
		reason string // empty: it may
		port   uint16
	}{
		{"one that is led to no more", func(*corev1.Pod, *v1alpha1.SeverOrder) {}, "", 1883},
		{"by the port's number", func(_ *corev1.Pod, o *v1alpha1.SeverOrder) { o.Port = intstr.FromInt32(8883) }, "", 8883},
		{"by the port of a sidecar", func(p *corev1.Pod, o *v1alpha1.SeverOrder) {
			p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers, nil
		}, "", 1883},
		{"another of its name", func(p *corev1.Pod, _ *v1alpha1.SeverOrder) { p.UID = "pod-2" }, v1alpha1.ReasonNoSuchPod, 0},
		{"another node's", func(p *corev1.Pod, _ *v1alpha1.SeverOrder) { p.Spec.NodeName = "there" }, v1alpha1.ReasonNoSuchPod, 0},
		{"one of the host's network", func(p *corev1.Pod, _ *v1alpha1.SeverOrder) { p.Spec.HostNetwork = true }, v1alpha1.ReasonHostNetwork, 0},
		{"one without such a port", func(_ *corev1.Pod, o *v1alpha1.SeverOrder) { o.Port = intstr.FromString("http") }, v1alpha1.ReasonNoSuchPort, 0},
		{"a port that is none", func(_ *corev1.Pod, o *v1alpha1.SeverOrder) { o.Port = intstr.FromInt32(70000) }, v1alpha1.ReasonNoSuchPort, 0},
		{"one without an address", func(p *corev1.Pod, _ *v1alpha1.SeverOrder) { p.Status.PodIPs = nil }, v1alpha1.ReasonNoSuchPod, 0},
		{"one that accepts", func(p *corev1.Pod, _ *v1alpha1.SeverOrder) { p.Labels[v1alpha1.AcceptingLabel] = "true" }, v1alpha1.ReasonNotDiverted, 0},
		{"one that is not Ready by its gate", func(p *corev1.Pod, o *v1alpha1.SeverOrder) {
			o.Divert, p.Labels = v1alpha1.DivertReadinessGate, nil
			p.Status.Conditions = []corev1.PodCondition{{Type: v1alpha1.AcceptingGate, Status: corev1.ConditionFalse}}
		}, "", 1883},
		{"one that accepts by its gate, whatever its label", func(p *corev1.Pod, o *v1alpha1.SeverOrder) {
			o.Divert = v1alpha1.DivertReadinessGate
			p.Status.Conditions = []corev1.PodCondition{{Type: v1alpha1.AcceptingGate, Status: corev1.ConditionTrue}}
		}, v1alpha1.ReasonNotDiverted, 0},
		{"one whose gate nobody has set", func(_ *corev1.Pod, o *v1alpha1.SeverOrder) { o.Divert = v1alpha1.DivertReadinessGate }, v1alpha1.ReasonNotDiverted, 0},
		{"one that no label speaks of", func(p *corev1.Pod, _ *v1alpha1.SeverOrder) { p.Labels = nil }, v1alpha1.ReasonNotDiverted, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod, order := aPod(), &v1alpha1.SeverOrder{PodUID: "pod-1", Port: intstr.FromString("mqtt")}
			c.change(pod, order)
			got, err := targetOf(pod, true, order, "here")
			var r refusal
			if errors.As(err, &r); r.reason != c.reason || c.reason != "" && r.message == "" {
				t.Fatalf("it is refused with %q: %v", r.reason, err)
			}
			if c.reason == "" && (got.port != c.port || len(got.addresses) != 2) {
				t.Errorf("it is %+v", got)
			}
		})
	}
	if _, err := targetOf(&corev1.Pod{}, false, &v1alpha1.SeverOrder{}, ""); err == nil {
		t.Error("a pod that is gone may be severed")
	}
}

// With a real API server: nobody is severed until the Service's endpoints have
// followed, observers are spared, and the status says what was done, beside
// what the controller says.
func TestAFailoverIsFollowedInTheCluster(t *testing.T) {
	cp := controlplane.ForTest(t)
	installation := cp.Namespace(t, "sever")
	cfg := Config{RestConfig: cp.AdminConfig(), Node: "here", Namespace: installation, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
	if err := cfg.validate(); err != nil {
		t.Fatal(err)
	}
	k, err := newKube(cfg)
	if err != nil {
		t.Fatal(err)
	}
	create := func(o client.Object) {
		t.Helper()
		o.SetNamespace(installation)
		if err := k.api.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	running := func(pod *corev1.Pod, ip string) {
		t.Helper()
		pod.UID = ""
		create(pod)
		pod.Status.PodIPs, pod.Status.PodIP = []corev1.PodIP{{IP: ip}}, ip
		if err := k.api.Status().Update(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	pod := aPod()
	running(pod, "10.0.0.1")
	running(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "agent", Labels: map[string]string{"app.kubernetes.io/name": "rollcall", "app.kubernetes.io/component": "agent"}},
		Spec:       corev1.PodSpec{NodeName: "there", Containers: []corev1.Container{{Name: "agent", Image: "none"}}},
	}, "10.0.0.99")
	fo := &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{Name: "fo"}, Spec: v1alpha1.FailoverSpec{Presence: "servers", Server: "server-2"},
	}
	create(fo)

	kernel := &scene{t: t, fo: fo}
	for _, remote := range []string{"10.1.0.1:1", "10.1.0.2:1", "10.1.0.3:1", "10.0.0.99:1"} {
		kernel.clients = append(kernel.clients, sockets.Socket{
			State: sockets.Established, Local: netip.MustParseAddrPort("10.0.0.1:1883"), Remote: netip.MustParseAddrPort(remote),
		})
	}
	s, err := newSeverer(cfg, k, func(_ context.Context, addresses []netip.Addr) (namespace, error) {
		if len(addresses) != 1 || addresses[0].String() != "10.0.0.1" {
			t.Errorf("the namespace of %v is entered", addresses)
		}
		return playedNamespace{kernel}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stop := s.begin(ctx)
	done := make(chan error, 1)
	go func() {
		done <- k.run(ctx, toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(o any) { s.see(o) }, UpdateFunc: func(_, o any) { s.see(o) }, DeleteFunc: func(o any) { s.gone(o) },
		})
	}()
	t.Cleanup(func() {
		stop()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the Failovers to be known", func() bool { return k.ready() == nil })

	// order is what the controller does: the order, renewed.
	order := func() {
		t.Helper()
		if err := k.api.Get(t.Context(), client.ObjectKeyFromObject(fo), fo); err != nil {
			t.Fatal(err)
		}
		before := client.MergeFrom(fo.DeepCopy())
		meta.SetStatusCondition(&fo.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionProcessing, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMoving})
		fo.Status.Moved = 7
		fo.Status.Sever = &v1alpha1.SeverOrder{
			Installation: installation, Node: "here", PodUID: pod.UID, Port: intstr.FromString("mqtt"),
			ClientsPerSecond: 100, FirstWave: 10, RenewedAt: metav1.NowMicro(),
		}
		if err := k.api.Status().Patch(t.Context(), fo, before); err != nil {
			t.Fatal(err)
		}
	}
	// says waits for a reason of Severing, while it is asked for.
	says := func(reason string) {
		t.Helper()
		renewed := time.Time{}
		eventually(t, "Severing to be "+reason, func() bool {
			if time.Since(renewed) > time.Second {
				order()
				renewed = time.Now()
			}
			if err := k.api.Get(t.Context(), client.ObjectKeyFromObject(fo), fo); err != nil {
				t.Fatal(err)
			}
			c := meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionSevering)
			return c != nil && c.Reason == reason
		})
	}
	eventually(t, "the Failover to be followed", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.jobs) == 1
	})
	says(v1alpha1.ReasonNotDiverted) // there is no Service
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "all-1", Labels: map[string]string{discoveryv1.LabelServiceName: "all"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", UID: pod.UID}}},
	}
	create(slice) // before the Service, which would lead nowhere without it
	for name, selector := range map[string]map[string]string{
		"all":      {"app": "broker", v1alpha1.AcceptingLabel: "true"},
		"headless": {"app": "broker"},
	} {
		create(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{{Port: 1883}}}})
	}
	eventually(t, "the Service to be waited for", func() bool {
		order()
		c := meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionSevering)
		return c != nil && c.Message == "The Service all still leads to the pod."
	})
	if n := kernel.count(); n != 0 {
		t.Fatalf("%d were ended before", n)
	}
	slice.Endpoints = nil
	if err := k.api.Update(t.Context(), slice); err != nil {
		t.Fatal(err)
	}
	says(v1alpha1.ReasonNoneLeft)
	if d := fo.Status.Severed; d == nil || d.Connections != 3 || d.Node != "here" || d.Port != 1883 || fo.Status.Moved != 7 {
		t.Errorf("the status is %+v", fo.Status)
	}
	kernel.mu.Lock()
	if len(kernel.clients) != 1 || kernel.clients[0].Remote.Addr().String() != "10.0.0.99" {
		t.Errorf("left are %+v", kernel.clients)
	}
	kernel.mu.Unlock()
	if err := k.api.Delete(t.Context(), fo); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it to be followed no more", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.jobs) == 0
	})
}

// eventually polls.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited for %s", what)
		}
	}
}
