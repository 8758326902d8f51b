package controllers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// severer makes the severer of a node say what its kernel says of a server.
func (w *world) severer(node string, seq int64, s *server, band wire.Band, connections int) {
	w.t.Helper()
	name := wire.KernelObserver(node)
	if seq == 1 {
		w.sessions(w.namespace+"/elsewhere", "elsewhere.1", "nodes", name+":0", name+":1")
	}
	err := w.store.PutReport(w.t.Context(), wire.Report{Node: name, Boot: w.boot, Seq: seq, Observations: map[string]wire.Observation{
		w.namespace + "/" + s.pod.Name: {Band: band, Incarnation: string(s.pod.UID), Connections: &connections, Detail: "9 bytes are unread"},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
}

// service makes a ready pod that is no heartbeat server: it has no record.
func (w *world) service(name string) *server {
	w.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: "far", Containers: []corev1.Container{{Name: "web", Image: "none"}}},
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

	// One observer, and the kernel: and nobody asks those of the other servers.
	if p := w.presence("web"); !says(p, v1alpha1.ConditionKernelAsked, "False", v1alpha1.ReasonNoSeverer) || p.Status.Counts.Connections != nil {
		t.Errorf("before there is a severer the status is %+v", p.Status)
	}
	w.severer("far", 1, pods[2], wire.BandOK, 7)
	w.eventually("connections are counted", func() bool {
		n := w.presence("web").Status.Counts.Connections
		return n != nil && *n == 7
	})
	w.hear(pods[2], wire.BandHung, "a")
	w.hear(pods[2], wire.BandLossy, "b") // else most get answers, against which the kernel's word does not count
	w.eventually("one observer is not enough", func() bool {
		p := w.presence("web")
		return p.Status.Counts.Suspect == 1 && len(p.Status.NotAlive) == 1 && p.Status.NotAlive[0].State == "Suspect"
	})
	w.severer("far", 2, pods[2], wire.BandUnread, 7)
	w.eventually("with the kernel it is", func() bool {
		p := w.presence("web")
		return *p.Status.Counts.Overloaded == 1 && strings.Contains(p.Status.NotAlive[0].Message, "its kernel says that 9 bytes are unread")
	})
}
