package controllers

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// second is another installation in the same cluster: an etcd and a controller of
// its own, which owns what names it, and nothing else.
func (w *world) second(namespace string) *Controllers {
	w.t.Helper()
	etcd := storetest.Start(w.t)
	s, err := store.Open(w.t.Context(), store.Config{Endpoints: etcd.Endpoints(), Registerer: prometheus.NewRegistry()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = s.Close() })
	c, err := New(Config{
		Store: s, RestConfig: w.cp.AdminConfig(), Namespace: namespace, LabelledOnly: true, ID: "second",
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := c.Run(ctx); err != nil {
			w.t.Errorf("the second installation: %v", err)
		}
	})
	w.t.Cleanup(func() { cancel(); done.Wait() })
	return c
}

func TestTwoInstallationsDoNotDisturbEachOther(t *testing.T) {
	w := newWorld(t, 3)
	ours := w.watchServers(v1alpha1.ModeAutomatic) // names none: the default installation's
	other := w.cp.Namespace(t, "rollcall-b")
	tenant := w.cp.Namespace(t, "tenant")
	t.Cleanup(func() {
		for _, namespace := range []string{other, tenant} {
			for _, o := range []client.Object{&v1alpha1.Presence{}, &v1alpha1.Failover{}} {
				_ = w.api.DeleteAllOf(context.Background(), o, client.InNamespace(namespace))
			}
		}
	})
	theirs := &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: "apps", Labels: map[string]string{v1alpha1.InstallationLabel: other}},
		Spec:       v1alpha1.PresenceSpec{Clients: &v1alpha1.ClientsSpec{}},
	}
	w.create(theirs)
	rival := ours.DeepCopy() // selects our servers, for them
	rival.ObjectMeta = metav1.ObjectMeta{Namespace: w.namespace, Name: "theirs", Labels: theirs.Labels}
	w.create(rival)

	c, _ := w.controller("one")
	b := w.second(other)
	w.ready(c)
	w.ready(b)
	w.eventually("each has judged its own", func() bool {
		return says(w.presence("servers"), v1alpha1.ConditionHealthy, "True", v1alpha1.ReasonAllAlive) &&
			says(w.get(tenant, "apps"), v1alpha1.ConditionAccepted, "True", v1alpha1.ReasonHonoured) &&
			says(w.get(other, "nodes"), v1alpha1.ConditionAccepted, "True", v1alpha1.ReasonHonoured) &&
			says(w.get(w.namespace, "nodes"), v1alpha1.ConditionAccepted, "True", v1alpha1.ReasonHonoured)
	})
	w.eventually("of two that select the same servers the younger is refused, whosever it is", func() bool {
		return says(w.presence("theirs"), v1alpha1.ConditionAccepted, "False", v1alpha1.ReasonConflict)
	})
	if r := c.judge.Last(); r.Of(tenant, "apps") != nil || r.Of(w.namespace, "theirs") != nil || r.Of(other, "nodes") != nil {
		t.Error("the first judges what is the second's")
	}
	if r := b.judge.Last(); r.Of(w.namespace, "servers") != nil || r.Of(w.namespace, "nodes") != nil || len(r.Populations) != 4 {
		t.Errorf("the second judges %d Presences, and not its own four", len(r.Populations))
	}
	versions := func() (all []string) {
		for _, p := range []*v1alpha1.Presence{w.presence("servers"), w.get(tenant, "apps"), w.get(other, "nodes")} {
			all = append(all, p.ResourceVersion)
		}
		return all
	}
	before := versions()
	w.always("nobody's status is written over", 2*time.Second, func() bool {
		now := versions()
		return now[0] == before[0] && now[1] == before[1] && now[2] == before[2]
	})

	// A Failover of the one is nothing to the other.
	w.hear(w.servers["server-2"], wire.BandHung, "a", "b", "c")
	fo := w.outcome("server-2", v1alpha1.FailoverOverloaded, v1alpha1.ReasonMoving)
	drain := &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "theirs-1"},
		Spec:       v1alpha1.FailoverSpec{Presence: "theirs", Server: "server-0"},
	}
	w.create(drain)
	w.eventually("the second ends what is its own, for it has no such servers", func() bool {
		var now v1alpha1.Failover
		return w.api.Get(t.Context(), client.ObjectKeyFromObject(drain), &now) == nil && failover.Outcome(&now) == v1alpha1.ReasonCancelled
	})
	if w.accepting("server-0") != "true" || w.directive("server-0") != nil {
		t.Error("a Failover of the second moves clients of the first")
	}
	w.always("the first goes on with its own", 500*time.Millisecond, func() bool {
		var now v1alpha1.Failover
		return w.api.Get(t.Context(), client.ObjectKeyFromObject(fo), &now) == nil && failover.Outcome(&now) == v1alpha1.ReasonMoving
	})

	// Whoever is given away is let go of in order.
	change := client.MergeFrom(ours.DeepCopy())
	ours.Labels = map[string]string{v1alpha1.InstallationLabel: other}
	if err := w.api.Patch(t.Context(), ours, change); err != nil {
		t.Fatal(err)
	}
	w.eventually("its directive and label are taken back", func() bool {
		return w.directive("server-2") == nil && w.accepting("server-2") == "true"
	})
	w.eventually("the second judges it", func() bool { return b.judge.Last().Of(w.namespace, "servers") != nil })
}
