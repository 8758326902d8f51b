package sever

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

func TestWhichServicesMustLeadPastAPod(t *testing.T) {
	service := func(name string, selector map[string]string) corev1.Service {
		return corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Selector: selector}}
	}
	app := map[string]string{"app": "broker"}
	unready := service("unready", app)
	unready.Spec.PublishNotReadyAddresses = true
	all := []corev1.Service{
		service("plain", app), unready, service("others", map[string]string{"app": "web"}), service("outside", nil),
		service("following", map[string]string{"app": "broker", v1alpha1.AcceptingLabel: "true"}),
	}
	for _, c := range []struct {
		mode   v1alpha1.DivertMode
		labels map[string]string
		want   []string
	}{
		{"", aPod().Labels, []string{"following"}},
		{v1alpha1.DivertLabel, aPod().Labels, []string{"following"}},
		{v1alpha1.DivertReadinessGate, app, []string{"plain"}},
		{v1alpha1.DivertReadinessGate, map[string]string{"app": "broker", v1alpha1.AcceptingLabel: "true"}, []string{"plain", "following"}},
		{v1alpha1.DivertReadinessGate, nil, nil},
	} {
		pod := aPod()
		pod.Labels = c.labels
		if got := followers(pod, all, c.mode); !slices.Equal(got, c.want) {
			t.Errorf("%q: of a pod labelled %v they are %v, want %v", c.mode, c.labels, got, c.want)
		}
	}
}

func TestWhetherEndpointsLeadToAPod(t *testing.T) {
	slice := func(uid string, ready *bool) []discoveryv1.EndpointSlice {
		return []discoveryv1.EndpointSlice{{Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.0.0.9"}},
			{TargetRef: &corev1.ObjectReference{UID: types.UID(uid)}, Conditions: discoveryv1.EndpointConditions{Ready: ready}},
		}}}
	}
	for _, c := range []struct {
		name            string
		slices          []discoveryv1.EndpointSlice
		byLabel, byGate bool
	}{
		{"there are none", nil, false, false},
		{"they are another's", slice("pod-2", nil), false, false},
		{"of which nothing is said", slice("pod-1", nil), true, true},
		{"which are ready", slice("pod-1", new(true)), true, true},
		{"which are not ready", slice("pod-1", new(false)), true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if leads(c.slices, aPod(), "") != c.byLabel || leads(c.slices, aPod(), v1alpha1.DivertReadinessGate) != c.byGate {
				t.Errorf("by label %v, by gate %v", !c.byLabel, !c.byGate)
			}
		})
	}
}
