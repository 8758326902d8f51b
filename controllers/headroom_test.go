package controllers

import (
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestWithoutHeadroomNobodyIsMovedAndNewcomersAreTurnedAway(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAutomatic)
	c, _ := w.controller("one")
	w.ready(c)
	hung := w.servers["server-2"]
	w.servers["server-0"].holds(850)
	w.servers["server-1"].holds(850)
	turnsAway := func() bool {
		d := w.directive("server-2")
		return d != nil && d.Refuse && !d.Drain && d.RetryAfter > 0 && d.Failover == "" && d.Incarnation == hung.record.Incarnation
	}

	w.hear(hung, wire.BandHung, "a", "b")
	w.eventually("newcomers are turned away", turnsAway)
	w.eventually("the Presence says why", func() bool {
		return says(w.presence("servers"), v1alpha1.ConditionFrozen, "True", v1alpha1.ReasonNoHeadroom)
	})
	if len(w.failovers()) != 0 || w.accepting("server-2") != "true" {
		t.Errorf("%d Failovers, accepting %s", len(w.failovers()), w.accepting("server-2"))
	}
	w.hear(hung, wire.BandOK, "a", "b")
	w.eventually("newcomers are welcome again", func() bool { return w.directive("server-2") == nil })

	w.hear(hung, wire.BandHung, "a", "b")
	w.eventually("newcomers are turned away once more", turnsAway)
	w.servers["server-0"].holds(200) // room enough for all: it may begin before server-1 says its own
	w.servers["server-1"].holds(200)
	w.eventually("there is room: its clients are moved", func() bool {
		d := w.directive("server-2")
		return d != nil && d.Drain && !d.Refuse && d.Failover != "" && len(d.Targets) >= 1
	})
	w.outcome("server-2", v1alpha1.FailoverOverloaded, v1alpha1.ReasonMoving)
}

func TestClientsWhoseConnectionBrokeAccuseNobody(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAutomatic)
	c, _ := w.controller("one")
	w.ready(c)
	left, hung := w.servers["server-0"], w.servers["server-2"]
	left.record.Takeovers = map[string]store.Takeovers{hung.record.Incarnation: {Broken: 50}}
	left.holds(150)
	w.hear(hung, wire.BandHung, "a")
	w.always("one observer and broken connections move nobody", 500*time.Millisecond, func() bool { return w.directive("server-2") == nil })
	left.record.Takeovers = map[string]store.Takeovers{hung.record.Incarnation: {Broken: 50, Late: 5}}
	left.holds(155)
	w.directed("server-2")
	w.outcome("server-2", v1alpha1.FailoverOverloaded, v1alpha1.ReasonMoving)
}
