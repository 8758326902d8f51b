package chart

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/rollcall-dev/rollcall/test/controlplane"
)

func TestTheSevererIsThereOnlyWhereItIsAskedFor(t *testing.T) {
	for _, o := range render(t) {
		if strings.HasPrefix(o.GetName(), "rollcall-sever") && !strings.HasPrefix(o.GetName(), "rollcall-server") {
			t.Errorf("without being asked for there is a %s %s", o.GetKind(), o.GetName())
		}
	}
	r := render(t, "--set", "agent.sever.enabled=true")
	for _, kind := range []string{"DaemonSet", "ServiceAccount", "NetworkPolicy"} {
		r.find(t, kind, "rollcall-sever")
	}
	for _, kind := range []string{"ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"} {
		r.find(t, kind, "rollcall-sever."+namespace)
	}
}

func TestTheSevererHasTheLeastThatItNeeds(t *testing.T) {
	r := render(t, "--set", "agent.sever.enabled=true", "--set", "agent.sever.extraFlags.log-level=debug")
	spec := podTemplate(t, r.find(t, "DaemonSet", "rollcall-sever")).Spec
	if spec.HostNetwork || spec.HostPID || spec.HostIPC || spec.ServiceAccountName != "rollcall-sever" || len(spec.Containers) != 1 {
		t.Errorf("its pods are %+v", spec)
	}
	c := spec.Containers[0]
	s := c.SecurityContext
	if s.Privileged != nil && *s.Privileged || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem {
		t.Errorf("it runs as %+v", s)
	}
	if !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || !slices.Equal(s.Capabilities.Add, []corev1.Capability{"NET_ADMIN", "SYS_ADMIN"}) {
		t.Errorf("its capabilities are %+v", s.Capabilities)
	}
	var volumes []string
	for _, v := range spec.Volumes {
		volumes = append(volumes, v.Name)
		if v.HostPath != nil && v.HostPath.Path != "/run/netns" && v.HostPath.Path != "/sys/fs/cgroup" {
			t.Errorf("it has the host's %s", v.HostPath.Path)
		}
	}
	slices.Sort(volumes)
	if !slices.Equal(volumes, []string{"cgroups", "netns", "tls", "token"}) {
		t.Errorf("its volumes are %v", volumes)
	}
	for _, m := range c.VolumeMounts {
		host := m.Name == "netns" || m.Name == "cgroups"
		if !m.ReadOnly || host && *m.MountPropagation != corev1.MountPropagationHostToContainer {
			t.Errorf("it mounts %+v", m)
		}
	}
	if flag(t, c.Args[slices.Index(c.Args, "--log-format=json"):], "log-level") != "debug" {
		t.Errorf("its flags are %q", c.Args)
	}
	agent := podTemplate(t, r.find(t, "DaemonSet", "rollcall-agent")).Spec
	if len(agent.Containers[0].SecurityContext.Capabilities.Add) > 0 || slices.ContainsFunc(agent.Volumes, func(v corev1.Volume) bool { return v.HostPath != nil }) {
		t.Error("the agent is privileged too")
	}
}

// What the kernel says goes to the heartbeat servers, in a session of its own; who
// does not want that has a severer without a credential for it.
func TestTheSevererReportsOnlyWhereItAsksTheKernel(t *testing.T) {
	reports := func(r rendering) bool {
		subjects, _, err := unstructured.NestedSlice(r.find(t, "RoleBinding", "rollcall-reporter").Object, "subjects")
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(subjects, func(s any) bool { return s.(map[string]any)["name"] == "rollcall-sever" })
	}
	with := render(t, "--set", "agent.sever.enabled=true")
	c := podTemplate(t, with.find(t, "DaemonSet", "rollcall-sever")).Spec.Containers[0]
	if flag(t, c.Args, "servers") == "" || flag(t, c.Args, "token-file") != "/var/run/secrets/rollcall/token" || flag(t, c.Args, "tls-ca") == "" {
		t.Errorf("its flags are %q", c.Args)
	}
	if !reports(with) {
		t.Error("it may not report")
	}
	without := render(t, "--set", "agent.sever.enabled=true", "--set", "agent.sever.askKernel=false")
	spec := podTemplate(t, without.find(t, "DaemonSet", "rollcall-sever")).Spec
	if len(spec.Volumes) != 1 || len(spec.Containers[0].VolumeMounts) != 1 || slices.ContainsFunc(spec.Containers[0].Args, func(a string) bool { return strings.HasPrefix(a, "--servers") }) {
		t.Errorf("without asking it has %+v, and the flags %q", spec.Volumes, spec.Containers[0].Args)
	}
	if slices.ContainsFunc(spec.Containers[0].Args, func(a string) bool { return strings.HasPrefix(a, "--cgroups") }) {
		t.Errorf("without asking it looks at cgroups: %q", spec.Containers[0].Args)
	}
	if reports(render(t)) || reports(without) {
		t.Error("a severer that is not there, or asks nothing, may report")
	}
}

