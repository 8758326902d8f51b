// Package defaults makes the two Presences that every installation has, where
// they are absent: its heartbeat servers and the cluster's nodes. It makes them
// once per leadership and never changes one that exists: a person's edits
// stand, and one that a person has deleted stays deleted until the next leader.
package defaults

import (
	"context"
	"fmt"
	"log/slog"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/controllers/retry"
)

// +kubebuilder:rbac:groups=rollcall.dev,resources=presences,verbs=create

// Names of the default Presences.
const (
	Servers = "servers"
	Nodes   = evidence.NodesPresence
)

// Ensure makes the default Presences of an installation where there is no
// Presence of the name, and goes on trying until it could or the context ends.
func Ensure(ctx context.Context, c client.Client, r *retry.Retrier, logger *slog.Logger, namespace string) error {
	for _, p := range []*v1alpha1.Presence{servers(namespace), nodes(namespace)} {
		err := r.Do(ctx, "defaultPresence", func(ctx context.Context) error { return c.Create(ctx, p.DeepCopy()) })
		switch {
		case apierrors.IsAlreadyExists(err):
		case err != nil:
			return fmt.Errorf("making the default Presence %s/%s: %w", namespace, p.Name, err)
		default:
			logger.Info("Default Presence made", "presence", namespace+"/"+p.Name)
		}
	}
	return nil
}

// ours names the installation, so that none other takes them for its own.
func ours(namespace string) map[string]string {
	return map[string]string{v1alpha1.InstallationLabel: namespace}
}

func servers(namespace string) *v1alpha1.Presence {
	return &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: Servers, Labels: ours(namespace)},
		Spec: v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
			Selector: metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/component": "server"}},
			Port:     intstr.FromString("mqtt"),
			Probe:    v1alpha1.ProbeSpec{MQTT: &v1alpha1.MQTTProbe{}},
			Overload: v1alpha1.OverloadSpec{Observers: 3},
			Failover: v1alpha1.FailoverPolicy{Mode: v1alpha1.ModeAdvise},
		}},
	}
}

func nodes(namespace string) *v1alpha1.Presence {
	return &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: Nodes, Labels: ours(namespace)},
		Spec: v1alpha1.PresenceSpec{Nodes: &v1alpha1.NodesSpec{
			OnDead: v1alpha1.OnDeadPolicy{Mode: v1alpha1.OnDeadAdvise},
		}},
	}
}
