package sampler

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

func aPresence(name string, created int64) v1alpha1.Presence {
	p := v1alpha1.Presence{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: metav1.Unix(created, 0)}}
	p.Spec.Servers = &v1alpha1.ServersSpec{
		Selector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Port: intstr.FromString("http"),
		Probe: v1alpha1.ProbeSpec{HTTP: &v1alpha1.HTTPProbe{Path: "/"}},
	}
	return p
}

func aPod(name string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "here", Containers: []corev1.Container{{
			Name: "web", Image: "none", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}},
	}
}

func TestWhoseKernelIsAsked(t *testing.T) {
	ours := v1alpha1.Installation{Namespace: "rollcall"}
	for _, tt := range []struct {
		name   string
		change func(*v1alpha1.Presence, *corev1.Pod)
		// there: it is a target; refused is part of why its kernel can't be asked.
		there   bool
		refused string
	}{
		{"a pod of a service", func(*v1alpha1.Presence, *corev1.Pod) {}, true, ""},
		{"by the port's number", func(p *v1alpha1.Presence, _ *corev1.Pod) { p.Spec.Servers.Port = intstr.FromInt32(8080) }, true, ""},
		{"a heartbeat server", func(p *v1alpha1.Presence, _ *corev1.Pod) { p.Spec.Servers.Probe = v1alpha1.ProbeSpec{} }, false, ""},
		{"another node's", func(_ *v1alpha1.Presence, pod *corev1.Pod) { pod.Spec.NodeName = "there" }, false, ""},
		{"another namespace's", func(_ *v1alpha1.Presence, pod *corev1.Pod) { pod.Namespace = "bank" }, false, ""},
		{"one that is not selected", func(_ *v1alpha1.Presence, pod *corev1.Pod) { pod.Labels = nil }, false, ""},
		{"another installation's", func(p *v1alpha1.Presence, _ *corev1.Pod) {
			p.Labels = map[string]string{v1alpha1.InstallationLabel: "rollcall-2"}
		}, false, ""},
		{"one that has ended", func(_ *v1alpha1.Presence, pod *corev1.Pod) { pod.Status.Phase = corev1.PodFailed }, false, ""},
		{"one without an address yet", func(_ *v1alpha1.Presence, pod *corev1.Pod) { pod.Status.PodIPs = nil }, false, ""},
		{"a selector that can't be read", func(p *v1alpha1.Presence, _ *corev1.Pod) {
			p.Spec.Servers.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}
		}, false, ""},
		{"one on its node's network", func(_ *v1alpha1.Presence, pod *corev1.Pod) { pod.Spec.HostNetwork = true }, true, "take hostNetwork off it"},
		{"a port that it has not", func(p *v1alpha1.Presence, _ *corev1.Pod) { p.Spec.Servers.Port = intstr.FromString("grpc") }, true,
			`called "grpc": set spec.servers.port of Presence web`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, pod := aPresence("web", 1), aPod("web-0")
			tt.change(&p, &pod)
			all := compose([]v1alpha1.Presence{p}, []corev1.Pod{pod}, ours, "here")
			if len(all) != 0 != tt.there {
				t.Fatalf("targets are %+v", all)
			}
			if !tt.there {
				return
			}
			if got := all[0].Refused; (got == "") != (tt.refused == "") || !strings.Contains(got, tt.refused) {
				t.Errorf("refused is %q", got)
			}
			want := Target{
				Server: "shop/web-0", Presence: types.NamespacedName{Namespace: "shop", Name: "web"}, UID: "uid-web-0", Port: 8080, Window: time.Second, Refused: all[0].Refused,
				Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
			}
			if all[0].Port == 0 {
				want.Port = 0
			}
			if !all[0].equal(want) {
				t.Errorf("it is %+v, want %+v", all[0], want)
			}
		})
	}
}

func TestWhoIsDoubted(t *testing.T) {
	web, servers := aPresence("web", 1), aPresence("servers", 2)
	servers.Spec.Servers.Probe = v1alpha1.ProbeSpec{}
	for _, p := range []*v1alpha1.Presence{&web, &servers} {
		p.Status.NotAlive = []v1alpha1.MemberStatus{{Name: p.Name + "-0", State: "Suspect"}, {Name: p.Name + "-1", State: "Overloaded"}, {Name: p.Name + "-2", State: "Unknown"}}
	}
	got := doubted([]v1alpha1.Presence{web, servers, {}})
	if len(got) != 2 || !got["shop/web-0"] || !got["shop/web-1"] {
		t.Errorf("they are %v", got)
	}
}

func TestAPodIsTheOldestPresences(t *testing.T) {
	young, old := aPresence("young", 2), aPresence("old", 1)
	young.Spec.Servers.Port = intstr.FromInt32(1)
	old.Spec.Servers.Overload.Window = metav1.Duration{Duration: 3 * time.Second}
	pods := []corev1.Pod{aPod("web-1"), aPod("web-0")}
	all := compose([]v1alpha1.Presence{young, old}, pods, v1alpha1.Installation{}, "here")
	if len(all) != 2 || all[0].Server != "shop/web-0" || all[1].Server != "shop/web-1" || all[0].Port != 8080 || all[0].Window != 3*time.Second {
		t.Errorf("targets are %+v", all)
	}
	// One of heartbeat servers that is older takes them all the same.
	old.Spec.Servers.Probe = v1alpha1.ProbeSpec{}
	if all := compose([]v1alpha1.Presence{young, old}, pods, v1alpha1.Installation{}, "here"); len(all) != 0 {
		t.Errorf("targets are %+v", all)
	}
	if slices.EqualFunc(all, all[:1], Target.equal) {
		t.Error("two are one")
	}
}
