package failover

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// A service's Failover of 100 connections, from one look to the next: what the
// kernels and the severer count, and what comes of it.
func TestTheConnectionsOfAServiceAreFollowed(t *testing.T) {
	type look struct {
		after            time.Duration
		left, elsewhere  int // as the kernels say; left below 0: not known
		ended, remaining int // as the severer says; remaining below 0: it has said nothing
		change           func(*Facts)
		held             bool

		outcome             string
		moved, pending      int32
		severed, ownTimeout int32
		message             string
	}
	quietly := func(l look) look { l.remaining = -1; return l }
	recovered := func(f *Facts) { f.State, f.Proven = verdict.Alive, false }
	for _, c := range []struct {
		name  string
		looks []look
	}{
		{"all are ended, and come up elsewhere", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			{after: time.Second, left: 100, elsewhere: 205, ended: 20, remaining: 80, outcome: v1alpha1.ReasonMoving, moved: 5, pending: 80, severed: 5},
			{after: time.Second, left: 100, elsewhere: 290, ended: 100, remaining: 0, outcome: v1alpha1.ReasonMoving, moved: 90, severed: 90},
			{after: time.Second, left: 0, elsewhere: 300, ended: 100, remaining: 0, outcome: v1alpha1.ReasonMoving, moved: 100, severed: 100},
			{after: arriveWithin, left: 0, elsewhere: 300, ended: 100, remaining: 0, outcome: v1alpha1.ReasonMoved, moved: 100, severed: 100,
				message: "No connection is left of 100: 100 were ended, and the other servers have 100 more than before."},
		}},
		{"some never come back", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			{after: time.Second, elsewhere: 230, ended: 100, outcome: v1alpha1.ReasonMoving, moved: 30, severed: 30},
			{after: arriveWithin - 1, elsewhere: 230, ended: 100, outcome: v1alpha1.ReasonMoving, moved: 30, severed: 30},
			{after: 1, elsewhere: 230, ended: 100, outcome: v1alpha1.ReasonMoved, moved: 30, severed: 30},
		}},
		{"one comes back to it before its Services have followed", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			{after: time.Second, elsewhere: 290, ended: 100, outcome: v1alpha1.ReasonMoving, moved: 90, severed: 90},
			{after: arriveWithin - 1, elsewhere: 290, ended: 100, remaining: 3, outcome: v1alpha1.ReasonMoving, moved: 90, pending: 3, severed: 90},
			{after: 1, elsewhere: 293, ended: 103, outcome: v1alpha1.ReasonMoving, moved: 93, severed: 93},
		}},
		{"a crowd had come since they were counted", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			{after: time.Second, left: 100, elsewhere: 200, ended: 20, remaining: 280, outcome: v1alpha1.ReasonMoving, pending: 280},
			{after: 2 * time.Second, elsewhere: 500, ended: 300, outcome: v1alpha1.ReasonMoving, moved: 300, severed: 300},
		}},
		{"clients leave by themselves", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			{after: time.Second, left: 60, elsewhere: 240, ended: 10, remaining: 60, outcome: v1alpha1.ReasonMoving, moved: 40, pending: 60, severed: 10, ownTimeout: 30},
		}},
		{"what the others' counts say late is not growth", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			quietly(look{after: time.Second, left: 90, elsewhere: 250, outcome: v1alpha1.ReasonMoving, pending: 90}),
			{after: time.Second, left: 80, elsewhere: 255, ended: 10, remaining: 80, outcome: v1alpha1.ReasonMoving, moved: 5, pending: 80, severed: 5},
		}},
		{"growth of others is not this one's while nobody has left", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			quietly(look{after: settleWithin, left: 97, elsewhere: 290, outcome: v1alpha1.ReasonMoving, moved: 3, pending: 97, ownTimeout: 3}),
		}},
		{"what was counted is never taken back", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			quietly(look{after: settleWithin, left: 50, elsewhere: 250, outcome: v1alpha1.ReasonMoving, moved: 50, pending: 50, ownTimeout: 50}),
			quietly(look{after: time.Second, left: 50, elsewhere: 210, outcome: v1alpha1.ReasonMoving, moved: 50, pending: 50, ownTimeout: 50}),
		}},
		{"a server that answers again keeps the rest", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			{after: time.Second, left: 100, elsewhere: 230, ended: 30, remaining: 70, change: recovered, outcome: v1alpha1.ReasonRecovered, moved: 30, pending: 70, severed: 30,
				message: "The server answers again; 70 connections stay with it."},
		}},
		{"its pod is gone", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			quietly(look{after: settleWithin, left: -1, elsewhere: 300, change: func(f *Facts) { f.Server.Known = false }, outcome: v1alpha1.ReasonMoving, moved: 100, ownTimeout: 100}),
			quietly(look{after: arriveWithin, left: -1, elsewhere: 300, outcome: v1alpha1.ReasonMoved, moved: 100, ownTimeout: 100}),
		}},
		{"another pod of its name is there, and does not answer yet", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			quietly(look{after: settleWithin, left: 7, elsewhere: 300, change: func(f *Facts) { f.Server.Record.Incarnation = "later" }, outcome: v1alpha1.ReasonMoving, moved: 100, ownTimeout: 100}),
		}},
		{"its node is gone, and nobody counts there", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			{after: time.Second, left: 100, elsewhere: 210, ended: 10, remaining: 90, outcome: v1alpha1.ReasonMoving, moved: 10, pending: 90, severed: 10},
			{after: time.Second, left: -1, elsewhere: 280, ended: 10, remaining: 90, change: func(f *Facts) { f.State = verdict.Dead }, outcome: v1alpha1.ReasonMoving, moved: 80, pending: 20, severed: 10, ownTimeout: 70},
			{after: time.Second, left: -1, elsewhere: 310, ended: 10, remaining: 90, outcome: v1alpha1.ReasonMoving, moved: 100, severed: 10, ownTimeout: 90},
			{after: arriveWithin, left: -1, elsewhere: 310, ended: 10, remaining: 90, outcome: v1alpha1.ReasonMoved, moved: 100, severed: 10, ownTimeout: 90},
		}},
		{"who counts there is away for a while, and it hangs", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			quietly(look{after: settleWithin, left: -1, elsewhere: 900, outcome: v1alpha1.ReasonMoving, pending: 100}),
		}},
		{"nobody ends them", []look{
			quietly(look{left: 100, elsewhere: 200, change: func(f *Facts) { f.Sever.Policy.Mode = v1alpha1.SeverOff }, outcome: v1alpha1.ReasonMoving, pending: 100}),
			quietly(look{after: MinDeadline - 1, left: 99, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 99}),
			quietly(look{after: MinDeadline - 1, left: 99, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 99}),
			quietly(look{after: 1, left: 99, elsewhere: 200, outcome: v1alpha1.ReasonTimedOut, pending: 99,
				message: "99 connections are left, and none has ended for 1m0s: nobody ends them while failover.sever.mode is not Paced."}),
		}},
		{"clients are still led to it", []look{
			quietly(look{left: 100, elsewhere: 200, change: func(f *Facts) { f.Sever.Out = false }, outcome: v1alpha1.ReasonMoving, pending: 100}),
			quietly(look{after: MinDeadline, left: 100, elsewhere: 200, outcome: v1alpha1.ReasonTimedOut, pending: 100,
				message: "100 connections are left, and none has ended for 1m0s: new clients are still led to it."}),
		}},
		{"what stands still has all the time", []look{
			quietly(look{left: 100, elsewhere: 200, outcome: v1alpha1.ReasonMoving, pending: 100}),
			quietly(look{after: 2 * MinDeadline, left: 100, elsewhere: 200, held: true, outcome: v1alpha1.ReasonMoving, pending: 100}),
		}},
		{"it is paused", []look{
			quietly(look{left: 100, elsewhere: 200, change: func(f *Facts) { f.Forbidden = "Paused." }, outcome: v1alpha1.ReasonCancelled}),
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fo, memory, facts := stuck()
			memory.Began = facts.Now
			for i, l := range c.looks {
				facts.Now = facts.Now.Add(l.after)
				facts.Service = &Service{Left: l.left, Elsewhere: l.elsewhere}
				if l.remaining >= 0 {
					facts.Service.Severed = &v1alpha1.Severed{Port: 8080, Connections: int32(l.ended), Remaining: int32(l.remaining)}
				}
				if l.change != nil {
					l.change(&facts)
				}
				if l.held {
					memory.Pace.Held = "a receiver is slow"
				}
				step := Advance(fo, memory, facts)
				memory, fo.Status = step.Memory, step.Status
				if Outcome(fo) != l.outcome || fo.Status.Moved != l.moved || fo.Status.Pending != l.pending || step.Stalled ||
					fo.Status.MovedBy != (v1alpha1.MovedBy{Severed: l.severed, OwnTimeout: l.ownTimeout}) {
					t.Fatalf("look %d: it is %s, moved %d, pending %d, by %+v; want %s, %d, %d", i, Outcome(fo), fo.Status.Moved, fo.Status.Pending, fo.Status.MovedBy, l.outcome, l.moved, l.pending)
				}
				if said := meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionProcessing).Message; !strings.Contains(said, l.message) {
					t.Errorf("look %d: it says %q, want %q", i, said, l.message)
				}
			}
		})
	}
}

