package gate

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientretry "k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/controllers/lead"
	"github.com/rollcall-dev/rollcall/controllers/permission"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// Reasons of the condition AcceptingGate of a pod.
const (
	reasonAccepting = "Accepting"
	reasonTakenOut  = "TakenOut"
)

// Forbidden tells whether this process may not write the status of pods.
func (g *Gate) Forbidden() bool { return g.may.Refused() }

// Welcome has pods accept that carry the readiness gate and were never told whether
// they do: who is not welcomed is never Ready. So every replica does it, whether it
// leads or not and whether the store answers or not. It returns at once.
func (g *Gate) Welcome(ctx context.Context, r *judge.Result) {
	for _, pop := range r.Populations {
		for _, pod := range pop.Pods {
			if !pod.Gated || pod.Gate != "" || pod.Terminating {
				continue
			}
			if d, _ := g.Book.Directive(pod.Name); !d.Drain && g.mayGate(ctx) {
				g.turn(ctx, pod, corev1.ConditionTrue, true)
			}
		}
	}
}

// gates tells whether a Presence has any use for readiness gates. Pods may be born
// with the gate before failover.divert says so, and be left with it after.
func gates(pop *judge.Population) bool {
	return pop.Diversion.Mode == v1alpha1.DivertReadinessGate ||
		slices.ContainsFunc(pop.Pods, func(p judge.Pod) bool { return p.Gated })
}

// mayGate tells whether the status of pods may be written, which not every
// installation is given.
func (g *Gate) mayGate(ctx context.Context) bool {
	return g.may.Granted(ctx, permission.Question{
		Verb: "patch", Resource: "pods", Subresource: "status", Operation: "mayGate", Remedy: "controller.readinessGates=true in the chart",
		Client: g.Client, Once: g.Once, Logger: g.Logger, Now: g.Book.Now,
	})
}

// conditions turns the condition of every pod that carries the gate to what it should
// be, by the rules of labels.
func (g *Gate) conditions(t *lead.Tenure, r *judge.Result, directives map[string]store.Directive, leaving map[string]bool) {
	var wanted []turn
	out, stay := map[types.UID]bool{}, map[types.NamespacedName][]string{}
	for _, pop := range r.Populations {
		if !gates(pop) || !g.mayGate(t.Context) {
			continue
		}
		some, kept := turns(pop.Diversion, pop.Pods, directives, leaving)
		for _, w := range some {
			out[w.pod.UID] = w.to == corev1.ConditionFalse
		}
		wanted = append(wanted, some...)
		key := client.ObjectKeyFromObject(pop.Presence)
		if stay[key] = kept; len(kept) > 0 && !slices.Equal(kept, g.stay[key]) {
			g.stays(pop.Presence, kept)
		}
	}
	g.stay = stay
	g.mu.Lock()
	g.out = out
	g.mu.Unlock()
	for _, w := range wanted {
		g.turn(t.Context, w.pod, w.to, false)
	}
}

// stands tells whether a pod is still to be taken out: between two attempts the others
// may have gone.
func (g *Gate) stands(uid types.UID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out[uid]
}

// stays says which pods are not taken out.
func (g *Gate) stays(presence *v1alpha1.Presence, kept []string) {
	some := strings.Join(kept[:min(len(kept), 5)], ", ")
	g.Logger.Warn("Not taken out: a Service would be left without a pod that is Ready", "presence", client.ObjectKeyFromObject(presence).String(), "servers", some)
	g.Recorder.Eventf(presence, nil, corev1.EventTypeWarning, "ServerStays", "Divert",
		"%s: not taken out, for a Service that leads there would be left without a pod that is Ready", some)
}

// turn is a pod whose condition is to become another.
type turn struct {
	pod judge.Pod
	to  corev1.ConditionStatus
}

// turns are those of the pods of one Presence, in their order: False while a drain
// directive stands and new clients are led past servers by that, else True, but not
// yet for those that are leaving. Kept are the pods that stay because some Service
// would have no other: one is only taken out beside another that is Ready, and that
// nothing has taken out or is about to. Whoever was never told is welcomed, not turned.
func turns(d judge.Diversion, pods []judge.Pod, directives map[string]store.Directive, leaving map[string]bool) (all []turn, kept []string) {
	in := map[string]bool{}
	for _, p := range pods {
		if p.Ready && !p.Terminating && p.Gate != corev1.ConditionFalse && !directives[p.Name].Drain {
			in[p.Name] = true
		}
	}
	for _, p := range pods {
		out := directives[p.Name].Drain
		switch {
		case !p.Gated || p.Terminating:
		case out && d.Mode == v1alpha1.DivertReadinessGate && p.Gate != corev1.ConditionFalse:
			if !spared(d.Ready, p.Name, in) {
				kept = append(kept, p.Name)
				continue
			}
			all = append(all, turn{p, corev1.ConditionFalse})
		case !out && !leaving[p.Name] && p.Gate == corev1.ConditionFalse:
			all = append(all, turn{p, corev1.ConditionTrue})
		}
	}
	return all, kept
}

// spared tells whether every Service that leads to a pod leads to another that is in.
func spared(services map[string][]string, pod string, in map[string]bool) bool {
	for _, leads := range services {
		if slices.Contains(leads, pod) && !slices.ContainsFunc(leads, func(p string) bool { return p != pod && in[p] }) {
			return false
		}
	}
	return true
}

// turn writes the condition of one pod; unborn: only where it has none. It returns
// at once.
func (g *Gate) turn(ctx context.Context, pod judge.Pod, to corev1.ConditionStatus, unborn bool) {
	g.Once.Bring(ctx, "gate", pod.Name+" "+string(pod.UID)+" "+string(to), func(ctx context.Context) error {
		return g.set(ctx, pod.Name, pod.UID, to, unborn)
	})
}

// set writes it into the pod as it is now: the UID makes sure that it is this one and
// not its successor, and the version that nobody has told it otherwise meanwhile.
func (g *Gate) set(ctx context.Context, server string, uid types.UID, to corev1.ConditionStatus, unborn bool) error {
	namespace, name, _ := strings.Cut(server, "/")
	err := clientretry.RetryOnConflict(clientretry.DefaultBackoff, func() error {
		var pod corev1.Pod
		if err := g.Live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &pod); err != nil {
			return err
		}
		is := v1alpha1.GateOf(&pod)
		if pod.UID != uid || is == to || unborn && is != "" || to == corev1.ConditionFalse && !g.stands(uid) {
			return nil
		}
		before := pod.DeepCopy()
		say(&pod, to, metav1.NewTime(g.Book.Now()))
		err := g.Client.Status().Patch(ctx, &pod, client.StrategicMergeFrom(before, client.MergeFromWithOptimisticLock{}), failover.FieldOwner)
		if err == nil {
			g.Logger.Info("Readiness gate turned", "server", server, "accepting", string(to))
		}
		return err
	})
	if client.IgnoreNotFound(err) != nil {
		g.may.Doubt()
		return err
	}
	return nil
}

// say puts the condition into a pod's status.
func say(pod *corev1.Pod, to corev1.ConditionStatus, now metav1.Time) {
	c := corev1.PodCondition{Type: v1alpha1.AcceptingGate, Status: to, LastTransitionTime: now, Reason: reasonAccepting}
	if to != corev1.ConditionTrue {
		c.Reason, c.Message = reasonTakenOut, "New clients are led past this pod: see kubectl get failovers -n "+pod.Namespace
	}
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == v1alpha1.AcceptingGate {
			pod.Status.Conditions[i] = c
			return
		}
	}
	pod.Status.Conditions = append(pod.Status.Conditions, c)
}
