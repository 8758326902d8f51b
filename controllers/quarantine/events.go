package quarantine

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// nodeTainted says that a dead node's pods are told to go.
func nodeTainted(r events.EventRecorder, p *v1alpha1.Presence, node string, v verdict.Verdict) {
	r.Eventf(p, about(node), corev1.EventTypeWarning, "NodeTainted", "Taint", "%s is dead, and tainted %s:NoExecute: %s", node, v1alpha1.UnreachableTaint, words(v.Message))
}

// nodeUntainted says that a node may be used again.
func nodeUntainted(r events.EventRecorder, p *v1alpha1.Presence, node string, v verdict.Verdict) {
	r.Eventf(p, about(node), corev1.EventTypeNormal, "NodeUntainted", "Untaint", "%s is %s again, and the taint is taken off: %s", node, v.State, words(v.Message))
}

// podsElsewhere says how long it took until all pods of a tainted node ran elsewhere.
func podsElsewhere(r events.EventRecorder, p *v1alpha1.Presence, node string, pods int, took time.Duration) {
	r.Eventf(p, about(node), corev1.EventTypeNormal, "PodsElsewhere", "Taint", "%s of %s ready on other nodes %v after it was tainted", plural(pods), node, took.Round(time.Millisecond))
}
