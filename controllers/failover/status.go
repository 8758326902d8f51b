package failover

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	acmeta "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	ac "github.com/rollcall-dev/rollcall/api/applyconfiguration/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// FieldOwner is the field manager of every status that the controllers apply.
const FieldOwner = client.FieldOwner("rollcall-controller")

// History is how many finished Failovers are kept for each Presence.
const History = 20

// compare tells whether two statuses are the same, and whether they differ in
// more than counts.
func compare(old, now v1alpha1.FailoverStatus) (same, urgent bool) {
	if equality.Semantic.DeepEqual(old, now) {
		return true, false
	}
	if (old.FirstMovedAt == nil) != (now.FirstMovedAt == nil) {
		return false, true
	}
	if (old.Sever == nil) != (now.Sever == nil) {
		return false, true
	}
	for _, c := range now.Conditions {
		was := meta.FindStatusCondition(old.Conditions, c.Type)
		if was == nil || was.Status != c.Status || was.Reason != c.Reason {
			return false, true
		}
	}
	return false, false
}

// apply writes a status by server-side apply, and returns the object as it is
// then.
func apply(ctx context.Context, c client.Client, fo *v1alpha1.Failover, s v1alpha1.FailoverStatus) (*v1alpha1.Failover, error) {
	status := ac.FailoverStatus().
		WithObservedGeneration(s.ObservedGeneration).
		WithReceivers(s.Receivers).WithMoved(s.Moved).WithPending(s.Pending).WithLost(s.Lost).
		WithMovedBy(ac.MovedBy().
			WithDirective(s.MovedBy.Directive).WithOwnTimeout(s.MovedBy.OwnTimeout).WithSevered(s.MovedBy.Severed)).
		WithConditions(Conditions(slices.DeleteFunc(slices.Clone(s.Conditions), func(c metav1.Condition) bool {
			return c.Type == v1alpha1.ConditionSevering // the severer's to set
		}))...)
	if o := s.Sever; o != nil {
		order := ac.SeverOrder().
			WithInstallation(o.Installation).WithNode(o.Node).WithPodUID(o.PodUID).WithPort(o.Port).
			WithClientsPerSecond(o.ClientsPerSecond).WithFirstWave(o.FirstWave).WithRenewedAt(o.RenewedAt)
		if o.Divert != "" {
			order.WithDivert(o.Divert)
		}
		status.WithSever(order)
	}
	status.DetectedAt, status.DecidedAt = s.DetectedAt, s.DecidedAt
	status.FirstMovedAt, status.CompletedAt = s.FirstMovedAt, s.CompletedAt
	// The UID makes sure that it is this object and not another of its name.
	config := ac.Failover(fo.Name, fo.Namespace).WithUID(fo.UID).WithStatus(status)
	if err := c.Status().Apply(ctx, config, FieldOwner, client.ForceOwnership); err != nil {
		return nil, err
	}
	made := fo.DeepCopy()
	made.Status = *s.DeepCopy()
	if config.ResourceVersion != nil {
		made.ResourceVersion = *config.ResourceVersion
	}
	return made, nil
}

// Conditions as server-side apply takes them.
func Conditions(list []metav1.Condition) []*acmeta.ConditionApplyConfiguration {
	all := make([]*acmeta.ConditionApplyConfiguration, 0, len(list))
	for _, c := range list {
		all = append(all, acmeta.Condition().
			WithType(c.Type).WithStatus(c.Status).WithReason(c.Reason).WithMessage(c.Message).
			WithObservedGeneration(c.ObservedGeneration).WithLastTransitionTime(c.LastTransitionTime))
	}
	return all
}

// prune deletes the oldest finished Failovers of a Presence, but none whose
// directive stands: it says why a server is out.
func (f *Follower) prune(ctx context.Context, namespace, presence string) error {
	all, err := f.Ledger.All(ctx, namespace)
	if err != nil {
		return err
	}
	var old []*v1alpha1.Failover
	for _, fo := range all {
		if fo.Spec.Presence == presence && Finished(fo) && fo.Status.CompletedAt != nil {
			old = append(old, fo)
		}
	}
	slices.SortFunc(old, func(a, b *v1alpha1.Failover) int {
		return b.Status.CompletedAt.Compare(a.Status.CompletedAt.Time)
	})
	for _, fo := range old[min(History, len(old)):] {
		if d, ok := f.Standing(fo.Namespace + "/" + fo.Spec.Server); ok && d.Failover == fo.Namespace+"/"+fo.Name {
			continue
		}
		if err := f.Client.Delete(ctx, fo, client.Preconditions{UID: &fo.UID}); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}