// Cgroups are where the chart says, or are not looked at.
func TestTheSevererLooksAtTheNodesCgroups(t *testing.T) {
	for _, tt := range []struct {
		set  string
		host string // empty: none
	}{{"agent.sever.askKernel=true", "/sys/fs/cgroup"}, {"agent.sever.cgroups=/cgroups", "/cgroups"}, {"agent.sever.cgroups=", ""}} {
		spec := podTemplate(t, render(t, "--set", "agent.sever.enabled=true", "--set", tt.set).find(t, "DaemonSet", "rollcall-sever")).Spec
		c, host, mount := spec.Containers[0], "", ""
		for _, v := range spec.Volumes {
			if v.Name == "cgroups" {
				host = v.HostPath.Path
			}
		}
		for _, m := range c.VolumeMounts {
			if m.Name == "cgroups" {
				mount = m.MountPath
			}
		}
		if host != tt.host || (mount == "") != (tt.host == "") {
			t.Errorf("with %s it mounts %q at %q", tt.set, host, mount)
		}
		looks := slices.Contains(c.Args, "--cgroups="+mount)
		if looks != (tt.host != "") {
			t.Errorf("with %s its flags are %q", tt.set, c.Args)
		}
	}
}

// With severing on, the API server takes what is rendered, and the severer's
// account may say what it has severed, and nothing else of a Failover.
func TestTheSevererMayOnlySayWhatItHasSevered(t *testing.T) {
	c := newCluster(t)
	c.namespace(t, namespace)
	r := render(t, "--set", "agent.sever.enabled=true")
	for _, o := range r {
		if foreign(o) {
			continue
		}
		if err := c.apply(t, o, metav1.DryRunAll); err != nil {
			t.Errorf("%s: %v", key(o), err)
		}
	}
	for _, kind := range []string{"ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"} {
		o := r.find(t, kind, "rollcall-sever."+namespace)
		if err := c.apply(t, o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.remove(t, o) })
	}
	failovers := schema.GroupVersionResource{Group: "rollcall.dev", Version: "v1alpha1", Resource: "failovers"}
	fo, err := c.api.Resource(failovers).Namespace(namespace).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "rollcall.dev/v1alpha1", "kind": "Failover", "metadata": map[string]any{"generateName": "severed-"},
		"spec": map[string]any{"presence": "servers", "server": "server-2"},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.remove(t, fo) })
	config := rest.CopyConfig(controlplane.ForTest(t).AdminConfig())
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":rollcall-sever",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
	severer, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	say := func(api dynamic.Interface, manager string, status map[string]any) error {
		_, err := api.Resource(failovers).Namespace(namespace).ApplyStatus(t.Context(), fo.GetName(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "rollcall.dev/v1alpha1", "kind": "Failover", "metadata": map[string]any{"name": fo.GetName()}, "status": status,
		}}, metav1.ApplyOptions{FieldManager: manager, Force: true})
		return err
	}
	condition := func(kind string) []any {
		return []any{map[string]any{"type": kind, "status": "True", "reason": "Test", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}}
	}
	const only = "the severer may write"
	moved := int64(0)
	eventually(t, "the policy to be known", func() bool {
		moved++ // what changes nothing may be said
		err := say(severer, "another", map[string]any{"moved": moved})
		return err != nil && strings.Contains(err.Error(), only)
	})
	if err := say(severer, "rollcall-sever", map[string]any{"conditions": condition("Processing")}); err == nil || !strings.Contains(err.Error(), only) {
		t.Errorf("another's condition: %v", err)
	}
	own := map[string]any{
		"severed":    map[string]any{"node": "n", "connections": int64(3), "remaining": int64(0)},
		"conditions": condition("Severing"),
	}
	if err := say(severer, "rollcall-sever", own); err != nil {
		t.Errorf("its own, at first: %v", err)
	}
	order := map[string]any{"moved": int64(5), "conditions": condition("Processing"), "sever": map[string]any{
		"installation": namespace, "node": "n", "podUID": "u", "port": "mqtt", "clientsPerSecond": int64(5), "renewedAt": "2026-01-01T00:00:00.000000Z",
	}}
	if err := say(c.api, "rollcall-controller", order); err != nil {
		t.Fatalf("the controller's: %v", err)
	}
	own["severed"].(map[string]any)["connections"] = int64(4)
	if err := say(severer, "rollcall-sever", own); err != nil {
		t.Errorf("its own, beside the controller's: %v", err)
	}
	now, err := c.api.Resource(failovers).Namespace(namespace).Get(t.Context(), fo.GetName(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	connections, _, _ := unstructured.NestedInt64(now.Object, "status", "severed", "connections")
	moved, _, _ = unstructured.NestedInt64(now.Object, "status", "moved")
	conditions, _, _ := unstructured.NestedSlice(now.Object, "status", "conditions")
	if connections != 4 || moved != 5 || len(conditions) != 2 {
		t.Errorf("in the end the status is %v", now.Object["status"])
	}
}
