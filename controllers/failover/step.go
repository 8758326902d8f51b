package failover

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

const (
	// MinDeadline is the least time that clients get to arrive elsewhere. A
	// Failover of many, or a slow one, takes longer: deadlineFactor times what the
	// slowest pace needs that it was given.
	MinDeadline    = 60 * time.Second
	deadlineFactor = 3
	// quiet is how long after the last sign of progress a server that says it
	// holds nobody is believed: receivers report at most every 100 ms.
	quiet = time.Second
	// lookAgain is how often a Failover in progress is looked at when nothing
	// reports a change.
	lookAgain = time.Second
	// echo is how long a directive that was written may take to show in the watch.
	echo = 2 * time.Second
)

// Facts are what a step is decided on, besides the object itself.
type Facts struct {
	Now time.Time
	// Forbidden says why the Failover must not go on, in words: its Presence is
	// gone, a person paused it, an older one is at work on the server. Empty: it may.
	Forbidden string
	Mode      v1alpha1.FailoverMode
	// Rate is the Presence's clients per second.
	Rate float64
	// State is the verdict on the server, and Proven whether the evidence at hand
	// is by itself enough for it.
	State  verdict.State
	Proven bool
	// Server is what is known of it.
	Server evidence.Server
	// TakenOver counts takeovers from an incarnation by all others.
	TakenOver func(incarnation string) store.Takeovers
	// Directive is the one that stands for it; nil: none.
	Directive *store.Directive
	// Plan is what the pace of a move in progress is adapted to.
	Plan Plan
	// Service is what is known of a server that has no record; nil: it has one.
	Service *Service
	// Sever is what the severer on the server's node may be asked.
	Sever Severing
	// Choice of receivers, for a Failover that has not begun, or whose directive is gone.
	Choice Choice
}

// Plan is what was last planned on. A Fleet of nobody adapts nothing.
type Plan struct {
	Policy plan.Policy
	Brake  verdict.Brake
	Fleet  []plan.Server
	Active []plan.Active
}

// Choice is who receives, and how fast.
type Choice struct {
	Targets   []plan.Target
	Rate      float64
	FirstWave int
	// Blocked says in words why there is nobody; empty where there is somebody.
	Blocked string
}

// Memory is what the leader remembers of a Failover between its steps. All of
// it can be recalled, if less exactly, from the object and the store.
type Memory struct {
	// Incarnation whose clients are moved; Clients that are expected to move.
	Incarnation string
	Clients     int
	// Base is the takeovers from that incarnation that don't count.
	Base store.Takeovers
	// Grown is when Moved last grew, Put when the directive was last written, and
	// Began when it first was, or when this leader took over: another's clock
	// says nothing.
	Grown, Put, Began time.Time
	// Pace is how fast it goes, and where to, as was last directed; Slowest is the
	// slowest so far, in clients per second, but for standing still; 0: none.
	Pace    plan.Pace
	Slowest float64
	// Ended is how many sessions had gone offline on the server when it was begun,
	// or when this leader took over, and Lost how many it had lost by then. Ended is
	// -1 until a record of the incarnation is seen: it may be away at that time.
	Ended, Lost int
	// Told is how many clients the server says it has told to go, and Acted when
	// that last grew.
	Told  int
	Acted time.Time
	// Remaining is how many of its sessions the store still holds, read when
	// nothing grew any more; -1: not read.
	Remaining int
	// Counts are those of a Service's connections.
	Counts Counts
}

// Step is what to do next.
type Step struct {
	Status v1alpha1.FailoverStatus
	Memory Memory
	// Put is the directive to write, if any, before the status. Paced: it is only
	// another pace for one that stands.
	Put   *store.Directive
	Paced bool
	// Withdraw the directive: the server takes clients as before.
	Withdraw bool
	// Stalled: clients are pending and none has arrived for a while. Reading
	// how many remain would help.
	Stalled bool
	// After is when to look again even if nothing changes; zero: only then.
	After time.Duration
}

// Drains tells whether a Failover takes its server out: it moves everyone.
func Drains(fo *v1alpha1.Failover) bool { return fo.Spec.Count == nil }

