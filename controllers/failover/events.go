package failover

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
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
	who := "the clients"
	if fo.Spec.Count != nil {
		who = fmt.Sprintf("%d clients", *fo.Spec.Count)
	} else if fo.Spec.Clients > 0 { // 0: the kernel has not told yet
		who = fmt.Sprintf("%d clients", fo.Spec.Clients)
	}
	r.Eventf(presence, fo, kind, "FailoverCreated", "Failover",
		"%s: Failover %s %s %s of %s", fo.Spec.Reason, fo.Name, does, who, fo.Spec.Server)
}

// succeeded says that no client is left on a server that doesn't answer.
func succeeded(r events.EventRecorder, fo *v1alpha1.Failover) {
	r.Eventf(fo, nil, corev1.EventTypeNormal, "FailoverSucceeded", "Failover", "%s", summary(fo))
}

// failed says that a Failover ended without that.
func failed(r events.EventRecorder, fo *v1alpha1.Failover) {
	r.Eventf(fo, nil, corev1.EventTypeWarning, "FailoverFailed", "Failover", "%s", summary(fo))
}

// summary of a Failover that has ended: the outcome, and what its conditions say of it.
func summary(fo *v1alpha1.Failover) string {
	c := meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionProcessing)
	return fmt.Sprintf("%s, server %s, %d moved: %s", c.Reason, fo.Spec.Server, fo.Status.Moved, c.Message)
}
