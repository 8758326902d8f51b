package quarantine

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/controllers/lead"
	"github.com/rollcall-dev/rollcall/internal/quarantine"
)

const (
	// countEvery is the shortest time between two looks at all pods, while a node is
	// being evacuated, and countSeldom where all have been that are tainted.
	countEvery  = 200 * time.Millisecond
	countSeldom = 10 * time.Second
)

// evacuation of one node, for the sake of a Presence.
type evacuation struct {
	*quarantine.Evacuation
	presence *v1alpha1.Presence
	key      types.NamespacedName
	seen     time.Time // when pods were first looked at
	told     bool      // an Event has said how long it took
}

// Report is what there is to say of the tainted nodes of a Presence, and why none
// is tainted that should be.
func (w *Warden) Report(presence types.NamespacedName) (all []v1alpha1.Evacuation, blocked string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.evacuations {
		if e.key != presence {
			continue
		}
		said := v1alpha1.Evacuation{
			Node: e.Node, TaintedAt: metav1.NewMicroTime(e.Since), Pods: int32(e.Pods()), Elsewhere: int32(e.Elsewhere()), Message: words(e.Message()),
		}
		if took, over := e.Took(w.Now()); over {
			said.Took = &metav1.Duration{Duration: took.Round(time.Millisecond)}
		}
		all = append(all, said)
	}
	return all, w.blocked(presence)
}

// count looks at how far the pods of nodes have come that carry our taint.
func (w *Warden) count(t *lead.Tenure, r *judge.Result, wanted map[string]*v1alpha1.Presence) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.term != t.Term() || w.evacuations == nil {
		w.term, w.evacuations = t.Term(), map[string]*evacuation{}
	}
	for name, m := range r.Machines {
		if !m.Ours(w.Installation) {
			continue
		}
		e := w.evacuations[name]
		if e == nil {
			if wanted[name] == nil {
				continue
			}
			e = &evacuation{Evacuation: quarantine.NewEvacuation(name, m.Tainted)}
			w.evacuations[name] = e
		}
		if p := wanted[name]; p != nil {
			e.presence, e.key = p, client.ObjectKeyFromObject(p)
		}
	}
	for name := range w.evacuations {
		if !r.Machines[name].Ours(w.Installation) {
			delete(w.evacuations, name)
		}
	}
	now := w.Now()
	if len(w.evacuations) == 0 || !w.due(now) {
		return
	}
	w.counted = now
	var pods corev1.PodList
	if err := w.Client.List(t.Context, &pods, client.UnsafeDisableDeepCopy); err != nil {
		w.Logger.Warn("Pods could not be read", "err", err)
		return
	}
	all := make([]*quarantine.Evacuation, 0, len(w.evacuations))
	for _, e := range w.evacuations {
		all = append(all, e.Evacuation)
	}
	quarantine.Observe(now, all, keptPods(pods.Items))
	for _, e := range w.evacuations {
		first := e.seen.IsZero()
		if first {
			e.seen = now
		}
		took, over := e.Took(now)
		switch {
		case !over || e.told:
		case first: // another leader has seen to it, and knows how long it took
			e.told = true
		default:
			e.told = true
			podsElsewhere(w.Recorder, e.presence, e.Node, e.Pods(), took)
			w.Logger.Info("Pods of a tainted node are elsewhere", "node", e.Node, "pods", e.Pods(), "took", took)
		}
	}
}

// due tells whether it is time to look at all pods, and if not has that done when it
// is, where somebody waits for it. The caller holds mu.
func (w *Warden) due(now time.Time) bool {
	waits := false
	for _, e := range w.evacuations {
		waits = waits || !e.told
	}
	if !waits {
		return now.Sub(w.counted) >= countSeldom
	}
	rest := countEvery - now.Sub(w.counted)
	if rest > 0 && !w.again {
		w.again = true
		time.AfterFunc(rest, func() {
			w.mu.Lock()
			w.again = false
			w.mu.Unlock()
			w.Touch()
		})
	}
	return rest <= 0
}

// keptPods are those that a controller keeps, and that could run elsewhere.
func keptPods(pods []corev1.Pod) []quarantine.Pod {
	var all []quarantine.Pod
	for i := range pods {
		p := &pods[i]
		owner := metav1.GetControllerOf(p)
		if owner == nil || owner.Kind == "DaemonSet" || owner.Kind == "Node" || p.Spec.NodeName == "" {
			continue
		}
		s := judge.PodOf(p)
		all = append(all, quarantine.Pod{
			UID: string(p.UID), Name: s.Name, Owner: string(owner.UID), OwnerKind: owner.Kind,
			Node: s.Node, Ready: s.Ready, Terminating: s.Terminating, Created: p.CreationTimestamp.Time,
		})
	}
	return all
}

// about is a node as an Event speaks of it.
func about(name string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	return n
}

// words are evidence, short enough for an Event or a status.
func words(s string) string {
	const most = 800 // of 1024 bytes
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return s
}

func plural(n int) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}