// The severer is asked to look at the pod that is meant, and no other of its name.
func TestAnotherPodOfTheNameIsNotSevered(t *testing.T) {
	for incarnation, want := range map[string]bool{"now": true, "later": false} {
		fo, memory, facts := stuck()
		facts.Service = &Service{Left: 100, Elsewhere: 200}
		facts.Server.Record.Incarnation = incarnation
		if step := Advance(fo, memory, facts); (step.Status.Sever != nil) != want {
			t.Errorf("of %s the severer is asked for %+v", incarnation, step.Status.Sever)
		}
	}
}

func TestAnotherLeaderGoesOnCountingAService(t *testing.T) {
	fo, _, facts := stuck()
	fo.Spec.Incarnation, fo.Spec.Clients, fo.Status.Moved = "now", 100, 30
	facts.Directive.Incarnation = "now"
	facts.Service = &Service{Left: 70, Elsewhere: 230}
	memory := Recall(fo, facts)
	for _, elsewhere := range []int{230, 240} {
		facts.Service.Elsewhere, facts.Service.Left = elsewhere, 300-elsewhere
		step := Advance(fo, memory, facts)
		if memory, fo.Status = step.Memory, step.Status; int(step.Status.Moved) != elsewhere-200 {
			t.Errorf("with %d elsewhere, %d are moved", elsewhere, step.Status.Moved)
		}
	}
}
