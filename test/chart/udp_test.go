package chart

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestBeatsByDatagramAreSwitchedOn(t *testing.T) {
	beats := func(r rendering) bool {
		return slices.ContainsFunc(podTemplate(t, r.find(t, "StatefulSet", "rollcall-server")).Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool {
			return p.Name == "beats" && p.ContainerPort == 8884 && p.Protocol == corev1.ProtocolUDP
		})
	}
	if r := render(t); beats(r) || slices.Contains(r.args(t, "StatefulSet", "rollcall-server"), "--udp-listen=:8884") {
		t.Error("they are taken where nobody asks for it")
	}
	r := render(t, "--set", "server.udp.enabled=true,server.udp.advertise=$(POD_IP):8884")
	args := r.args(t, "StatefulSet", "rollcall-server")
	if got := flag(t, args, "udp-listen"); got != ":8884" || !beats(r) {
		t.Errorf("they are taken at %q", got)
	}
	if got := flag(t, args, "udp-advertise"); got != "$(POD_IP):8884" {
		t.Errorf("clients are told %q", got)
	}
}