// Finished tells whether a Failover has come to its end.
func Finished(fo *v1alpha1.Failover) bool {
	return meta.IsStatusConditionFalse(fo.Status.Conditions, v1alpha1.ConditionProcessing)
}

// Outcome is the reason that STATE prints; empty before the first step.
func Outcome(fo *v1alpha1.Failover) string {
	if c := meta.FindStatusCondition(fo.Status.Conditions, v1alpha1.ConditionProcessing); c != nil {
		return c.Reason
	}
	return ""
}

// Begun tells whether the directive of a Failover has been written, and it isn't
// finished.
func Begun(fo *v1alpha1.Failover) bool { return Outcome(fo) == v1alpha1.ReasonMoving }

// automatic tells whether a Failover is the controller's own decision.
func automatic(fo *v1alpha1.Failover) bool { return fo.Spec.Reason != v1alpha1.FailoverDrain }

// Advance decides the next step of a Failover. It is pure.
func Advance(fo *v1alpha1.Failover, m Memory, f Facts) Step {
	s := Step{Status: *fo.Status.DeepCopy(), Memory: m}
	s.Status.ObservedGeneration = fo.Generation
	s.Status.DetectedAt = fo.Spec.DetectedAt
	if Finished(fo) {
		return s
	}
	if s.Status.DecidedAt == nil {
		s.Status.DecidedAt = micro(f.Now)
	}
	switch {
	case Begun(fo):
		return s.move(fo, f)
	case f.directs(fo) && f.Directive.Incarnation == s.Memory.Incarnation:
		return s.adopt(fo, f)
	}
	return s.begin(fo, f)
}

// directs tells whether the directive that stands is of this Failover, by its name:
// it may be of an earlier one that was called the same.
func (f Facts) directs(fo *v1alpha1.Failover) bool {
	return f.Directive != nil && f.Directive.Failover == fo.Namespace+"/"+fo.Name
}

// adopt goes on with a directive that stands although the object doesn't say so yet:
// whoever wrote it ended, or could not ask the API server, before it could.
func (s Step) adopt(fo *v1alpha1.Failover, f Facts) Step {
	s.Memory.Put, s.Memory.Began = f.Now, f.Now
	s.Memory.slow(f.Directive.Rate)
	s.Status.Receivers = int32(len(f.Directive.Targets))
	s.state(fo, f, metav1.ConditionTrue, metav1.ConditionUnknown, v1alpha1.ReasonMoving, "The directive is written.")
	return s.move(fo, f)
}

// begin writes the directive, or ends what should not begin.
func (s Step) begin(fo *v1alpha1.Failover, f Facts) Step {
	switch {
	case f.Forbidden != "":
		return s.end(fo, f, v1alpha1.ReasonCancelled, f.Forbidden)
	case automatic(fo) && f.Mode == v1alpha1.ModeAdvise:
		return s.end(fo, f, v1alpha1.ReasonAdvised, "The mode of the Presence is Advise: nothing was done.")
	case automatic(fo) && f.Mode == v1alpha1.ModeOff:
		return s.end(fo, f, v1alpha1.ReasonCancelled, "The mode of the Presence is Off.")
	case !f.Server.Known:
		return s.end(fo, f, v1alpha1.ReasonCancelled, "No server of this name has a record.")
	case s.Memory.Incarnation != f.Server.Record.Incarnation && f.State == verdict.Alive:
		return s.end(fo, f, v1alpha1.ReasonCancelled, "The server has been restarted since, and is alive.")
	}
	s.Status.Pending = int32(s.Memory.Clients)
	if len(f.Choice.Targets) == 0 {
		s.state(fo, f, metav1.ConditionTrue, metav1.ConditionUnknown, v1alpha1.ReasonNoHeadroom, f.Choice.Blocked)
		s.After = lookAgain
		return s
	}
	s.Put = &store.Directive{
		Failover: fo.Namespace + "/" + fo.Name, Incarnation: s.Memory.Incarnation,
		Drain: Drains(fo), Rate: f.Choice.Rate, FirstWave: f.Choice.FirstWave,
	}
	if fo.Spec.Count != nil {
		s.Put.Count = int(*fo.Spec.Count)
	}
	for _, t := range f.Choice.Targets {
		s.Put.Targets = append(s.Put.Targets, store.Target{Server: t.Server, Address: t.Address, Weight: t.Weight})
	}
	s.Memory.Put, s.Memory.Pace = f.Now, paceOf(s.Put, f.Now)
	s.Memory.slow(s.Put.Rate)
	if s.Memory.Began.IsZero() {
		s.Memory.Began = f.Now
	}
	s.Status.Receivers = int32(len(s.Put.Targets))
	s.state(fo, f, metav1.ConditionTrue, metav1.ConditionUnknown, v1alpha1.ReasonMoving, "The directive is written.")
	return s.count(fo, f)
}

