// Package gate takes servers out of service and lets them in again: the label that
// Services select, or the condition that pods with the readiness gate are Ready by,
// and the directives that outlive their Failover. What it wants follows from the store
// and the Failovers alone, so that any leader continues. It moves nobody; package
// failover does.
package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/controllers/lead"
	"github.com/rollcall-dev/rollcall/controllers/permission"
	"github.com/rollcall-dev/rollcall/controllers/retry"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;patch

// Gate keeps labels, conditions and directives as they should be. Every exported
// field is needed.
type Gate struct {
	Client client.Client
	// Live reads past the cache.
	Live   client.Reader
	Book   *evidence.Book
	Ledger *failover.Ledger
	// Last is the newest judgement; nil: none.
	Last     func() *judge.Result
	Recorder events.EventRecorder
	Logger   *slog.Logger
	Once     *retry.Once

	may permission.Right
	// stay are the pods of each Presence that are not taken out, for want of others.
	// Keep's alone.
	stay map[types.NamespacedName][]string

	mu sync.Mutex
	// out are the pods whose condition the last Keep wanted to be False.
	out map[types.UID]bool
}

// Divert turns a server's label to false, unless new clients are led past servers in
// another way: Keep turns conditions when it sees the directive, for that takes all
// directives to be known. It returns at once.
func (g *Gate) Divert(t *lead.Tenure, server string) {
	r := g.Last()
	if r == nil {
		return
	}
	for _, pop := range r.Populations {
		if byLabels(pop) && slices.Contains(pop.Members, server) {
			g.label(t, server, "false")
		}
	}
}

// byLabels tells whether new clients are led past servers by their label.
func byLabels(pop *judge.Population) bool {
	return pop.Diversion.Mode == "" || pop.Diversion.Mode == v1alpha1.DivertLabel
}

// Restore has a server accept that no Presence selects any more, so that Keep
// doesn't. It returns at once.
func (g *Gate) Restore(t *lead.Tenure, server string) {
	if r := g.Last(); r != nil {
		if _, selected := r.Pod(server); selected {
			return
		}
	}
	g.Once.Bring(t.Context, "label", server+" restored", func(ctx context.Context) error {
		namespace, name, _ := strings.Cut(server, "/")
		var pod corev1.Pod
		if err := g.Live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &pod); err != nil {
			return client.IgnoreNotFound(err)
		}
		if v1alpha1.Gated(&pod) && v1alpha1.GateOf(&pod) == corev1.ConditionFalse {
			if err := g.set(ctx, server, pod.UID, corev1.ConditionTrue, false); err != nil {
				return err
			}
		}
		if pod.Labels[v1alpha1.AcceptingLabel] != "false" {
			return nil
		}
		return g.patch(ctx, server, pod.UID, "true")
	})
}

// Keep compares what is with what should be, and brings about what differs. It
// returns at once. Only the leader may call it.
func (g *Gate) Keep(t *lead.Tenure, r *judge.Result) {
	if !r.World.Warm {
		return
	}
	directives := g.Book.Directives()
	failovers, err := g.Ledger.All(t.Context, "")
	if err != nil {
		g.Logger.Warn("Failovers could not be read", "err", err)
		return
	}
	leaving := g.leaving(failovers)
	g.labels(t, r, directives, leaving)
	g.conditions(t, r, directives, leaving)
	g.orphans(t, r, directives, failovers)
	g.admit(t, r, directives)
	g.restart(t, r)
	g.shed(t, r, directives)
}

// leaving are the servers that a Failover has a drain directive written for, or is
// about to.
func (g *Gate) leaving(failovers []*v1alpha1.Failover) map[string]bool {
	leaving := map[string]bool{}
	for _, fo := range failovers {
		if failover.Drains(fo) && !failover.Finished(fo) {
			leaving[fo.Namespace+"/"+fo.Spec.Server] = true
		}
	}
	for _, a := range g.Ledger.Opening() {
		leaving[a.Server] = true
	}
	return leaving
}

