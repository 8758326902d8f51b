package v1alpha1_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

func duration(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }

// What a Go program leaves at zero is left out, and the API server fills it in.
func TestPresenceDefaults(t *testing.T) {
	a := newAPI(t)
	selector := metav1.LabelSelector{MatchLabels: map[string]string{"app": "broker"}}
	grace, none := duration(5*time.Second), duration(0)
	tests := []struct {
		name        string
		given, want v1alpha1.PresenceSpec
	}{{
		"servers are watched, and nothing is moved unless a person says so",
		v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{Selector: selector, Port: intstr.FromString("mqtt")}},
		v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
			Selector: selector,
			Port:     intstr.FromString("mqtt"),
			Probe:    v1alpha1.ProbeSpec{MQTT: &v1alpha1.MQTTProbe{}},
			Overload: v1alpha1.OverloadSpec{
				AnswerTime: duration(500 * time.Millisecond),
				Window:     duration(time.Second),
				Recovery:   duration(5 * time.Second),
				Observers:  3,
			},
			Failover: v1alpha1.FailoverPolicy{
				Mode:             v1alpha1.ModeAdvise,
				MaxServers:       intstr.FromString("10%"),
				ClientsPerSecond: 500,
				MinHealthy:       intstr.FromString("50%"),
				Divert:           v1alpha1.DivertLabel,
				Sever:            v1alpha1.SeverPolicy{Mode: v1alpha1.SeverOff},
			},
		}},
	}, {
		"what is set stays, and what is beside it is filled in",
		v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
			Selector: selector,
			Port:     intstr.FromInt32(1883),
			Overload: v1alpha1.OverloadSpec{AnswerTime: duration(1500 * time.Millisecond)},
			Failover: v1alpha1.FailoverPolicy{Mode: v1alpha1.ModeAutomatic, MaxServers: intstr.FromInt32(2)},
		}},
		v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
			Selector: selector,
			Port:     intstr.FromInt32(1883),
			Probe:    v1alpha1.ProbeSpec{MQTT: &v1alpha1.MQTTProbe{}},
			Overload: v1alpha1.OverloadSpec{
				AnswerTime: duration(1500 * time.Millisecond),
				Window:     duration(time.Second),
				Recovery:   duration(5 * time.Second),
				Observers:  3,
			},
			Failover: v1alpha1.FailoverPolicy{
				Mode:             v1alpha1.ModeAutomatic,
				MaxServers:       intstr.FromInt32(2),
				ClientsPerSecond: 500,
				MinHealthy:       intstr.FromString("50%"),
				Divert:           v1alpha1.DivertLabel,
				Sever:            v1alpha1.SeverPolicy{Mode: v1alpha1.SeverOff},
			},
		}},
	}, {
		"every node is watched, and dead ones are reported",
		v1alpha1.PresenceSpec{Nodes: &v1alpha1.NodesSpec{}},
		v1alpha1.PresenceSpec{Nodes: &v1alpha1.NodesSpec{OnDead: v1alpha1.OnDeadPolicy{Mode: v1alpha1.OnDeadAdvise}}},
	}, {
		"clients beat between once a second and once in ten minutes",
		v1alpha1.PresenceSpec{Clients: &v1alpha1.ClientsSpec{}},
		v1alpha1.PresenceSpec{Clients: &v1alpha1.ClientsSpec{
			Interval:           v1alpha1.IntervalBounds{Min: duration(time.Second), Max: duration(10 * time.Minute)},
			MissesUntilLate:    1,
			MissesUntilOffline: 1,
			Grace:              &grace,
			Retention:          duration(24 * time.Hour),
		}},
	}, {
		"no grace is not the default grace",
		v1alpha1.PresenceSpec{Clients: &v1alpha1.ClientsSpec{Grace: &none, Interval: v1alpha1.IntervalBounds{Min: duration(time.Minute)}}},
		v1alpha1.PresenceSpec{Clients: &v1alpha1.ClientsSpec{
			Interval:           v1alpha1.IntervalBounds{Min: duration(time.Minute), Max: duration(10 * time.Minute)},
			MissesUntilLate:    1,
			MissesUntilOffline: 1,
			Grace:              &none,
			Retention:          duration(24 * time.Hour),
		}},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &v1alpha1.Presence{
				ObjectMeta: metav1.ObjectMeta{GenerateName: "any-", Namespace: a.namespace},
				Spec:       tt.given,
			}
			if err := a.Create(t.Context(), p, client.FieldValidation("Strict")); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, p.Spec); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFailoverDefaultsToADrainByHand(t *testing.T) {
	a := newAPI(t)
	f := &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "any-", Namespace: a.namespace},
		Spec:       v1alpha1.FailoverSpec{Presence: "servers", Server: "server-2"},
	}
	if err := a.Create(t.Context(), f, client.FieldValidation("Strict")); err != nil {
		t.Fatal(err)
	}
	want := v1alpha1.FailoverSpec{Presence: "servers", Server: "server-2", Reason: v1alpha1.FailoverDrain}
	if diff := cmp.Diff(want, f.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}
