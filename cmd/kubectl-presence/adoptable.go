package main

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/adoption"
)

// adoptable reads what a Service, its pods and their workloads are now. Of
// workloads only those kinds are asked for that there are pods of.
func (c *cluster) adoptable(ctx context.Context, name string) (adoption.State, error) {
	var s adoption.State
	err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, &s.Service)
	if apierrors.IsNotFound(err) && named(err) {
		return s, fail("there is no Service %s in namespace %s: choose the namespace with -n, and see kubectl get services -n %s", name, c.namespace, c.namespace)
	} else if err != nil {
		return s, c.sentence("reading service/"+name, err)
	}
	var services corev1.ServiceList
	if err := c.all(ctx, "Services", &services); err != nil {
		return s, err
	}
	s.Services = services.Items
	selector := adoption.Selector(&s.Service)
	if len(selector) == 0 {
		return s, nil
	}
	var pods corev1.PodList
	if err := c.all(ctx, "pods", &pods, client.MatchingLabels(selector)); err != nil {
		return s, err
	}
	s.Pods = pods.Items
	kinds := map[string]bool{}
	for i := range s.Pods {
		if o := metav1.GetControllerOf(&s.Pods[i]); o != nil {
			kinds[o.Kind] = true
		}
	}
	if kinds["ReplicaSet"] {
		var sets appsv1.ReplicaSetList
		var deployments appsv1.DeploymentList
		if err := c.all(ctx, "ReplicaSets", &sets); err != nil {
			return s, err
		}
		if err := c.all(ctx, "Deployments", &deployments); err != nil {
			return s, err
		}
		s.ReplicaSets, s.Deployments = sets.Items, deployments.Items
	}
	if kinds["StatefulSet"] {
		var sets appsv1.StatefulSetList
		if err := c.all(ctx, "StatefulSets", &sets); err != nil {
			return s, err
		}
		s.StatefulSets = sets.Items
	}
	if kinds["DaemonSet"] {
		var sets appsv1.DaemonSetList
		if err := c.all(ctx, "DaemonSets", &sets); err != nil {
			return s, err
		}
		s.DaemonSets = sets.Items
	}
	var presences v1alpha1.PresenceList
	err = c.List(ctx, &presences, client.InNamespace(c.namespace))
	if apierrors.IsNotFound(err) && !named(err) {
		return s, nil // Rollcall may be installed later
	}
	s.Presences = ofServers(&presences)
	return s, c.sentence("listing the Presences in namespace "+c.namespace, err)
}

// all lists what there is in the namespace.
func (c *cluster) all(ctx context.Context, what string, into client.ObjectList, o ...client.ListOption) error {
	return c.sentence("listing the "+what+" in namespace "+c.namespace, c.List(ctx, into, append(o, client.InNamespace(c.namespace))...))
}

// change makes one, unless it is made already, and only in the object as it was
// planned for. A pod that is gone needs none, also where another has its name.
func (p *plugin) change(ctx context.Context, c *cluster, change adoption.Change) (generation int64, err error) {
	made := false
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		now := &unstructured.Unstructured{}
		now.SetGroupVersionKind(change.Object.Kind)
		if err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: change.Object.Name}, now); err != nil {
			return err
		}
		if change.Object.Kind.Kind == "Pod" && now.GetUID() != change.Object.UID {
			return nil
		}
		patch, err := change.Patch(now)
		if err != nil {
			return fail("%w", err)
		}
		if made = patch != nil; made {
			err = c.Patch(ctx, now, client.RawPatch(types.MergePatchType, patch))
		}
		generation = now.GetGeneration()
		return err
	})
	var refused failure
	switch {
	case err == nil && made:
		fmt.Fprintf(p.out, "%s changed\n", change.Object)
		return generation, nil
	case err == nil:
		return generation, nil
	case apierrors.IsNotFound(err) && change.Object.Kind.Kind == "Pod":
		return 0, nil
	case apierrors.IsNotFound(err) && named(err):
		return 0, fail("%s has been deleted meanwhile", change.Object)
	case errors.As(err, &refused):
		return 0, refused
	default:
		return 0, c.sentence("changing "+change.Object.String(), err)
	}
}
