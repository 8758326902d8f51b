package e2e

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// allReady waits until nothing is amiss: every node and pod is ready, the
// Presences say that all are alive and nothing is frozen, every server takes
// clients, no Failover is in progress, and every client is recorded online.
func (w *world) allReady(ctx context.Context) error {
	return poll(ctx, "everything to be Ready", readyWithin, func() (bool, error) {
		asking, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		for _, check := range []func(context.Context) error{w.nodesReady, w.podsReady, w.presencesReady, w.failoversOver, w.peopleHere, w.balanced} {
			if err := check(asking); err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

func (w *world) nodesReady(ctx context.Context) error {
	list, err := w.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range list.Items {
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
				return fmt.Errorf("node %s is not ready", n.Name)
			}
		}
	}
	return nil
}

func (w *world) podsReady(ctx context.Context) error {
	for component, count := range map[string]int{"controller": 2, "server": 3, "etcd": 3, "agent": 0} {
		pods, err := w.part(ctx, component)
		if err != nil {
			return err
		}
		if len(pods) == 0 || count > 0 && len(pods) != count {
			return fmt.Errorf("there are %d pods of %s", len(pods), component)
		}
		for i := range pods {
			if !ready(&pods[i]) {
				return fmt.Errorf("pod %s is not ready", pods[i].Name)
			}
			if component == "server" && pods[i].Labels[v1alpha1.AcceptingLabel] != "true" {
				return fmt.Errorf("server %s does not take clients", pods[i].Name)
			}
		}
	}
	return nil
}

func (w *world) presencesReady(ctx context.Context) error { return w.presencesReadyIn(ctx, "") }

// presencesReadyIn looks at those of one namespace; empty: of all.
func (w *world) presencesReadyIn(ctx context.Context, namespace string) error {
	var list v1alpha1.PresenceList
	if err := w.api.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return err
	}
	seen := 0
	for i := range list.Items {
		p := &list.Items[i]
		for _, want := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionHealthy} {
			if !meta.IsStatusConditionTrue(p.Status.Conditions, want) {
				return fmt.Errorf("presence %s is not %s: %s %+v %+v", p.Name, want, p.Status.Reason, p.Status.Counts, p.Status.NotAlive)
			}
		}
		if meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionFrozen) {
			return fmt.Errorf("presence %s is frozen: %s", p.Name, p.Status.Reason)
		}
		if c := p.Status.Counts; c.Members != c.Alive {
			return fmt.Errorf("presence %s says %d of %d alive", p.Name, c.Alive, c.Members)
		}
		seen++
	}
	if seen < 2 {
		return errors.New("there are no Presences of nodes and servers")
	}
	return nil
}

func (w *world) failoversOver(ctx context.Context) error {
	var list v1alpha1.FailoverList
	if err := w.api.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return err
	}
	for i := range list.Items {
		if list.Items[i].Status.CompletedAt == nil {
			return fmt.Errorf("Failover %s is in progress", list.Items[i].Name)
		}
	}
	return nil
}

func (w *world) peopleHere(context.Context) error {
	if w.witness == nil {
		return nil // nobody has come yet
	}
	if n := w.witness.on(""); n != w.people.count {
		return fmt.Errorf("%d of %d clients are recorded online", n, w.people.count)
	}
	return nil
}

// balanced tells whether every server has its share of the clients: one that was
// emptied gets it back a while after it is healthy.
func (w *world) balanced(ctx context.Context) error {
	if w.witness == nil {
		return nil
	}
	pods, err := w.part(ctx, "server")
	if err != nil {
		return err
	}
	mean := float64(w.people.count) / float64(len(pods))
	for i := range pods {
		if n := w.witness.on(pods[i].Name); float64(n) < mean/2 || float64(n) > 1.5*mean {
			return fmt.Errorf("server %s has %d clients, and the mean is %.0f", pods[i].Name, n, mean)
		}
	}
	return nil
}
