package installation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// Where everything is in the API.
const (
	// Namespace is the installation's.
	Namespace = "rollcall-system"
	// AppNamespace and AppPresence are the clients'.
	AppNamespace = "im"
	AppPresence  = "app"
)

// roles are the parts that speak to the API server, each as a user of its own
// with no more rights than config/rbac gives it.
var roles = []string{"rollcall-controller", "rollcall-server", "rollcall-agent"}

// grant applies config/rbac, and binds each role to the user of its name.
func grant(ctx context.Context, api client.Client, path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, document := range bytes.Split(raw, []byte("\n---\n")) {
		role := &rbacv1.ClusterRole{}
		if err := yaml.UnmarshalStrict(document, role); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := api.Create(ctx, role); err != nil {
			return fmt.Errorf("creating ClusterRole %s: %w", role.Name, err)
		}
	}
	for _, name := range roles {
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
		}
		if err := api.Create(ctx, binding); err != nil {
			return fmt.Errorf("binding ClusterRole %s: %w", name, err)
		}
	}
	return nil
}

// part is one pod whose kubelet is played here.
type part struct {
	name, component, node, ip string
	portName                  string
	port                      int32
}

// createObjects makes namespaces, nodes, and the clients' Presence. The two
// Presences of the installation are the controller's to make.
func (w *Installation) createObjects(ctx context.Context, nodes []part) error {
	api := w.API
	for _, name := range []string{Namespace, AppNamespace} {
		if err := api.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating namespace %s: %w", name, err)
		}
	}
	for i, n := range nodes {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.node}}
		if zone := w.zone(i); zone != "" {
			node.Labels = map[string]string{corev1.LabelTopologyZone: zone}
		}
		if err := api.Create(ctx, node); err != nil {
			return fmt.Errorf("creating node %s: %w", n.node, err)
		}
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.ip}}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Local", LastTransitionTime: metav1.Now(), LastHeartbeatTime: metav1.Now()}}
		if err := api.Status().Update(ctx, node); err != nil {
			return fmt.Errorf("updating the status of node %s: %w", n.node, err)
		}
	}
	presence := func(namespace, name string, spec v1alpha1.PresenceSpec) error {
		p := &v1alpha1.Presence{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec}
		if err := api.Create(ctx, p); err != nil {
			return fmt.Errorf("creating Presence %s/%s: %w", namespace, name, err)
		}
		return nil
	}
	return errors.Join(
		presence(AppNamespace, AppPresence, v1alpha1.PresenceSpec{Clients: &w.cfg.Clients}),
		presence(Namespace, "nodes", v1alpha1.PresenceSpec{Nodes: &v1alpha1.NodesSpec{}}),
		presence(Namespace, "servers", v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
			Selector: metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/component": "server"}},
			Port:     intstr.FromString("mqtt"),
			Probe:    v1alpha1.ProbeSpec{MQTT: &v1alpha1.MQTTProbe{}},
			Failover: v1alpha1.FailoverPolicy{Mode: v1alpha1.ModeAutomatic},
		}}),
	)
}

// createPod makes a pod and reports it running, as its kubelet would.
func createPod(ctx context.Context, api client.Client, p part) (types.UID, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace, Name: p.name,
			Labels: map[string]string{"app.kubernetes.io/name": "rollcall", "app.kubernetes.io/component": p.component},
		},
		Spec: corev1.PodSpec{
			NodeName: p.node,
			Containers: []corev1.Container{{
				Name: "rollcall", Image: "rollcall:local",
				Ports: []corev1.ContainerPort{{Name: p.portName, ContainerPort: p.port}},
			}},
		},
	}
	if p.component == "server" {
		pod.Labels[v1alpha1.AcceptingLabel] = "true"
	}
	if err := api.Create(ctx, pod); err != nil {
		return "", fmt.Errorf("creating pod %s: %w", p.name, err)
	}
	now := metav1.Now()
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: p.ip, PodIPs: []corev1.PodIP{{IP: p.ip}}, StartTime: &now,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: corev1.ContainersReady, Status: corev1.ConditionTrue, LastTransitionTime: now},
		},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "rollcall", Image: "rollcall:local", ImageID: "rollcall:local", Ready: true,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		}},
	}
	if err := api.Status().Update(ctx, pod); err != nil {
		return "", fmt.Errorf("updating the status of pod %s: %w", p.name, err)
	}
	return pod.UID, nil
}

// zone of the i-th node: three, in turn; none where there are fewer nodes.
func (w *Installation) zone(i int) string {
	if w.cfg.Agents < 3 {
		return ""
	}
	return fmt.Sprintf("zone-%d", i%3+1)
}
