package controllers

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

func TestAStatusThatIsWrittenOverIsRepaired(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAdvise)
	c, _ := w.controller("one")
	w.ready(c)
	wellIs := func(p *v1alpha1.Presence) bool {
		return says(p, v1alpha1.ConditionHealthy, "True", v1alpha1.ReasonAllAlive) && p.Status.Counts.Alive == 3
	}
	well := func() bool { return wellIs(w.presence("servers")) }
	w.eventually("all are alive", well)
	// A verdict changes nothing here: without the repair the rival's would stand.
	spoil := func() (written bool) {
		t.Helper()
		p := w.presence("servers").DeepCopy()
		p.Status = v1alpha1.PresenceStatus{Subject: v1alpha1.SubjectServers, Counts: v1alpha1.PresenceCounts{Members: 9, Dead: 9},
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionHealthy, Status: metav1.ConditionFalse, Reason: "Rival", LastTransitionTime: metav1.Now()}}}
		err := w.api.Status().Update(t.Context(), p, client.FieldOwner("rival"))
		switch {
		case apierrors.IsConflict(err):
			return false // the controller was faster
		case err != nil:
			t.Fatal(err)
		case wellIs(p):
			t.Fatalf("it is not spoilt: %+v", p.Status)
		}
		return true
	}
	began := time.Now()
	const rounds = 3 // of a rival that answers every repair
	for range rounds {
		w.eventually("it is spoilt", spoil)
		w.eventually("it is repaired", well)
	}
	// At once, after a second, and after two more: the two don't make each other busy.
	if took := time.Since(began); took < 2500*time.Millisecond {
		t.Errorf("%d repairs in %v", rounds, took)
	}
	if n := count(t, c, "rollcall_controller_retries_total", "presenceRepair"); n < rounds {
		t.Errorf("%v repairs of %d are counted", n, rounds)
	}
}

// count is the value of a counter with one label.
func count(t *testing.T, c *Controllers, name, label string) float64 {
	t.Helper()
	families, err := c.cfg.Registerer.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s of %q", name, label)
	return 0
}
