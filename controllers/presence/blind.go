package presence

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// blind is a status that says that nothing is known while etcd is away, and else
// what it said last. Nothing is to be said where it says so already, or where the
// Presence is not judged at all.
func blind(last v1alpha1.PresenceStatus, w verdict.World, p *judge.Population) (s v1alpha1.PresenceStatus, say bool) {
	ready := meta.FindStatusCondition(last.Conditions, v1alpha1.ConditionReady)
	if w.StoreAway < verdict.StoreAwayLimit || p.Refused != "" || ready == nil || ready.Reason == v1alpha1.ReasonStoreAway {
		return v1alpha1.PresenceStatus{}, false
	}
	s = *last.DeepCopy()
	s.Reason = v1alpha1.ReasonStoreAway
	set := func(kind string, status metav1.ConditionStatus) {
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: v1alpha1.ReasonStoreAway, Message: "etcd does not answer: this is what was known last.",
			ObservedGeneration: p.Presence.Generation, LastTransitionTime: metav1.NewTime(w.Now),
		})
	}
	set(v1alpha1.ConditionReady, metav1.ConditionFalse)
	if p.Subject != v1alpha1.SubjectClients { // they have no actions to forbid
		set(v1alpha1.ConditionFrozen, metav1.ConditionTrue)
	}
	return s, true
}

// Blind wakes the reconciler where this process led, cannot any more because etcd
// is away, and the statuses do not say so yet. It does not block.
func (r *Reconciler) Blind(result *judge.Result) {
	if result.World.StoreAway < verdict.StoreAwayLimit {
		return
	}
	for key := range result.Populations {
		if r.wrote(key) {
			r.Kick(key)
		}
	}
}

// wrote tells whether this process has written what a status says, as far as it
// knows.
func (r *Reconciler) wrote(key types.NamespacedName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.written[key]
	return ok
}

// sayBlind writes that nothing is known, once: where only this process is cut off
// from etcd, another leads by now, and puts it right.
func (r *Reconciler) sayBlind(ctx context.Context, key types.NamespacedName, result *judge.Result) error {
	p := result.Populations[key]
	if p == nil || !r.wrote(key) {
		return nil
	}
	var now v1alpha1.Presence
	if err := r.Client.Get(ctx, key, &now); err != nil {
		return client.IgnoreNotFound(err)
	}
	s, say := blind(now.Status, result.World, p)
	if say {
		if _, err := r.apply(ctx, &now, s); client.IgnoreNotFound(err) != nil {
			r.Retry.Count("presenceStatus")
			return fmt.Errorf("writing the status of Presence %s: %w", key, err)
		}
	}
	if result.World.StoreAway >= verdict.StoreAwayLimit {
		r.mu.Lock()
		delete(r.written, key)
		r.mu.Unlock()
	}
	return nil
}
