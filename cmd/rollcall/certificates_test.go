package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rollcall-dev/rollcall/internal/pki"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

// newMint is one whose Secrets are in a namespace of a real API server.
func newMint(t *testing.T, prefix string) *mint {
	t.Helper()
	cp := controlplane.ForTest(t)
	client, err := kubernetes.NewForConfig(cp.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	return &mint{
		api: client.CoreV1().Secrets(cp.Namespace(t, prefix)), prefix: prefix, labels: map[string]string{"a": "b"},
		log: slog.New(slog.DiscardHandler), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

func (m *mint) everything(t *testing.T) map[string]map[string][]byte {
	t.Helper()
	list, err := m.api.List(t.Context(), metav1.ListOptions{LabelSelector: "a=b"})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string][]byte{}
	for _, s := range list.Items {
		all[strings.TrimPrefix(s.Name, m.prefix)] = s.Data
	}
	return all
}

func (m *mint) run(t *testing.T) map[string]map[string][]byte {
	t.Helper()
	if err := m.makeAll(t.Context(), []string{"rollcall.im.svc"}, []string{"etcd.im.svc"}, false); err != nil {
		t.Fatal(err)
	}
	return m.everything(t)
}

func same(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }

func TestCertificatesAreMadeOnce(t *testing.T) {
	m := newMint(t, "once")
	first := m.run(t)
	want := []string{secretAgent, secretCA, secretEtcdCA, secretEtcd, secretEtcdClient, secretGossip, secretServer}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(first)); !slices.Equal(got, want) {
		t.Fatalf("Secrets are %v, want %v", got, want)
	}
	if _, err := tls.X509KeyPair(first[secretServer]["tls.crt"], first[secretServer]["tls.key"]); err != nil {
		t.Error(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(first[secretEtcd]["ca.crt"])
	pair, err := tls.X509KeyPair(first[secretAgent]["tls.crt"], first[secretAgent]["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: m.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
		t.Error("etcd would let an agent in")
	}
	if second := m.run(t); !maps.EqualFunc(first, second, same) {
		t.Error("a second run changes something")
	}
}

func TestCertificatesAreRenewedAndTheGossipKeyIsKept(t *testing.T) {
	m := newMint(t, "renewed")
	first := m.run(t)
	m.now = m.now.Add(pki.LeafLife - 24*time.Hour)
	second := m.run(t)
	for suffix, keep := range map[string]bool{
		secretCA: true, secretEtcdCA: true, secretGossip: true,
		secretServer: false, secretAgent: false, secretEtcd: false, secretEtcdClient: false,
	} {
		if kept := same(first[suffix], second[suffix]); kept != keep {
			t.Errorf("%s was kept: %v", suffix, kept)
		}
	}
}

func TestAnAuthorityThatCannotBeReadIsNotReplaced(t *testing.T) {
	m := newMint(t, "broken")
	first := m.run(t)
	secret, err := m.api.Get(t.Context(), m.prefix+secretCA, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret.Data[corev1.TLSCertKey] = []byte("x")
	if _, err := m.api.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	err = m.makeAll(t.Context(), []string{"rollcall.im.svc"}, nil, false)
	if err == nil || !strings.Contains(err.Error(), "broken-ca-key: it does not hold an authority (delete it") {
		t.Errorf("got %v", err)
	}
	if !same(first[secretServer], m.everything(t)[secretServer]) {
		t.Error("what the authority has signed was replaced")
	}
}

func TestTwoRunsAtOnceAgree(t *testing.T) {
	m := newMint(t, "two")
	failures := make(chan error, 4)
	for range cap(failures) {
		go func() {
			failures <- m.makeAll(context.WithoutCancel(t.Context()), []string{"rollcall.im.svc"}, []string{"etcd.im.svc"}, false)
		}()
	}
	for range cap(failures) {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
	before := m.everything(t)
	for _, suffix := range []string{secretServer, secretAgent} {
		if !bytes.Equal(before[suffix]["ca.crt"], before[secretCA]["tls.crt"]) {
			t.Errorf("%s is another authority's", suffix)
		}
	}
	if after := m.run(t); !maps.EqualFunc(before, after, same) {
		t.Error("a later run finds something to do")
	}
}

func TestSecretsAreRemoved(t *testing.T) {
	m := newMint(t, "removed")
	if err := m.makeAll(t.Context(), nil, nil, true); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(slices.Sorted(maps.Keys(m.everything(t)))); got != "[-gossip]" {
		t.Errorf("with the gossip key alone there are %s", got)
	}
	m.run(t)
	for range 2 {
		if err := m.removeAll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if left := m.everything(t); len(left) > 0 {
		t.Errorf("left are %v", slices.Collect(maps.Keys(left)))
	}
}
