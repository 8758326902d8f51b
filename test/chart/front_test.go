package chart

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// port is the number of a container's port; 0: there is none of that name.
func port(t *testing.T, r rendering, name string) int32 {
	t.Helper()
	for _, p := range podTemplate(t, r.find(t, "StatefulSet", "rollcall-server")).Spec.Containers[0].Ports {
		if p.Name == name {
			return p.ContainerPort
		}
	}
	return 0
}

func TestBeatsByHTTPAreSwitchedOn(t *testing.T) {
	if r := render(t); port(t, r, "beats-http") != 0 {
		t.Error("they are taken where nobody asks for it")
	}
	for _, c := range []struct {
		name, set, flag, address string
		port                     int32
	}{
		{"with TLS", "server.http.enabled=true", "beats-tls-listen", ":8443", 8443},
		{"without TLS", "server.http.enabled=true,server.tls.enabled=false", "beats-listen", ":8081", 8081},
	} {
		r := render(t, "--set", c.set)
		if got := flag(t, r.args(t, "StatefulSet", "rollcall-server"), c.flag); got != c.address || port(t, r, "beats-http") != c.port {
			t.Errorf("%s: they are taken at %q", c.name, got)
		}
		for _, name := range []string{"rollcall", "rollcall-server"} {
			service := decode[corev1.Service](t, r.find(t, "Service", name))
			if !slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == "beats-http" && p.Port == c.port }) {
				t.Errorf("%s: Service %s does not lead there: %+v", c.name, name, service.Spec.Ports)
			}
		}
	}
}

func TestALoadBalancerHasAListenerOfItsOwn(t *testing.T) {
	r := render(t, "--set", "server.balanced.enabled=true,server.balanced.trusted={10.1.0.0/24,2001:db8::/64}")
	args := r.args(t, "StatefulSet", "rollcall-server")
	if flag(t, args, "balanced-listen") != ":8885" || flag(t, args, "proxy-trusted") != "10.1.0.0/24,2001:db8::/64" || port(t, r, "mqtt-balanced") != 8885 {
		t.Errorf("the flags are %v", args)
	}
	balanced := decode[corev1.Service](t, r.find(t, "Service", "rollcall-balanced"))
	if p := balanced.Spec.Ports; balanced.Spec.Type != corev1.ServiceTypeLoadBalancer || len(p) != 1 || p[0].Port != 8883 || p[0].TargetPort.StrVal != "mqtt-balanced" ||
		balanced.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal {
		t.Errorf("its Service is %+v", balanced.Spec)
	}
	if p := decode[corev1.Service](t, r.find(t, "Service", "rollcall")).Spec.Ports; p[0].TargetPort.StrVal != "mqtt" {
		t.Errorf("agents are led to it: %+v", p)
	}
	policy := decode[networkingv1.NetworkPolicy](t, r.find(t, "NetworkPolicy", "rollcall-server"))
	if !slices.ContainsFunc(policy.Spec.Ingress, func(i networkingv1.NetworkPolicyIngressRule) bool {
		return i.Ports[0].Port.StrVal == "mqtt-balanced" && len(i.From) == 2 && i.From[0].IPBlock.CIDR == "10.1.0.0/24"
	}) {
		t.Errorf("it is not let in: %+v", policy.Spec.Ingress)
	}
}

func decode[T any](t *testing.T, o *unstructured.Unstructured) *T {
	t.Helper()
	into := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into); err != nil {
		t.Fatal(err)
	}
	return into
}
