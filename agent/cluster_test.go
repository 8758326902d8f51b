package agent

import (
	"context"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/agent/probe"
	"github.com/rollcall-dev/rollcall/agent/stall"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

// patience is what a test waits for what should take a second or two.
const patience = 30 * time.Second

// TestKubeCluster follows a real API server.
func TestKubeCluster(t *testing.T) {
	cp := controlplane.ForTest(t)
	namespace := cp.Namespace(t, "agent")
	all := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(all); err != nil {
			t.Fatal(err)
		}
	}
	api, err := client.New(cp.AdminConfig(), client.Options{Scheme: all})
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewCluster(cp.AdminConfig(), v1alpha1.Installation{Namespace: namespace}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	until := func(what string, ok func() bool) {
		t.Helper()
		timeout := time.After(patience)
		for !ok() {
			select {
			case <-k.Changed():
			case <-timeout:
				t.Fatalf("%s: nodes %v, agents %v, servers %v", what, k.Nodes(), k.Agents(), k.Servers())
			}
		}
	}
	create := func(o client.Object, status func()) {
		t.Helper()
		if err := api.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
		if status != nil {
			status()
			if err := api.Status().Update(ctx, o); err != nil {
				t.Fatal(err)
			}
		}
	}
	pod := func(name, component, ip string, port corev1.ContainerPort) *corev1.Pod {
		t.Helper()
		p := testPod(namespace, name, namespace+"-n1", ip, port)
		p.Labels = map[string]string{AgentLabel: component}
		for i := range p.Spec.Containers {
			p.Spec.Containers[i].Image = "none"
		}
		want := p.Status
		create(&p, func() { p.Status = want })
		return &p
	}

	node := testNode(namespace+"-n1", "z1")
	create(&node, func() {
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}
	})
	t.Cleanup(func() { _ = api.Delete(context.Background(), &node) })
	pod("agent-1", "agent", "10.1.0.1", corev1.ContainerPort{Name: "gossip", ContainerPort: 7946})
	s0 := pod("s-0", "server", "10.2.0.0", corev1.ContainerPort{Name: "mqtt", ContainerPort: 1883})
	until("node and agent", func() bool { return len(k.Nodes()) == 1 && len(k.Agents()) == 1 })
	if got, want := k.Nodes()[0], (Node{node.Name, "z1", "10.0.0.1"}); got != want {
		t.Errorf("node %+v, want %+v", got, want)
	}
	if len(k.Servers()) != 0 {
		t.Errorf("servers without a Presence: %v", k.Servers())
	}

	presence := &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "servers"},
		Spec: v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
			Selector: metav1.LabelSelector{MatchLabels: map[string]string{AgentLabel: "server"}},
			Port:     intstr.FromString("mqtt"),
		}},
	}
	create(presence, nil)
	until("a server", func() bool { return len(k.Servers()) == 1 })
	want := Target{
		Name: namespace + "/s-0", Node: node.Name, Zone: "z1", Address: "10.2.0.0:1883",
		AnswerTime: 500 * time.Millisecond, Window: time.Second, Observers: 3, Presence: namespace + "/servers",
	}
	if got := k.Servers()[0]; got != want {
		t.Errorf("server %+v, want %+v", got, want)
	}

	s1 := pod("s-1", "server", "10.2.0.1", corev1.ContainerPort{Name: "mqtt", ContainerPort: 1883})
	until("another server", func() bool { return len(k.Servers()) == 2 })
	s1.Status.PodIP = "10.2.0.99"
	s1.Status.PodIPs = nil
	if err := api.Status().Update(ctx, s1); err != nil {
		t.Fatal(err)
	}
	until("its new address", func() bool { return len(k.Servers()) == 2 && k.Servers()[1].Address == "10.2.0.99:1883" })
	if err := api.Delete(ctx, s0, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	until("one server less", func() bool { return len(k.Servers()) == 1 && k.Servers()[0].Name == namespace+"/s-1" })
	if err := api.Delete(ctx, presence); err != nil {
		t.Fatal(err)
	}
	until("no servers", func() bool { return len(k.Servers()) == 0 })
}

// guarded is a Secret of a real API server, and an agent that was given no right to it yet.
type guarded struct {
	api    client.Client // may do everything
	agent  *KubeCluster
	secret *corev1.Secret
}

