package controllers

import (
	"testing"
	"time"

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
	well := func() bool {
		p := w.presence("servers")
		return says(p, v1alpha1.ConditionHealthy, "True", v1alpha1.ReasonAllAlive) && p.Status.Counts.Alive == 3
	}
	w.eventually("all are alive", well)
	spoil := func() {
		t.Helper()
		p := w.presence("servers").DeepCopy()
		p.Status = v1alpha1.PresenceStatus{Subject: v1alpha1.SubjectServers, Counts: v1alpha1.PresenceCounts{Members: 9, Dead: 9},
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionHealthy, Status: metav1.ConditionFalse, Reason: "Rival", LastTransitionTime: metav1.Now()}}}
		if err := w.api.Status().Update(t.Context(), p, client.FieldOwner("rival")); err != nil && !apierrors.IsConflict(err) {
			t.Fatal(err)
		}
	}
	// A verdict changes nothing here: without the repair the rival's would stand.
	spoil()
	w.eventually("it is repaired", well)

	// A rival that answers every repair does not make the two busy.
	until := time.Now().Add(4 * time.Second)
	rounds := 0
	w.always("there is no fight", time.Until(until), func() bool {
		if well() {
			spoil()
			rounds++
		}
		return rounds < 10
	})
	w.eventually("and in the end it is repaired", well)
}
