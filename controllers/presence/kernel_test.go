package presence

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestWhetherKernelsAreAskedIsSaid(t *testing.T) {
	said := func(band wire.Band, connections int) verdict.Kernel {
		return verdict.Kernel{Band: string(band), Online: true, Connections: connections, Detail: "why it is so"}
	}
	offline := said(wire.BandOK, 40)
	offline.Online = false
	for _, tt := range []struct {
		name        string
		all         map[string]verdict.Kernel
		status      metav1.ConditionStatus // empty: nothing is said
		reason      string
		message     string // part of it
		connections int    // below 0: absent
	}{
		{"heartbeat servers", nil, "", "", "", -1},
		{"all are", map[string]verdict.Kernel{"s/a": said(wire.BandOK, 3), "s/b": said(wire.BandUnread, 4)}, "True", v1alpha1.ReasonKernelAsked, "every server's", 7},
		{"none has clients", map[string]verdict.Kernel{"s/a": said(wire.BandOK, 0)}, "True", v1alpha1.ReasonKernelAsked, "", 0},
		{"nobody asks", map[string]verdict.Kernel{"s/a": {Connections: -1}, "s/b": {Connections: -1}}, "False", v1alpha1.ReasonNoSeverer, "2 of 2 servers, s/a among", -1},
		{"a severer is away", map[string]verdict.Kernel{"s/a": said(wire.BandOK, 3), "s/b": offline}, "False", v1alpha1.ReasonNoSeverer, "s/b among", 3},
		{"one can't", map[string]verdict.Kernel{"s/a": said(wire.BandOK, 3), "s/b": said(wire.BandBlind, -1), "s/c": offline}, "False", v1alpha1.ReasonKernelBlind, "Of s/b: why it is so", 3},
		{"a port that nobody listens on", map[string]verdict.Kernel{"s/a": said(wire.BandClosed, 0), "s/b": said(wire.BandOK, 2)}, "True", v1alpha1.ReasonPortClosed, "s/a among", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s v1alpha1.PresenceStatus
			var status metav1.ConditionStatus
			var reason, message string
			kernels(&s, tt.all, func(kind string, st metav1.ConditionStatus, r, m string) {
				if kind != v1alpha1.ConditionKernelAsked {
					t.Errorf("it says %s", kind)
				}
				status, reason, message = st, r, m
			})
			if status != tt.status || reason != tt.reason || !strings.Contains(message, tt.message) {
				t.Errorf("it says %s for %s: %s", status, reason, message)
			}
			n := -1
			if s.Counts.Connections != nil {
				n = int(*s.Counts.Connections)
			}
			if n != tt.connections {
				t.Errorf("%d connections, want %d", n, tt.connections)
			}
		})
	}
}