func givenSecret(t *testing.T) *guarded {
	t.Helper()
	cp := controlplane.ForTest(t)
	namespace := cp.Namespace(t, "secrets")
	api, err := client.New(cp.AdminConfig(), client.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	g := &guarded{api: api, secret: &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web-probe"}, Data: map[string][]byte{"Authorization": []byte("Bearer one")},
	}}
	if err := api.Create(t.Context(), g.secret); err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(cp.AdminConfig())
	config.Impersonate = rest.ImpersonationConfig{UserName: namespace + "-agent"}
	if g.agent, err = NewCluster(config, v1alpha1.Installation{Namespace: namespace}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return g
}

// allow gives the agent the right that docs/spec/presence.md shows, to Secrets of these names.
func (g *guarded) allow(t *testing.T, names ...string) {
	t.Helper()
	meta := metav1.ObjectMeta{Namespace: g.secret.Namespace, Name: "web-probe"}
	for _, o := range []client.Object{
		&rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: names, Verbs: []string{"get"}},
		}},
		&rbacv1.RoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: meta.Namespace + "-agent"}},
		},
	} {
		if err := g.api.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSecretsAreReadByRightAlone(t *testing.T) {
	g := givenSecret(t)
	get := func(name string) (map[string][]byte, error) {
		return g.agent.Secret(t.Context(), types.NamespacedName{Namespace: g.secret.Namespace, Name: name})
	}
	if _, err := get("web-probe"); !apierrors.IsForbidden(err) {
		t.Errorf("before it may be read: %v", err)
	}
	g.allow(t, "web-probe", "gone")
	// The API server learns of a Role after a moment.
	var data map[string][]byte
	var err error
	for ctx, cancel := context.WithTimeout(t.Context(), patience); ; {
		if data, err = get("web-probe"); !apierrors.IsForbidden(err) || ctx.Err() != nil {
			cancel()
			break
		}
	}
	if err != nil || string(data["Authorization"]) != "Bearer one" {
		t.Errorf("the one that may be read holds %q, %v", data, err)
	}
	if _, err := get("gone"); !apierrors.IsNotFound(err) {
		t.Errorf("one that is not there: %v", err)
	}
	if _, err := get("other"); !apierrors.IsForbidden(err) {
		t.Errorf("one that nobody gave a right to: %v", err)
	}
}

// The whole way of a token: from a real API server, by the right to get it, over TLS
// to whom the certificate is for, and anew when it is another.
func TestAServiceIsAskedWithTheTokenOfASecret(t *testing.T) {
	g := givenSecret(t)
	var token atomic.Pointer[string]
	token.Store(new("Bearer one"))
	web := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != *token.Load() {
			rw.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(web.Close)
	secrets := keep(t, g.agent.Secret)
	metrics, err := probe.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan wire.Observation, 100)
	group := probe.NewGroup(probe.GroupConfig{
		Prober:  probe.Config{Stall: &stall.Watch{}, Logger: slog.New(slog.DiscardHandler), Metrics: metrics},
		Observe: func(_ probe.Target, o wire.Observation) { said <- o },
		Forget:  func(string) {},
		Way:     func(t probe.Target) (probe.Way, error) { return way(t, secrets) },
		Phase:   func(string, time.Duration) time.Duration { return 0 },
	})
	t.Cleanup(group.Close)
	group.Probe(t.Context(), []probe.Target{{
		Server: g.secret.Namespace + "/web-0", Address: web.Listener.Addr().String(), Observers: 1,
		Limits: probe.Limits{AnswerTime: patience, Window: time.Second},
		Question: question(v1alpha1.ProbeSpec{HTTP: &v1alpha1.HTTPProbe{
			HeadersFrom: &v1alpha1.HTTPHeadersFrom{SecretRef: v1alpha1.HTTPSecretRef{Name: g.secret.Name}},
			TLS: &v1alpha1.ProbeTLS{
				ServerName: "example.com", // as httptest's certificate has it
				CABundle:   string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})),
			},
		}}),
	}})
	until := func(band wire.Band, detail string) {
		t.Helper()
		timeout := time.After(patience)
		var last wire.Observation
		for last.Band != band || !strings.Contains(last.Detail, detail) {
			select {
			case last = <-said:
			case <-timeout:
				t.Fatalf("it says %q, %q; want %q, %q", last.Band, last.Detail, band, detail)
			}
			if last.Band != wire.BandOK && last.Band != wire.BandUnasked {
				t.Fatalf("it is accused: %+v", last)
			}
		}
	}
	until(wire.BandUnasked, "may not be read")
	g.allow(t, g.secret.Name)
	until(wire.BandOK, "")
	token.Store(new("Bearer two"))
	until(wire.BandUnasked, "it answers 401 to the headers of Secret "+g.secret.Namespace+"/web-probe")
	g.secret.Data["Authorization"] = []byte("Bearer two\n")
	if err := g.api.Update(t.Context(), g.secret); err != nil {
		t.Fatal(err)
	}
	until(wire.BandOK, "")
}