// move follows the clients until they have arrived, or never will.
func (s Step) move(fo *v1alpha1.Failover, f Facts) Step {
	own := f.directs(fo)
	switch {
	case f.Forbidden != "":
		return s.end(fo, f, v1alpha1.ReasonCancelled, f.Forbidden)
	case automatic(fo) && f.Mode != v1alpha1.ModeAutomatic:
		return s.end(fo, f, v1alpha1.ReasonCancelled, "The mode of the Presence is Automatic no more.")
	case !Drains(fo) && f.State.Bad():
		return s.end(fo, f, v1alpha1.ReasonCancelled, "The server is "+string(f.State)+" itself.")
	case f.Directive != nil && !own:
		return s.end(fo, f, v1alpha1.ReasonCancelled, "Another Failover has directed the server since: "+f.Directive.Failover+".")
	case !own && f.Now.Sub(s.Memory.Put) > echo:
		// It was lost with the store, or never written: once more, to whoever has room now.
		if len(f.Choice.Targets) > 0 {
			return s.begin(fo, f)
		}
	}
	return s.count(fo, f)
}

// count takes the numbers from the receivers' records, and ends the Failover
// when they say so.
func (s Step) count(fo *v1alpha1.Failover, f Facts) Step {
	if f.Service != nil {
		return s.connections(fo, f)
	}
	grown := f.TakenOver(s.Memory.Incarnation).Since(s.Memory.Base)
	moved := max(grown.Total(), int(s.Status.Moved)) // a record that was lost takes nothing back
	if moved > int(s.Status.Moved) {
		if s.Status.Moved == 0 {
			s.Status.FirstMovedAt = micro(f.Now)
		}
		s.Memory.Grown, s.Memory.Remaining = f.Now, -1
		s.Status.MovedBy = v1alpha1.MovedBy{
			Directive: int32(grown.Directive), OwnTimeout: int32(grown.OwnTimeout()), Severed: int32(grown.Severed),
		}
	}
	s.Status.Moved = int32(moved)
	s.Memory.baseline(f)
	open := max(0, s.Memory.Clients-moved)
	s.Status.Lost = int32(min(open, s.lost(fo, f)))
	pending := open - int(s.Status.Lost)
	if r := s.Memory.Remaining; r >= 0 && r < pending {
		// The others are elsewhere, if no receiver has counted them: one may have said
		// goodbye before it went, as agents do, or its receiver has not told yet.
		pending = r
	}
	s.Status.Pending = int32(pending)

	idle := f.Now.Sub(latest(s.Memory.Grown, s.Memory.Put, f.Server.Written))
	own := f.Server.Live && f.Server.Record.Incarnation == s.Memory.Incarnation
	progress := f.Server.Record.Drain
	told := own && progress != nil && progress.Done && progress.Failover == fo.Namespace+"/"+fo.Name
	switch {
	case pending == 0:
		return s.end(fo, f, v1alpha1.ReasonMoved, fmt.Sprintf("No client is left of %d; %d were lost.", s.Memory.Clients, s.Status.Lost))
	case Drains(fo) && own && f.Server.Record.Total() == 0 && idle >= quiet:
		s.Status.Pending = 0
		return s.end(fo, f, v1alpha1.ReasonMoved, "The server holds no session any more.")
	case !Drains(fo) && told && idle >= quiet:
		s.Status.Pending = 0
		return s.end(fo, f, v1alpha1.ReasonMoved, "The server has told as many as it could.")
	case faulty(fo) && f.State == verdict.Alive:
		return s.end(fo, f, v1alpha1.ReasonRecovered, fmt.Sprintf("The server answers again; %d clients stay with it.", pending))
	}
	rate := f.Rate
	if s.Memory.Slowest > 0 {
		rate = min(rate, s.Memory.Slowest)
	}
	deadline := s.Memory.Began.Add(Deadline(s.Memory.Clients, rate))
	if !f.Now.Before(deadline) {
		return s.end(fo, f, v1alpha1.ReasonTimedOut, fmt.Sprintf("%d clients had not arrived elsewhere by the deadline.", pending))
	}
	s.Stalled = s.Memory.Remaining < 0 && f.Now.Sub(latest(s.Memory.Grown, s.Memory.Put)) >= 3*quiet
	s.After = min(lookAgain, deadline.Sub(f.Now))
	return s.pace(fo, f).sever(fo, f)
}

