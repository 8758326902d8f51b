package controllers

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// All controllers were lost when a server had just been let in again that fails
// often: what only they remembered is in the store.
func TestPenaltiesAndSharesThatAreDueOutliveAllControllers(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAutomatic)
	back := w.servers["server-2"]
	back.holds(0)
	w.servers["server-0"].holds(150)
	w.servers["server-1"].holds(150)

	earlier := w.open()
	term, err := earlier.Campaign(t.Context(), "earlier")
	if err != nil {
		t.Fatal(err)
	}
	failed := time.Now().Add(-time.Minute)
	for what, err := range map[string]error{
		"the directive": term.PutDirective(t.Context(), back.name(), store.Directive{
			Failover: w.namespace + "/earlier", Incarnation: back.record.Incarnation, Drain: true, Rate: 10,
		}),
		"the penalty": term.PutPenalty(t.Context(), back.name(), store.Penalty{
			Incarnation: back.record.Incarnation, Sum: 5500, At: failed,
		}),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if err := term.DeleteDirective(t.Context(), back.name(), w.namespace+"/earlier"); err != nil {
		t.Fatal(err)
	}
	if err := term.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}

	c, _ := w.controller("later")
	w.ready(c)
	judged := func() verdict.Verdict {
		p := c.judge.Last().Populations[types.NamespacedName{Namespace: w.namespace, Name: "servers"}]
		if p == nil {
			return verdict.Verdict{}
		}
		return p.Judgement.Verdicts[back.name()]
	}
	w.eventually("its penalty is known", func() bool { v := judged(); return v.Penalty == 5500 && v.PenaltyAt.Equal(failed) })
	w.eventually("its share comes back", func() bool {
		for _, fo := range w.failovers() {
			if fo.Spec.Reason == v1alpha1.FailoverReturned && fo.Spec.Targets[0].Server == "server-2" {
				return true
			}
		}
		return false
	})
	due := c.book.Due
	w.eventually("nothing is due any more", func() bool { return len(due()) == 0 })

	// Its next failure is added to what was left, and kept in its turn.
	w.hear(back, wire.BandHung, "a", "b", "c")
	w.eventually("it is suppressed", func() bool {
		p := c.book.Penalties()[back.name()]
		return p.Sum > 6000 && p.Sum < 6500 && p.Suppressed.After(p.At) && !judged().Suppressed.IsZero()
	})
}
