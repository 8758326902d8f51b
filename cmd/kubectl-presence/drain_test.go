package main

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

func presenceOf(name string, labels map[string]string) v1alpha1.Presence {
	return v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "im"},
		Spec:       v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{Selector: metav1.LabelSelector{MatchLabels: labels}}},
	}
}

func podOf(labels map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "server-2", Namespace: "im", Labels: labels, CreationTimestamp: metav1.NewTime(ago(time.Hour))}}
}

func TestWhichPresenceAServerIsDrainedUnder(t *testing.T) {
	broker := map[string]string{"app": "broker"}
	refused := presenceOf("newer", broker)
	refused.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonConflict}}
	all := []v1alpha1.Presence{presenceOf("web", map[string]string{"app": "web"}), refused, presenceOf("brokers", broker)}
	for _, tt := range []struct{ name, wish, of, why string }{
		{"the one that is honoured", "", "brokers", ""},
		{"the one that is named", "brokers", "brokers", ""},
		{"one that there isn't", "b", "", "there is no Presence b of servers in namespace im"},
		{"one that selects others", "web", "", "Presence web doesn't select it"},
		{"one that isn't honoured", "newer", "", "Presence brokers selects it too, and is older"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			of, why := chosen(all, podOf(broker), tt.wish)
			name := ""
			if of != nil {
				name = of.Name
			}
			if name != tt.of || !strings.HasPrefix(why, tt.why) || (why == "") != (tt.why == "") {
				t.Errorf("%q, %q", name, why)
			}
		})
	}
	if of, why := chosen(all, podOf(nil), ""); of != nil || !strings.Contains(why, "no Presence in namespace im selects it") {
		t.Errorf("a pod that is nobody's: %v, %q", of, why)
	}
}

func TestWhatSpeaksAgainstADrain(t *testing.T) {
	paused := map[string]string{v1alpha1.PausedAnnotation: "true"}
	moving := failoverOf("f-1", v1alpha1.FailoverOverloaded, ago(time.Minute), v1alpha1.FailoverStatus{Conditions: progress(metav1.ConditionTrue, v1alpha1.ReasonMoving, "")})
	drained := failoverOf("f-2", v1alpha1.FailoverDrain, ago(time.Minute), v1alpha1.FailoverStatus{Conditions: progress(metav1.ConditionFalse, v1alpha1.ReasonMoved, "")})
	some := moving
	some.Spec.Count = new(int32(5))
	for _, tt := range []struct {
		name    string
		change  func(of *v1alpha1.Presence, pod *corev1.Pod)
		about   []v1alpha1.Failover
		because string
	}{
		{"nothing", func(*v1alpha1.Presence, *corev1.Pod) {}, nil, ""},
		{"it is being moved", func(*v1alpha1.Presence, *corev1.Pod) {}, []v1alpha1.Failover{moving}, "Failover f-1 is moving its clients already"},
		{"only some are moved", func(*v1alpha1.Presence, *corev1.Pod) {}, []v1alpha1.Failover{some}, ""},
		{"it was drained and is still out", func(_ *v1alpha1.Presence, pod *corev1.Pod) {
			pod.Labels = map[string]string{v1alpha1.AcceptingLabel: "false"}
		}, []v1alpha1.Failover{drained}, "kubectl delete failover f-2 -n im lets it in again"},
		{"it was drained and is not Ready by that", func(_ *v1alpha1.Presence, pod *corev1.Pod) {
			pod.Status.Conditions = []corev1.PodCondition{{Type: v1alpha1.AcceptingGate, Status: corev1.ConditionFalse}}
		}, []v1alpha1.Failover{drained}, "kubectl delete failover f-2 -n im lets it in again"},
		{"it was drained and is in again", func(_ *v1alpha1.Presence, pod *corev1.Pod) {
			pod.Labels = map[string]string{v1alpha1.AcceptingLabel: "true"}
		}, []v1alpha1.Failover{drained}, ""},
		{"the pod has ended", func(_ *v1alpha1.Presence, pod *corev1.Pod) { pod.Status.Phase = corev1.PodFailed }, nil, "it has ended"},
		{"the pod is paused", func(_ *v1alpha1.Presence, pod *corev1.Pod) { pod.Annotations = paused }, nil, "kubectl presence resume pod/server-2 -n im"},
		{"the Presence is paused", func(of *v1alpha1.Presence, _ *corev1.Pod) { of.Annotations = paused }, nil, "kubectl presence resume brokers -n im"},
		{"everything is paused", func(of *v1alpha1.Presence, _ *corev1.Pod) {
			of.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionFrozen, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonPaused}}
		}, nil, "rollcall resume"},
		{"the brake holds, which a person may overrule", func(of *v1alpha1.Presence, _ *corev1.Pod) {
			of.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionFrozen, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonTooManyLost}}
		}, nil, ""},
		{"the Presence is not in force", func(of *v1alpha1.Presence, _ *corev1.Pod) {
			of.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonConflict}}
		}, nil, "not in force (SelectedByAnother)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			of, pod := presenceOf("brokers", nil), podOf(nil)
			tt.change(&of, pod)
			if why := obstacle(&of, pod, tt.about); !strings.Contains(why, tt.because) || (why == "") != (tt.because == "") {
				t.Errorf("%q, want %q", why, tt.because)
			}
		})
	}
}

func TestWhatTheStatusSaysOfAServer(t *testing.T) {
	judging := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonJudging}
	full := make([]v1alpha1.MemberStatus, v1alpha1.MaxNotAlive)
	for _, tt := range []struct {
		name   string
		status v1alpha1.PresenceStatus
		state  string
		says   string
		stale  bool
	}{
		{"no status yet", v1alpha1.PresenceStatus{}, "Unknown", "No controller has written a status", false},
		{"not listed", v1alpha1.PresenceStatus{Conditions: []metav1.Condition{judging}}, "Alive", "not among", false},
		{"not listed, where no more fit", v1alpha1.PresenceStatus{Conditions: []metav1.Condition{judging}, NotAlive: full}, "Unknown", "lists 32 servers", false},
		{"listed", v1alpha1.PresenceStatus{
			Conditions: []metav1.Condition{judging},
			NotAlive:   []v1alpha1.MemberStatus{{Name: "server-2", State: "Overloaded", Message: "so"}},
		}, "Overloaded", "so", false},
		{"not ready", v1alpha1.PresenceStatus{
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonStoreAway}},
		}, "Alive", "", true},
		{"not in force", v1alpha1.PresenceStatus{
			Conditions: []metav1.Condition{judging, {Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonConflict}},
		}, "Unknown", "SelectedByAnother", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			of := presenceOf("brokers", nil)
			of.Status = tt.status
			s := statusOf(&of, "server-2")
			if s.State != tt.state || !strings.Contains(s.Message, tt.says) || (s.Stale != "") != tt.stale {
				t.Errorf("%+v", s)
			}
		})
	}
}
