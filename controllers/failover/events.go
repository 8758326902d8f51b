package failover

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// created says on the Presence that a Failover was decided.
func created(r events.EventRecorder, presence runtime.Object, fo *v1alpha1.Failover, advised bool) {
	kind := corev1.EventTypeNormal
	if faulty(fo) {
		kind = corev1.EventTypeWarning
	}
	does := "moves"
	if advised {
		does = "would move"
	}
	clients := fo.Spec.Clients
	if fo.Spec.Count != nil {
		clients = *fo.Spec.Count
	}
	r.Eventf(presence, fo, kind, "FailoverCreated", "Failover",
		"%s: Failover %s %s %d clients of %s", fo.Spec.Reason, fo.Name, does, clients, fo.Spec.Server)
}

// succeeded says that no client is left on a server that doesn't answer.
func succeeded(r events.EventRecorder, fo *v1alpha1.Failover) {
	r.Eventf(fo, nil, corev1.EventTypeNormal, "FailoverSucceeded", "Failover",
		"%s: %d clients of %s moved, %d lost", Outcome(fo), fo.Status.Moved, fo.Spec.Server, fo.Status.Lost)
}

// failed says that a Failover ended without that.
func failed(r events.EventRecorder, fo *v1alpha1.Failover) {
	r.Eventf(fo, nil, corev1.EventTypeWarning, "FailoverFailed", "Failover",
		"%s: %d clients of %s moved, %d pending", Outcome(fo), fo.Status.Moved, fo.Spec.Server, fo.Status.Pending)
}
