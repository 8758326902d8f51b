package failover

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// created says on the Presence that a Failover was decided.
func created(r events.EventRecorder, presence runtime.Object, fo *v1alpha1.Failover) {
	kind := corev1.EventTypeNormal
	if faulty(fo) {
		kind = corev1.EventTypeWarning
	}
	r.Eventf(presence, fo, kind, "FailoverCreated", "Failover",
		"%s is %s: Failover %s moves its %d clients", fo.Spec.Server, fo.Spec.Reason, fo.Name, fo.Spec.Clients)
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
