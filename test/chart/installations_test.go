package chart

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/rollcall-dev/rollcall/test/controlplane"
)

func TestEveryPartKnowsWhetherItsInstallationIsTheDefault(t *testing.T) {
	for set, want := range map[string]string{"true": "true", "false": "false"} {
		r := render(t, "--set", "installation.default="+set)
		for kind, name := range map[string]string{"Deployment": "rollcall-controller", "StatefulSet": "rollcall-server", "DaemonSet": "rollcall-agent"} {
			if got := flag(t, r.args(t, kind, name), "default-installation"); got != want {
				t.Errorf("%s: --default-installation=%s, want %s", name, got, want)
			}
		}
		if r.has("ClusterRole", "rollcall-default-installation") != (want == "true") {
			t.Errorf("with installation.default=%s the claim is wrong", set)
		}
	}
}

// A second installation with the defaults of the first must not come to be.
func TestASecondDefaultInstallationIsRefused(t *testing.T) {
	c := newCluster(t)
	claim := render(t).find(t, "ClusterRole", "rollcall-default-installation")
	claim.SetAnnotations(map[string]string{"meta.helm.sh/release-name": "rollcall", "meta.helm.sh/release-namespace": namespace}) // as Helm does
	if err := c.apply(t, claim); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.remove(t, claim) })
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	raw, err := os.ReadFile(controlplane.ForTest(t).AdminKubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kubeconfig, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	install := func(namespace string, args ...string) error {
		_, err := theHelm(t).Run(t.Context(), append([]string{"template", "rollcall", theHelm(t).Chart(), "--namespace", namespace,
			"--dry-run=server", "--kubeconfig", kubeconfig, "--set", "crds.enabled=false"}, args...)...)
		return err
	}
	const want = "namespace rollcall-system has the cluster's default installation of Rollcall already, and both would look after the same Presences: set installation.default=false"
	if err := install("rollcall-b"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwant it to say %q", err, want)
	}
	if err := install("rollcall-b", "--set", "installation.default=false"); err != nil {
		t.Errorf("one that is not the default: %v", err)
	}
	if err := install(namespace); err != nil {
		t.Errorf("an upgrade of the default: %v", err)
	}
}

func TestPresencesInAnInstallationsNamespaceNameIt(t *testing.T) {
	c := newCluster(t)
	for name, isDefault := range map[string]bool{"rollcall-one": true, "rollcall-two": false} {
		c.namespace(t, name)
		out, err := theHelm(t).Run(t.Context(), "template", "rollcall", theHelm(t).Chart(), "--namespace", name,
			"--set", "crds.enabled=false,installation.default="+strconv.FormatBool(isDefault))
		if err != nil {
			t.Fatal(err)
		}
		r := parse(t, out)
		for _, o := range []*unstructured.Unstructured{
			r.find(t, "ValidatingAdmissionPolicy", "rollcall-installation."+name), r.find(t, "ValidatingAdmissionPolicyBinding", "rollcall-installation."+name),
		} {
			if err := c.apply(t, o); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.remove(t, o) })
		}
		create := func(labels map[string]any) error {
			_, err := c.api.Resource(presences).Namespace(name).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "rollcall.dev/v1alpha1", "kind": "Presence",
				"metadata": map[string]any{"name": "try", "labels": labels}, "spec": map[string]any{"clients": map[string]any{}},
			}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err
		}
		label := func(name string) map[string]any { return map[string]any{"rollcall.dev/installation": name} }
		eventually(t, "the policy to be known", func() bool { return apierrors.IsForbidden(create(label("elsewhere"))) })
		if err := create(label(name)); err != nil {
			t.Errorf("%s: one that names its own: %v", name, err)
		}
		const want = "belongs to that one: give it the label rollcall.dev/installation: "
		if err := create(label("elsewhere")); err == nil || !strings.Contains(err.Error(), want+name) {
			t.Errorf("%s: one that names another: %v", name, err)
		}
		if err := create(nil); (err == nil) != isDefault {
			t.Errorf("%s: one that names none: %v", name, err)
		}
	}
}

