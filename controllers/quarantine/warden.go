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

	may permission

	mu sync.Mutex
	// decided is the newest decision: what it no longer says is not tried again.
	decided quarantine.Decision
	// wants are the Presences that say so of their nodes.
	wants map[types.NamespacedName]bool

	term        int64
	evacuations map[string]*evacuation // by node
	counted     time.Time              // when pods were last looked at
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
			Tainted: m.HasTaint, Ours: m.HasTaint && m.TaintedBy == w.Installation,
		})
	}
	d := quarantine.Decide(nodes, r.Nodes.Brake)
	if len(wanted) > 0 && !w.permitted(t) {
		d = quarantine.Decision{}
	}
	w.mu.Lock()
	w.decided, w.wants = d, wants
	w.mu.Unlock()
	for _, n := range d.Put {
		w.change(t, n, wanted[n], r.Nodes.Verdicts[n], true)
	}
	for _, n := range d.Take {
		w.change(t, n, wanted[n], r.Nodes.Verdicts[n], false)
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

// change puts the taint on a node or takes it off, in the background. p may be nil
// where it is taken off.
func (w *Warden) change(t *lead.Tenure, node string, p *v1alpha1.Presence, v verdict.Verdict, put bool) {
	w.Once.Bring(t.Context, "taint", node, func(ctx context.Context) error {
		changed := false
		err := clientretry.RetryOnConflict(clientretry.DefaultBackoff, func() error {
			if !w.stands(node, put) {
				return nil
			}
			var err error
			changed, err = w.patch(ctx, node, put)
			return err
		})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			w.may.doubt()
			return err
		case changed:
			w.Logger.Info("Taint changed", "node", node, "put", put, "state", string(v.State), "evidence", v.Message)
			if p != nil && put {
				nodeTainted(w.Recorder, p, node, v)
			} else if p != nil {
				nodeUntainted(w.Recorder, p, node, v)
			}
		}
		return nil
	})
}

// stands tells whether the newest decision still says so: between two attempts the
// node may have come back.
func (w *Warden) stands(node string, put bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if put {
		return slices.Contains(w.decided.Put, node)
	}
	return slices.Contains(w.decided.Take, node)
}

// patch changes one node, unless it is as it should be: the API server refuses
// what was worked out from an older state of it.
func (w *Warden) patch(ctx context.Context, name string, put bool) (changed bool, err error) {
	var node corev1.Node
	if err := w.Live.Get(ctx, types.NamespacedName{Name: name}, &node); err != nil {
		return false, err
	}
	m := judge.MachineOf(&node)
	if put == m.HasTaint || !put && m.TaintedBy != w.Installation {
		return false, nil
	}
	taints := slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(t corev1.Taint) bool {
		return t.Key == v1alpha1.UnreachableTaint && t.Effect == corev1.TaintEffectNoExecute
	})
	var by any // null removes it
	if put {
		by = w.Installation
		taints = append(taints, corev1.Taint{
			Key: v1alpha1.UnreachableTaint, Effect: corev1.TaintEffectNoExecute, TimeAdded: new(metav1.NewTime(w.Now())),
		})
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
	if w.may.refused() {
		return "dead nodes are not tainted, for the controller may not patch nodes: set controller.taintNodes=true in the chart."
	}
	if len(w.decided.Held) > 0 {
		return fmt.Sprintf("%s would be more tainted nodes than the brake lets be lost.", strings.Join(w.decided.Held[:min(len(w.decided.Held), 5)], ", "))
	}
	return ""
}
