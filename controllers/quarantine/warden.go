// Package quarantine taints dead nodes where a Presence says so, takes the taint
// off nodes that are back, and watches how long their pods take to be elsewhere.
// What is done is decided in internal/quarantine; what is there follows from the
// nodes alone, so that any leader goes on.
package quarantine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clientretry "k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/controllers/lead"
	"github.com/rollcall-dev/rollcall/controllers/permission"
	"github.com/rollcall-dev/rollcall/controllers/retry"
	"github.com/rollcall-dev/rollcall/internal/quarantine"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// Warden keeps the taints as they should be. Every field is needed.
type Warden struct {
	Client client.Client
	// Live reads past the cache.
	Live client.Reader
	// Installation is the namespace of this one: its taints bear that.
	Installation string
	Recorder     events.EventRecorder
	Once         *retry.Once
	Logger       *slog.Logger
	Now          func() time.Time
	// Touch has everything looked at again soon. It must not block.
	Touch func()

	may permission.Right

	mu sync.Mutex
	// decided is the newest decision: what it no longer says is not tried again.
	decided quarantine.Decision
	// wants are the Presences that say so of their nodes.
	wants map[types.NamespacedName]bool

	term        int64
	evacuations map[string]*evacuation // by node
	counted     time.Time              // when pods were last looked at
	again       bool                   // the next look is arranged
}

// Keep compares what is with what should be, and brings about what differs. It
// returns at once. Only the leader may call it, and always from one goroutine.
func (w *Warden) Keep(t *lead.Tenure, r *judge.Result) {
	if !r.World.Warm {
		return
	}
	wanted, wants := w.wanted(r)
	var nodes []quarantine.Node
	for name, m := range r.Machines {
		p := wanted[name]
		nodes = append(nodes, quarantine.Node{
			Name: name, Verdict: r.Nodes.Verdicts[name], Wanted: p != nil,
			Exempt:  m.Paused || p != nil && paused(p),
			Tainted: m.HasTaint, Ours: m.Ours(w.Installation), Claimed: m.TaintedBy == w.Installation,
		})
	}
	d := quarantine.Decide(nodes, r.Nodes.Brake)
	if len(wanted) > 0 && !w.permitted(t) {
		d = quarantine.Decision{}
	}
	w.mu.Lock()
	w.decided, w.wants = d, wants
	w.mu.Unlock()
	for what, names := range deeds(d) {
		for _, n := range names {
			w.do(t, what, n, wanted[n], r.Nodes.Verdicts[n])
		}
	}
	w.count(t, r, wanted)
}

// wanted is the Presence for whose sake each node is tainted when it is dead, and by
// are all that want that.
func (w *Warden) wanted(r *judge.Result) (all map[string]*v1alpha1.Presence, by map[types.NamespacedName]bool) {
	all, by = map[string]*v1alpha1.Presence{}, map[types.NamespacedName]bool{}
	for key, pop := range r.Populations {
		if pop.Subject != v1alpha1.SubjectNodes || pop.Refused != "" || pop.Presence.Spec.Nodes.OnDead.Mode != v1alpha1.OnDeadTaint {
			continue
		}
		by[key] = true
		for _, n := range pop.Members {
			if was := all[n]; was == nil || pop.Presence.Name < was.Name { // of two any, but always the same
				all[n] = pop.Presence
			}
		}
	}
	return all, by
}

func paused(p *v1alpha1.Presence) bool {
	_, yes := p.Annotations[v1alpha1.PausedAnnotation]
	return yes
}

// deed is what may be done to a node.
type deed string

const (
	put    deed = "put"    // the taint on
	take   deed = "take"   // our taint off
	disown deed = "disown" // the annotation off, where the taint is not ours
)

func deeds(d quarantine.Decision) map[deed][]string {
	return map[deed][]string{put: d.Put, take: d.Take, disown: d.Disown}
}

// do changes a node in the background. p is the Presence that is told; nil: none.
func (w *Warden) do(t *lead.Tenure, what deed, node string, p *v1alpha1.Presence, v verdict.Verdict) {
	w.Once.Bring(t.Context, "taint", node, func(ctx context.Context) error {
		changed := false
		err := clientretry.RetryOnConflict(clientretry.DefaultBackoff, func() error {
			if !w.stands(what, node) {
				return nil
			}
			var err error
			changed, err = w.patch(ctx, what, node)
			return err
		})
		if apierrors.IsNotFound(err) || err == nil && !changed {
			return nil
		}
		if err != nil {
			w.may.Doubt()
			return err
		}
		w.Logger.Info("Taint changed", "node", node, "deed", string(what), "state", string(v.State), "evidence", v.Message)
		switch {
		case p == nil:
		case what == put:
			nodeTainted(w.Recorder, p, node, v)
		case what == take:
			nodeUntainted(w.Recorder, p, node, v)
		}
		return nil
	})
}

// stands tells whether the newest decision still says so: between two attempts the
// node may have come back.
func (w *Warden) stands(what deed, node string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(deeds(w.decided)[what], node)
}

// patch changes one node, unless it is as it should be: the API server refuses
// what was worked out from an older state of it.
func (w *Warden) patch(ctx context.Context, what deed, name string) (changed bool, err error) {
	var node corev1.Node
	if err := w.Live.Get(ctx, types.NamespacedName{Name: name}, &node); err != nil {
		return false, err
	}
	m := judge.MachineOf(&node)
	ours := m.Ours(w.Installation)
	taints := slices.Clone(node.Spec.Taints)
	var by any // null removes it
	switch {
	case what == put && !m.HasTaint:
		by = w.Installation
		taints = append(taints, corev1.Taint{
			Key: v1alpha1.UnreachableTaint, Effect: corev1.TaintEffectNoExecute, TimeAdded: new(metav1.NewTime(w.Now())),
		})
	case what == take && ours:
		taints = slices.DeleteFunc(taints, func(t corev1.Taint) bool {
			return t.Key == v1alpha1.UnreachableTaint && t.Effect == corev1.TaintEffectNoExecute
		})
	case what == disown && !ours && m.TaintedBy == w.Installation:
	default:
		return false, nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{
			"uid": node.UID, "resourceVersion": node.ResourceVersion,
			"annotations": map[string]any{v1alpha1.TaintedByAnnotation: by},
		},
		"spec": map[string]any{"taints": taints},
	})
	if err != nil {
		return false, err
	}
	return true, w.Client.Patch(ctx, &node, client.RawPatch(types.MergePatchType, patch), failover.FieldOwner)
}

// blocked is why nodes are not tainted that a Presence wants to be; empty: all are,
// or it wants none. The caller holds mu.
func (w *Warden) blocked(presence types.NamespacedName) string {
	if !w.wants[presence] {
		return ""
	}
	if w.may.Refused() {
		return "dead nodes are not tainted, for the controller may not patch nodes: set controller.taintNodes=true in the chart."
	}
	if len(w.decided.Held) > 0 {
		return fmt.Sprintf("%s would be more tainted nodes than the brake lets be lost.", strings.Join(w.decided.Held[:min(len(w.decided.Held), 5)], ", "))
	}
	return ""
}
