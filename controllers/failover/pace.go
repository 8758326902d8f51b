package failover

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// pace adapts a move in progress to its receivers, where its directive stands.
func (s Step) pace(fo *v1alpha1.Failover, f Facts) Step {
	if s.Put != nil || !f.directs(fo) || len(f.Plan.Fleet) == 0 {
		return s
	}
	last := s.Memory.Pace
	if last.At.IsZero() { // an earlier leader's
		last = paceOf(f.Directive, f.Now)
	}
	move := plan.Active{
		Name: fo.Name, Server: fo.Namespace + "/" + fo.Spec.Server, Reason: string(fo.Spec.Reason),
		Pending: int(s.Status.Pending), Targets: last.Targets, Pace: last,
	}
	now := plan.Adjust(f.Now, f.Plan.Policy, f.Plan.Brake, move, f.Plan.Fleet, f.Plan.Active)
	s.Memory.Pace = now
	s.Memory.slow(now.Rate)
	s.After = min(s.After, now.Next.Sub(f.Now))
	if now.Held != last.Held {
		message := "Clients are told to go."
		if now.Held != "" {
			message = "It stands still: " + now.Held + "."
		}
		s.state(fo, f, metav1.ConditionTrue, metav1.ConditionUnknown, v1alpha1.ReasonMoving, message)
	}
	if now.Rate == last.Rate && slices.Equal(now.Targets, last.Targets) {
		return s
	}
	put := *f.Directive
	put.Rate, put.Targets = now.Rate, nil
	for _, t := range now.Targets {
		put.Targets = append(put.Targets, store.Target{Server: t.Server, Address: t.Address, Weight: t.Weight})
	}
	s.Put, s.Paced = &put, true
	s.Status.Receivers = int32(len(put.Targets))
	return s
}

// paceOf is what a directive says, as of when it was written.
func paceOf(d *store.Directive, at time.Time) plan.Pace {
	p := plan.Pace{Rate: d.Rate, Want: d.Rate, At: at}
	if p.Rate == 0 {
		p.Held = "an earlier leader held it"
	}
	for _, t := range d.Targets {
		p.Targets = append(p.Targets, plan.Target{Server: t.Server, Address: t.Address, Weight: t.Weight})
	}
	return p
}
