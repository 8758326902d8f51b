package gate

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/controllers/lead"
)

// restart evicts the servers whose processes should be ended. A disruption budget may
// refuse that: it is tried again for as long as the plan says so. One that is not taken
// out because a Service has no other is not evicted either.
func (g *Gate) restart(t *lead.Tenure, r *judge.Result) {
	for _, pop := range r.Populations {
		for _, server := range pop.Decision.Restart {
			if pod, ok := r.Pod(server); ok && evictable(pop.Diversion, pod) {
				g.evict(t, pop.Presence, pod)
			}
		}
	}
}

func evictable(d judge.Diversion, pod judge.Pod) bool {
	return !pod.Terminating && (d.Mode != v1alpha1.DivertReadinessGate || pod.Gate == corev1.ConditionFalse)
}

func (g *Gate) evict(t *lead.Tenure, presence *v1alpha1.Presence, pod judge.Pod) {
	// The UID makes sure that it is this pod and not its successor.
	g.Once.Bring(t.Context, "evict", string(pod.UID), func(ctx context.Context) error {
		namespace, name, _ := strings.Cut(pod.Name, "/")
		about := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: pod.UID}}
		err := g.Client.SubResource("eviction").Create(ctx, about, &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Namespace: namespace, Name: name},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))},
		})
		switch {
		case err == nil:
			g.Logger.Warn("Server evicted, which has stayed overloaded", "server", pod.Name)
			g.Recorder.Eventf(presence, about, corev1.EventTypeWarning, "ServerEvicted", "Restart",
				"%s has stayed overloaded for failover.restart.after, and is evicted", name)
		case apierrors.IsConflict(err):
			return nil // another pod of this name by now
		}
		return client.IgnoreNotFound(err)
	})
}
