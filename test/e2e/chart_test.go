package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// imageValues are the values that name the image of -image; none for the chart's own.
func imageValues(t *testing.T) []string {
	t.Helper()
	if *image == "" {
		return nil
	}
	i := strings.LastIndex(*image, ":")
	if i < 0 {
		t.Fatalf("-image is %q: write repository:tag", *image)
	}
	return []string{"--set", "image.repository=" + (*image)[:i], "--set-string", "image.tag=" + (*image)[i+1:]}
}

// refused tries what must fail with a sentence that says what to change.
func (w *world) refused(t *testing.T) {
	chart := filepath.Join(w.root, "charts", "rollcall")
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no server at all", []string{"--namespace", "elsewhere", "--set", "server.replicas=0"}, "at '/server/replicas': minimum: got 0, want 1"},
		{"a misspelt value", []string{"--namespace", "elsewhere", "--set", "server.replica=3"}, "additional properties 'replica' not allowed"},
		{"etcd members that can't agree", []string{"--namespace", "elsewhere", "--set", "etcd.members=2"}, "value must be one of 1, 3, 5"},
		{"etcd of two kinds", []string{"--namespace", "elsewhere", "--set", "etcd.ephemeral=true,etcd.endpoints={https://etcd.example.com:2379}"}, "give only one of the two"},
		{"a volume too small", []string{"--namespace", "elsewhere", "--set", "etcd.storage.size=1Gi"}, "make it a fifth larger than the quota at least"},
		{"one address for all servers", []string{"--namespace", "elsewhere", "--set", "server.advertise=mqtt.example.com:8883"}, "it must lead to one of them"},
		{"cert-manager where there is none", []string{"--namespace", "elsewhere", "--set", "certificates.provider=certManager"}, "install cert-manager first"},
		{"a second installation in the namespace", []string{"--namespace", namespace, "--set", "crds.enabled=false"}, "a namespace holds one"},
		{"a second default installation", []string{"--namespace", "elsewhere"}, "set installation.default=false and crds.enabled=false"},
		{"CRDs that are another's", []string{"--namespace", "elsewhere", "--set", "installation.default=false"}, "set crds.enabled=false to share them"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			out, err := w.run(t.Context(), "", w.helm, append([]string{"install", "another", chart, "--create-namespace", "--wait=hookOnly"}, c.args...)...)
			if err == nil {
				_, _ = w.run(t.Context(), "", w.helm, append([]string{"uninstall", "another"}, c.args[:2]...)...)
				t.Fatalf("it was installed:\n%s", out)
			}
			if !strings.Contains(out, c.want) {
				t.Errorf("helm says\n%s\nwant %q", out, c.want)
			}
			left, err := w.run(t.Context(), "", w.kubectl, "get", "all,secrets,serviceaccounts", "--all-namespaces", "--selector=app.kubernetes.io/instance=another", "--output=name")
			if err != nil || strings.TrimSpace(left) != "" && !strings.Contains(left, "No resources found") {
				t.Errorf("it has left %q (%v)", left, err)
			}
		})
	}
	t.Run("nodes-for-a-tenant", func(t *testing.T) {
		err := w.apply(t.Context(), `{"apiVersion":"rollcall.dev/v1alpha1","kind":"Presence","metadata":{"name":"nodes","namespace":"`+peopleNamespace+`"},"spec":{"nodes":{}}}`)
		if err == nil || !strings.Contains(err.Error(), "spec.nodes is for the namespace of a Rollcall installation only") {
			t.Errorf("a tenant's Presence of nodes: %v", err)
		}
	})
}

// uninstall uninstalls, and looks for what is left.
func (w *world) uninstall(t *testing.T) {
	ctx, cancel := lasting(t)
	defer cancel()
	began := time.Now()
	out, err := w.run(ctx, "", w.helm, "uninstall", release, "--namespace", namespace, "--wait", "--timeout", "4m")
	if err != nil {
		t.Errorf("helm uninstall: %v", err)
		return
	}
	t.Logf("helm uninstall took %s\n%s", seconds(time.Since(began)), out)
	for _, crd := range []string{"presences.rollcall.dev", "failovers.rollcall.dev"} {
		if !strings.Contains(out, crd) {
			t.Errorf("helm uninstall does not say that it keeps the CRD %s: %s", crd, out)
		}
	}
	var left []string
	if err := poll(ctx, "everything to be gone", 2*time.Minute, func() (bool, error) {
		var err error
		left, err = w.left(ctx)
		return err == nil && len(left) == 0, err
	}); err != nil || len(left) > 0 {
		t.Errorf("helm uninstall has left %q (%v)", left, err)
	}
	volumes := "--selector=app.kubernetes.io/instance=" + release + ",app.kubernetes.io/component=etcd"
	if out, err := w.run(ctx, "", w.kubectl, "get", "pvc", "--namespace", namespace, volumes, "--output=name"); err != nil || strings.Count(out, "persistentvolumeclaim/") != 3 {
		t.Errorf("uninstalling is to keep etcd's three volumes: %q (%v)", out, err)
	}
	// What it keeps is removed as docs/install.md says.
	for _, args := range [][]string{
		{"delete", "pvc", "--namespace", namespace, volumes, "--timeout=1m"},
		{"delete", "crd", "presences.rollcall.dev", "failovers.rollcall.dev", "--timeout=1m"},
		{"delete", "namespace", namespace, "--timeout=2m"},
	} {
		if _, err := w.run(ctx, "", w.kubectl, args...); err != nil {
			t.Error(err)
		}
	}
}

// stays is what uninstalling leaves and says so, and what every namespace has.
var stays = regexp.MustCompile(`^(configmap/kube-root-ca.crt|serviceaccount/default|persistentvolumeclaim/data-.*|(presence|failover).rollcall.dev/.*` +
	`|customresourcedefinition.apiextensions.k8s.io/.*|apiservice.apiregistration.k8s.io/.*|namespace/.*|event.*)$`)

// left are objects in the installation's namespace, and objects of the whole
// cluster that have its name, but for those that stay.
func (w *world) left(ctx context.Context) ([]string, error) {
	var left []string
	for _, namespaced := range []bool{true, false} {
		kinds, err := w.run(ctx, "", w.kubectl, "api-resources", "--verbs=list,delete", "--output=name", fmt.Sprintf("--namespaced=%t", namespaced))
		if err != nil {
			return nil, err
		}
		args := []string{"get", strings.Join(strings.Fields(kinds), ","), "--output=name", "--ignore-not-found"}
		if namespaced {
			args = append(args, "--namespace", namespace)
		}
		out, err := w.run(ctx, "", w.kubectl, args...)
		if err != nil {
			return nil, err
		}
		for name := range strings.Lines(out) {
			name = strings.TrimSpace(name)
			if name == "" || strings.HasPrefix(name, "Warning:") {
				continue // kubectl warns of kinds that are deprecated
			}
			if !stays.MatchString(name) && (namespaced || strings.Contains(name, release)) {
				left = append(left, name)
			}
		}
	}
	return left, nil
}