// Nobody may patch nodes unless a person says so.
func TestOnlyWhereItIsAskedForMayNodesBePatched(t *testing.T) {
	for set, want := range map[string]bool{"false": false, "true": true} {
		r := render(t, "--set", "controller.taintNodes="+set)
		for _, o := range r {
			rules, _, _ := unstructured.NestedSlice(o.Object, "rules")
			for _, rule := range rules {
				resources, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), "resources")
				verbs, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), "verbs")
				if slices.Contains(resources, "nodes") && slices.Contains(verbs, "patch") && (!want || o.GetName() != "rollcall-tainter."+namespace) {
					t.Errorf("with controller.taintNodes=%s %s may patch nodes", set, o.GetName())
				}
			}
		}
		if r.has("ClusterRoleBinding", "rollcall-tainter."+namespace) != want || r.has("ClusterRole", "rollcall-tainter."+namespace) != want {
			t.Errorf("with controller.taintNodes=%s the right is given: %v", set, !want)
		}
	}
}

// Nor evict pods.
func TestOnlyWhereItIsAskedForMayPodsBeEvicted(t *testing.T) {
	for set, want := range map[string]bool{"false": false, "true": true} {
		r := render(t, "--set", "controller.evictServers="+set)
		for _, o := range r {
			rules, _, _ := unstructured.NestedSlice(o.Object, "rules")
			for _, rule := range rules {
				resources, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), "resources")
				if slices.Contains(resources, "pods/eviction") && (!want || o.GetName() != "rollcall-evicter."+namespace) {
					t.Errorf("with controller.evictServers=%s %s may evict pods", set, o.GetName())
				}
			}
		}
		if r.has("ClusterRoleBinding", "rollcall-evicter."+namespace) != want || r.has("ClusterRole", "rollcall-evicter."+namespace) != want {
			t.Errorf("with controller.evictServers=%s the right is given: %v", set, !want)
		}
	}
}

// Nor write the status of pods, which says whether they are Ready.
func TestOnlyWhereItIsAskedForMayTheStatusOfPodsBeWritten(t *testing.T) {
	for set, want := range map[string]bool{"false": false, "true": true} {
		r := render(t, "--set", "controller.readinessGates="+set)
		for _, o := range r {
			rules, _, _ := unstructured.NestedSlice(o.Object, "rules")
			for _, rule := range rules {
				resources, _, _ := unstructured.NestedStringSlice(rule.(map[string]any), "resources")
				if slices.Contains(resources, "pods/status") && (!want || o.GetName() != "rollcall-gatekeeper."+namespace) {
					t.Errorf("with controller.readinessGates=%s %s may write the status of pods", set, o.GetName())
				}
			}
		}
		if r.has("ClusterRoleBinding", "rollcall-gatekeeper."+namespace) != want || r.has("ClusterRole", "rollcall-gatekeeper."+namespace) != want {
			t.Errorf("with controller.readinessGates=%s the right is given: %v", set, !want)
		}
	}
}

func TestAgentsMayGossipOnTheNodesNetwork(t *testing.T) {
	r := render(t, "--set", "agent.gossip.hostNetwork=true,agent.gossip.port=7000")
	pod := podTemplate(t, r.find(t, "DaemonSet", "rollcall-agent")).Spec
	args := r.args(t, "DaemonSet", "rollcall-agent")
	if !pod.HostNetwork || pod.DNSPolicy != "ClusterFirstWithHostNet" || flag(t, args, "gossip-bind") != "[$(POD_IP)]:7000" || flag(t, args, "http") != "[$(POD_IP)]:17946" {
		t.Errorf("hostNetwork %v, dnsPolicy %s, %q", pod.HostNetwork, pod.DNSPolicy, args)
	}
	for _, p := range pod.Containers[0].Ports {
		want := map[string]int32{"gossip": 7000, "gossip-udp": 7000, "http": 17946}[p.Name]
		if p.ContainerPort != want {
			t.Errorf("port %s is %d, want %d", p.Name, p.ContainerPort, want)
		}
	}
	if !slices.Contains(r.args(t, "Deployment", "rollcall-controller"), "--gossip-on-nodes") {
		t.Error("the controller is not told")
	}
	r = render(t)
	if podTemplate(t, r.find(t, "DaemonSet", "rollcall-agent")).Spec.HostNetwork || slices.Contains(r.args(t, "Deployment", "rollcall-controller"), "--gossip-on-nodes") {
		t.Error("without being asked for it")
	}
}