// labels turns the label of every server to what it should be: false while a
// drain directive stands and new clients are led past servers by that, else true, but
// not yet for those that are leaving. A pod that was not born with the label never
// gets it.
func (g *Gate) labels(t *lead.Tenure, r *judge.Result, directives map[string]store.Directive, leaving map[string]bool) {
	for _, pop := range r.Populations {
		for _, pod := range pop.Pods {
			switch {
			case !pod.Labelled || pod.Terminating:
			case directives[pod.Name].Drain && pod.Accepting != "false" && byLabels(pop):
				g.label(t, pod.Name, "false")
			case !directives[pod.Name].Drain && !leaving[pod.Name] && pod.Accepting == "false":
				g.label(t, pod.Name, "true")
			}
		}
	}
}

// label writes the label of one pod. The pod's UID makes sure that it is this
// one and not its successor.
func (g *Gate) label(t *lead.Tenure, server, value string) {
	r := g.Last()
	if r == nil {
		return
	}
	pod, ok := r.Pod(server)
	if !ok || !pod.Labelled || pod.Accepting == value {
		return
	}
	g.Once.Bring(t.Context, "label", server+" "+value, func(ctx context.Context) error {
		return g.patch(ctx, server, pod.UID, value)
	})
}

func (g *Gate) patch(ctx context.Context, server string, uid types.UID, value string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": uid, "labels": map[string]string{v1alpha1.AcceptingLabel: value},
	}})
	if err != nil {
		return err
	}
	namespace, name, _ := strings.Cut(server, "/")
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	err = g.Client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch), failover.FieldOwner)
	if err == nil {
		g.Logger.Info("Label turned", "server", server, "accepting", value)
	}
	return client.IgnoreNotFound(err)
}

// admit withdraws the directives of servers that may be let in again. The label
// follows when the watch shows it.
func (g *Gate) admit(t *lead.Tenure, r *judge.Result, directives map[string]store.Directive) {
	for _, pop := range r.Populations {
		for _, server := range pop.Decision.Readmit {
			if d, ok := directives[server]; ok {
				g.withdraw(t, server, d.Failover, "readmitted")
			}
		}
	}
}

// orphans withdraws directives whose Failover was deleted, which cancels it, and
// those of servers that no longer exist.
func (g *Gate) orphans(t *lead.Tenure, r *judge.Result, directives map[string]store.Directive, failovers []*v1alpha1.Failover) {
	known := map[string]*v1alpha1.Failover{}
	for _, fo := range failovers {
		known[fo.Namespace+"/"+fo.Name] = fo
	}
	for server, d := range directives {
		if d.Refuse {
			continue // it has none
		}
		fo := known[d.Failover]
		_, exists := r.Pod(server)
		switch {
		case fo == nil:
			g.withdrawDeleted(t, server, d.Failover)
		case !exists && failover.Finished(fo) && !r.Servers[server].Live:
			g.withdraw(t, server, d.Failover, "gone")
		}
	}
}

// withdrawDeleted withdraws a directive after making sure that its Failover is
// gone, or another installation's by now: the cache may lag behind the store.
func (g *Gate) withdrawDeleted(t *lead.Tenure, server, name string) {
	g.Once.Bring(t.Context, "deleteDirective", server+" "+name, func(ctx context.Context) error {
		namespace, short, _ := strings.Cut(name, "/")
		var fo v1alpha1.Failover
		err := g.Live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: short}, &fo)
		if err == nil {
			if ours, err := g.Ledger.Owns(ctx, &fo); err != nil || ours {
				return err
			}
		} else if !apierrors.IsNotFound(err) {
			return fmt.Errorf("looking for Failover %s: %w", name, err)
		}
		if err := t.DeleteDirective(ctx, server, name); err != nil {
			return err
		}
		g.Logger.Info("Directive of a deleted Failover withdrawn", "server", server, "failover", name)
		g.Restore(t, server)
		return nil
	})
}

// withdraw takes a directive away because the server is readmitted, or gone.
func (g *Gate) withdraw(t *lead.Tenure, server, name, because string) {
	g.Once.Bring(t.Context, "deleteDirective", server+" "+name, func(ctx context.Context) error {
		if err := t.DeleteDirective(ctx, server, name); err != nil {
			return err
		}
		g.Logger.Info("Directive withdrawn", "server", server, "failover", name, "because", because)
		return nil
	})
}
