package controllers

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// service makes a ready pod that is no heartbeat server: it has no record.
func (w *world) service(name string) *server {
	w.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "none"}}},
	}
	w.create(pod)
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	if err := w.api.Status().Update(w.t.Context(), pod); err != nil {
		w.t.Fatal(err)
	}
	return &server{w: w, pod: pod, record: store.Server{Address: name + ".example:8080"}}
}

func TestAServiceOfAnyKindIsJudgedAndLeftAlone(t *testing.T) {
	w := newWorld(t, 3)
	var pods []*server
	for i := range 3 {
		pods = append(pods, w.service(fmt.Sprintf("web-%d", i)))
	}
	for _, s := range pods {
		w.hear(s, wire.BandOK, zones...)
	}
	w.create(&v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"},
		Spec: v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
			Selector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Port: port("web"),
			Probe:    v1alpha1.ProbeSpec{HTTP: &v1alpha1.HTTPProbe{Path: "/healthz"}},
			Failover: v1alpha1.FailoverPolicy{Mode: v1alpha1.ModeAutomatic},
		}},
	})
	c, _ := w.controller("one")
	w.ready(c)
	w.eventually("all are alive", func() bool {
		p := w.presence("web")
		return says(p, v1alpha1.ConditionHealthy, "True", v1alpha1.ReasonAllAlive) && p.Status.Counts.Alive == 3
	})
	w.hear(pods[1], wire.BandHung, "a", "b")
	w.eventually("the one that hangs is overloaded", func() bool {
		p := w.presence("web")
		return says(p, v1alpha1.ConditionHealthy, "False", v1alpha1.ReasonOverloaded) && *p.Status.Counts.Overloaded == 1 &&
			len(p.Status.NotAlive) == 1 && p.Status.NotAlive[0].Name == "web-1"
	})
	w.always("nobody is moved: its clients are counted nowhere", time.Second, func() bool { return len(w.failovers()) == 0 })
	w.hear(pods[1], wire.BandOK, "a", "b")
	w.eventually("all are alive again", func() bool {
		return says(w.presence("web"), v1alpha1.ConditionHealthy, "True", v1alpha1.ReasonAllAlive)
	})
}
