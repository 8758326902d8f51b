package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

// servers is a StatefulSet of two, a pod of it, and the Presence that looks after them.
type servers struct {
	t        *testing.T
	api      client.Client
	set      *appsv1.StatefulSet
	presence *v1alpha1.Presence
	log      *lines
}

func newServers(t *testing.T, most int32, wait time.Duration) *servers {
	t.Helper()
	ctrl.SetLogger(logr.FromSlogHandler(slog.DiscardHandler))
	cp := controlplane.ForTest(t)
	namespace := cp.Namespace(t, "scale-up")
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	api, err := client.New(cp.AdminConfig(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"app": "im"}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "server", Image: "none"}}},
	}
	s := &servers{t: t, api: api, log: &lines{}}
	s.set = &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "server"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template,
		},
	}
	s.create(s.set)
	owner := *metav1.NewControllerRef(s.set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))
	s.create(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "server-0", Labels: labels, OwnerReferences: []metav1.OwnerReference{owner}},
		Spec:       template.Spec,
	})
	s.presence = &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "servers"},
		Spec: v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
			Selector: *s.set.Spec.Selector, Port: intstr.FromString("mqtt"), Probe: v1alpha1.ProbeSpec{MQTT: &v1alpha1.MQTTProbe{}},
		}},
	}
	s.create(s.presence)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, cp.AdminConfig(), scaler{most: most, wait: wait, log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, ctrl.Options{
			Metrics:    server.Options{BindAddress: "0"},
			Cache:      cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}},
			Controller: config.Controller{SkipNameValidation: new(true)},
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the operator ended with: %v", err)
		}
	})
	return s
}

func (s *servers) create(o client.Object) {
	s.t.Helper()
	if err := s.api.Create(s.t.Context(), o); err != nil {
		s.t.Fatal(err)
	}
}

// condition that Rollcall's controller would set.
func condition(kind string, status metav1.ConditionStatus) []metav1.Condition {
	return []metav1.Condition{{
		Type: kind, Status: status, Reason: v1alpha1.ReasonNoHeadroom, Message: "no room", LastTransitionTime: metav1.Now(),
	}}
}

// freeze has the Presence say that there is no room.
func (s *servers) freeze() {
	s.t.Helper()
	s.presence.Status.Conditions = condition(v1alpha1.ConditionFrozen, metav1.ConditionTrue)
	if err := s.api.Status().Update(s.t.Context(), s.presence); err != nil {
		s.t.Fatal(err)
	}
}

func (s *servers) replicas() int32 {
	s.t.Helper()
	if err := s.api.Get(s.t.Context(), client.ObjectKeyFromObject(s.set), s.set); err != nil {
		s.t.Fatal(err)
	}
	return *s.set.Spec.Replicas
}

func (s *servers) eventually(what string, holds func() bool) {
	s.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			s.t.Fatalf("never: %s; it said\n%s", what, s.log)
		}
	}
}

func TestOneReplicaMoreWhereAFailoverHasNoHeadroom(t *testing.T) {
	s := newServers(t, 10, time.Hour)
	fo := &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.set.Namespace, Name: "server-1-a"},
		Spec:       v1alpha1.FailoverSpec{Presence: "servers", Server: "server-1"},
	}
	s.create(fo)
	fo.Status.Conditions = condition(v1alpha1.ConditionProcessing, metav1.ConditionTrue)
	if err := s.api.Status().Update(t.Context(), fo); err != nil {
		t.Fatal(err)
	}
	s.eventually("3 replicas", func() bool { return s.replicas() == 3 })
	// The Presence says the same a moment later: that is one want, not two.
	s.freeze()
	s.eventually("it has heard the Presence", func() bool {
		return strings.Contains(s.log.String(), `"A replica was added a short while ago" statefulSet=server because="Presence servers"`)
	})
	if got := s.replicas(); got != 3 {
		t.Errorf("%d replicas, want 3", got)
	}
}

func TestAPresenceWithoutHeadroomGrowsUntilTheLimit(t *testing.T) {
	s := newServers(t, 4, time.Second)
	s.freeze()
	s.eventually("the limit is reached and said", func() bool { return strings.Contains(s.log.String(), "no more replicas allowed") })
	if got := s.replicas(); got != 4 {
		t.Errorf("%d replicas, want 4", got)
	}
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
