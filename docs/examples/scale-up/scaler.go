package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// scaledAt is the annotation that remembers the last step, for the next leader.
const scaledAt = "example.rollcall.dev/scaled-at"

// scaler adds a replica to the StatefulSet of servers whose clients can't be
// moved because the others have no room.
type scaler struct {
	client.Client
	most int32         // replicas
	wait time.Duration // between two steps: a new server needs a while to be of use
	log  *slog.Logger
}

// failover reads the conditions of one Failover: it had begun when room ran out.
func (s *scaler) failover(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var fo v1alpha1.Failover
	if err := s.Get(ctx, req.NamespacedName, &fo); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !says(fo.Status.Conditions, v1alpha1.ConditionProcessing) {
		return ctrl.Result{}, nil
	}
	return s.grow(ctx, fo.Namespace, fo.Spec.Presence, "Failover "+fo.Name)
}

// presence reads the conditions of one Presence: there was no room to begin with.
func (s *scaler) presence(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var p v1alpha1.Presence
	if err := s.Get(ctx, req.NamespacedName, &p); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !says(p.Status.Conditions, v1alpha1.ConditionFrozen) {
		return ctrl.Result{}, nil
	}
	return s.grow(ctx, p.Namespace, p.Name, "Presence "+p.Name)
}

func says(conditions []metav1.Condition, kind string) bool {
	c := meta.FindStatusCondition(conditions, kind)
	return c != nil && c.Status == metav1.ConditionTrue && c.Reason == v1alpha1.ReasonNoHeadroom
}

// grow adds one replica, unless one was added a short while ago, and comes back
// to see whether that was enough.
func (s *scaler) grow(ctx context.Context, namespace, presence, because string) (ctrl.Result, error) {
	var wait time.Duration
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		set, err := s.setOf(ctx, namespace, presence)
		if err != nil {
			return err
		}
		last, _ := time.Parse(time.RFC3339, set.Annotations[scaledAt]) // none: long ago
		if wait = time.Until(last.Add(s.wait)); wait > 0 {
			s.log.Debug("A replica was added a short while ago", "statefulSet", set.Name, "because", because)
			return nil
		}
		wait = s.wait
		if *set.Spec.Replicas >= s.most {
			s.log.Warn("No headroom, and no more replicas allowed", "statefulSet", set.Name, "replicas", *set.Spec.Replicas, "because", because)
			return nil
		}
		*set.Spec.Replicas++
		metav1.SetMetaDataAnnotation(&set.ObjectMeta, scaledAt, time.Now().UTC().Format(time.RFC3339))
		if err := s.Update(ctx, set); err != nil { // refused if somebody changed it since
			return err
		}
		s.log.Info("Scaled up", "statefulSet", set.Name, "replicas", *set.Spec.Replicas, "because", because)
		return nil
	})
	return ctrl.Result{RequeueAfter: wait}, err
}

// setOf finds the StatefulSet that owns the servers of a Presence.
func (s *scaler) setOf(ctx context.Context, namespace, presence string) (*appsv1.StatefulSet, error) {
	var p v1alpha1.Presence
	if err := s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: presence}, &p); err != nil {
		return nil, err
	}
	if p.Spec.Servers == nil {
		return nil, fmt.Errorf("presence %s/%s is not about servers", namespace, presence)
	}
	selector, err := metav1.LabelSelectorAsSelector(&p.Spec.Servers.Selector)
	if err != nil {
		return nil, err
	}
	var pods corev1.PodList
	if err := s.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, err
	}
	for _, pod := range pods.Items {
		if owner := metav1.GetControllerOf(&pod); owner != nil && owner.Kind == "StatefulSet" {
			var set appsv1.StatefulSet
			return &set, s.Get(ctx, client.ObjectKey{Namespace: namespace, Name: owner.Name}, &set)
		}
	}
	return nil, fmt.Errorf("no pod of presence %s/%s belongs to a StatefulSet", namespace, presence)
}