// lost is how many clients went offline on the server since the Failover began: it
// tells so itself. One that does not run declares nobody, and nobody else does
// while the Failover is in progress. Of a move of some clients only nobody is known
// to be lost: who of all the server's clients was to go, the server alone knows.
func (s Step) lost(fo *v1alpha1.Failover, f Facts) int {
	if !Drains(fo) || f.Server.Record.Incarnation != s.Memory.Incarnation {
		return int(s.Status.Lost)
	}
	return s.Memory.Lost + max(0, f.Server.Record.Ended-s.Memory.Ended)
}

// slow remembers the slowest pace.
func (m *Memory) slow(rate float64) {
	if rate > 0 && (m.Slowest == 0 || rate < m.Slowest) {
		m.Slowest = rate
	}
}

// end finishes a Failover. A server that was taken out stays out until it is
// let in again; one that only gave some clients away takes more at once, and so
// does one whose Failover is called off.
func (s Step) end(fo *v1alpha1.Failover, f Facts, reason, message string) Step {
	succeeded := metav1.ConditionFalse
	if reason == v1alpha1.ReasonMoved || reason == v1alpha1.ReasonRecovered {
		succeeded = metav1.ConditionTrue
	}
	s.state(fo, f, metav1.ConditionFalse, succeeded, reason, message)
	s.Status.CompletedAt = micro(f.Now)
	s.Status.Sever = nil
	s.Withdraw = f.directs(fo) && (!Drains(fo) || reason == v1alpha1.ReasonCancelled)
	s.After = 0
	return s
}

func (s *Step) state(fo *v1alpha1.Failover, f Facts, processing, succeeded metav1.ConditionStatus, reason, message string) {
	for t, status := range map[string]metav1.ConditionStatus{
		v1alpha1.ConditionProcessing: processing, v1alpha1.ConditionSucceeded: succeeded,
	} {
		meta.SetStatusCondition(&s.Status.Conditions, metav1.Condition{
			Type: t, Status: status, Reason: reason, Message: message,
			ObservedGeneration: fo.Generation, LastTransitionTime: metav1.NewTime(f.Now),
		})
	}
}

// faulty tells whether a Failover was decided because its server doesn't answer.
func faulty(fo *v1alpha1.Failover) bool {
	return fo.Spec.Reason == v1alpha1.FailoverOverloaded || fo.Spec.Reason == v1alpha1.FailoverDead
}

// Deadline is how long so many clients may take at so many a second.
func Deadline(clients int, rate float64) time.Duration {
	if rate <= 0 {
		return MinDeadline
	}
	return max(MinDeadline, time.Duration(deadlineFactor*float64(clients)/rate*float64(time.Second)))
}

func latest(times ...time.Time) time.Time {
	var last time.Time
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}

func micro(t time.Time) *metav1.MicroTime {
	m := metav1.NewMicroTime(t)
	return &m
}
