package controllers

import (
	"path"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/failover"
)

// eventually waits until a condition holds.
func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	eventually(w.t, what, holds)
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		case <-t.Context().Done():
			t.Fatalf("the test ended before: %s", what)
		}
	}
}

// always makes sure that a condition goes on to hold for a while.
func (w *world) always(what string, for_ time.Duration, holds func() bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(for_)
	for {
		if !holds() {
			w.t.Fatalf("not for %v: %s", for_, what)
		}
		select {
		case <-tick.C:
		case <-end:
			return
		}
	}
}

func port(name string) intstr.IntOrString { return intstr.FromString(name) }

// presence as it is now.
func (w *world) presence(name string) *v1alpha1.Presence { return w.get(w.namespace, name) }

func (w *world) get(namespace, name string) *v1alpha1.Presence {
	w.t.Helper()
	var p v1alpha1.Presence
	err := w.api.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &p)
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
	return &p
}

// says tells whether a condition of a Presence has a status and a reason.
func says(p *v1alpha1.Presence, kind, status, reason string) bool {
	c := meta.FindStatusCondition(p.Status.Conditions, kind)
	return c != nil && string(c.Status) == status && c.Reason == reason && c.ObservedGeneration == p.Generation
}

// failovers of the world, the oldest first.
func (w *world) failovers() []v1alpha1.Failover {
	w.t.Helper()
	var list v1alpha1.FailoverList
	if err := w.api.List(w.t.Context(), &list, client.InNamespace(w.namespace)); err != nil {
		w.t.Fatal(err)
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.Failover) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	return list.Items
}

// failover is the one of a server and a reason; nil: there is none.
func (w *world) failover(pod string, reason v1alpha1.FailoverReason) *v1alpha1.Failover {
	w.t.Helper()
	for _, fo := range w.failovers() {
		if fo.Spec.Server == pod && fo.Spec.Reason == reason {
			return &fo
		}
	}
	return nil
}

// outcome waits until the Failover of a server and a reason is in a state.
func (w *world) outcome(pod string, reason v1alpha1.FailoverReason, state string) *v1alpha1.Failover {
	w.t.Helper()
	var fo *v1alpha1.Failover
	w.eventually(pod+"'s Failover is "+state, func() bool {
		fo = w.failover(pod, reason)
		return fo != nil && failover.Outcome(fo) == state
	})
	return fo
}

// accepting is the label of a pod.
func (w *world) accepting(pod string) string {
	w.t.Helper()
	var p corev1.Pod
	if err := w.api.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: pod}, &p); err != nil {
		w.t.Fatal(err)
	}
	return p.Labels[v1alpha1.AcceptingLabel]
}

// occupy keeps every replica from leading until release: a candidate without a
// lease, that a test which is slow can't lose, stands in their way.
func (w *world) occupy() (release func()) {
	w.t.Helper()
	ctx := w.t.Context()
	leader, err := w.store.Campaign(ctx, "the test")
	if err != nil {
		w.t.Fatal(err)
	}
	etcd := w.etcd.Client()
	all, err := etcd.Get(ctx, "/", clientv3.WithPrefix())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, kv := range all.Kvs {
		if string(kv.Value) == "the test" {
			mine := path.Dir(string(kv.Key)) + "/occupied"
			if _, err := etcd.Put(ctx, mine, "the test"); err != nil {
				w.t.Fatal(err)
			}
			release = func() {
				if _, err := etcd.Delete(ctx, mine); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	}
	if err := leader.Resign(ctx); err != nil {
		w.t.Fatal(err)
	}
	return release
}

// deleteNow deletes a pod for which there is no kubelet.
const deleteNow = client.GracePeriodSeconds(0)
