// Package presence writes the status of every Presence: once per reconcile, by
// server-side apply, at once when a verdict or a condition changes or somebody
// has written over it, and otherwise seldom. It judges nothing.
package presence

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	ac "github.com/rollcall-dev/rollcall/api/applyconfiguration/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/controllers/lead"
	"github.com/rollcall-dev/rollcall/controllers/retry"
)

// +kubebuilder:rbac:groups=rollcall.dev,resources=presences,verbs=get;list;watch
// +kubebuilder:rbac:groups=rollcall.dev,resources=presences/status,verbs=get;patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconciler writes the statuses. Every field is needed.
type Reconciler struct {
	Client client.Client
	Seat   *lead.Seat
	// Last is the newest judgement; nil: none.
	Last func() *judge.Result
	// Kick makes the reconciler look at a Presence soon.
	Kick     func(types.NamespacedName)
	Recorder events.EventRecorder
	// Evacuations are those of the tainted nodes of a Presence, and why none is
	// tainted that should be.
	Evacuations func(types.NamespacedName) (all []v1alpha1.Evacuation, blocked string)
	Retry       *retry.Retrier
	Logger      *slog.Logger
	Now         func() time.Time

	mu      sync.Mutex
	written map[types.NamespacedName]written
	told    *judge.Result // the result that Announce saw last
}

// written is the status that this process wrote last, in one term.
type written struct {
	uid    types.UID
	term   int64
	status v1alpha1.PresenceStatus
	at     time.Time
	// version of the object that the write made; empty: not known.
	version string
	repairs repairs
}

// Announce looks at a new result: it wakes the reconciler where a status may
// differ, and says in Events what has become of servers. It does not block.
// Only the leader may call it, and always from the same goroutine.
func (r *Reconciler) Announce(t *lead.Tenure, result *judge.Result) {
	for key, p := range result.Populations {
		last, known := r.last(t, key, p)
		if _, never := due(last, r.status(key, last, result, p)); !never || !known {
			r.Kick(key)
		}
		r.report(p, result)
	}
	r.told = result
}

// last is the status that this process wrote last in this term. Where it has
// written none, that of the object, which may lag behind another leader's.
func (r *Reconciler) last(t *lead.Tenure, key types.NamespacedName, p *judge.Population) (status v1alpha1.PresenceStatus, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w, ok := r.written[key]; ok && w.uid == p.Presence.UID && w.term == t.Term() {
		return w.status, true
	}
	return p.Presence.Status, false
}

// status is what there is to say now, on top of what was said last.
func (r *Reconciler) status(key types.NamespacedName, last v1alpha1.PresenceStatus, result *judge.Result, p *judge.Population) v1alpha1.PresenceStatus {
	s := Status(last, result.World, p)
	if p.Subject == v1alpha1.SubjectNodes && p.Refused == "" {
		all, blocked := r.Evacuations(key)
		evacuated(&s, last.Evacuations, all, blocked, result)
	}
	return s
}

// Reconcile writes the status of one Presence if it is due, and this process leads
// or nobody can.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	t, result := r.Seat.Current(), r.Last()
	switch {
	case result == nil:
		return reconcile.Result{}, nil // the next result brings it up again
	case t == nil:
		return reconcile.Result{}, r.sayBlind(ctx, req.NamespacedName, result)
	}
	p := result.Populations[req.NamespacedName]
	if p == nil {
		r.mu.Lock()
		delete(r.written, req.NamespacedName)
		r.mu.Unlock()
		return reconcile.Result{}, nil
	}
	last, known := r.last(t, req.NamespacedName, p)
	if !known {
		var fresh v1alpha1.Presence
		if err := r.Client.Get(t.Context, req.NamespacedName, &fresh); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
		last = fresh.Status
	}
	status, now := r.status(req.NamespacedName, last, result, p), r.Now()
	r.mu.Lock()
	was := r.written[req.NamespacedName]
	r.mu.Unlock()
	if known {
		after, never := due(last, status)
		wait := after - now.Sub(was.at)
		by, err := r.spoilt(t.Context, req.NamespacedName, was)
		switch pause := was.repairs.wait(now); {
		case err != nil:
			return reconcile.Result{}, client.IgnoreNotFound(err)
		case by == "" && never:
			return reconcile.Result{}, nil
		case by != "" && pause <= 0:
			r.Logger.Warn("Status was written over, and is written again", "presence", req.String(), "by", by, "times", was.repairs.times+1)
			r.Retry.Count("presenceRepair")
			was.repairs, wait = was.repairs.made(now), 0
		case by != "" && (never || pause < wait):
			wait = pause
		}
		if wait > 0 {
			return reconcile.Result{RequeueAfter: wait}, nil
		}
	}
	version, err := r.apply(t.Context, p.Presence, status)
	if err != nil {
		if apierrors.IsNotFound(err) || t.Context.Err() != nil {
			return reconcile.Result{}, nil
		}
		r.Retry.Count("presenceStatus")
		return reconcile.Result{}, fmt.Errorf("writing the status of Presence %s: %w", req, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.written == nil {
		r.written = map[types.NamespacedName]written{}
	}
	r.written[req.NamespacedName] = written{
		uid: p.Presence.UID, term: t.Term(), status: status, at: now, version: version, repairs: was.repairs,
	}
	return reconcile.Result{}, nil
}

// spoilt says who has written over what was written here last; empty: nobody, as
// far as the cache shows.
func (r *Reconciler) spoilt(ctx context.Context, key types.NamespacedName, was written) (by string, err error) {
	var p v1alpha1.Presence
	if err := r.Client.Get(ctx, key, &p, client.UnsafeDisableDeepCopy); err != nil {
		return "", err
	}
	by, _ = was.spoilt(&p)
	return by, nil
}

// apply writes a status, and returns the version of the object that this made.
func (r *Reconciler) apply(ctx context.Context, p *v1alpha1.Presence, s v1alpha1.PresenceStatus) (version string, err error) {
	counts := ac.PresenceCounts().
		WithMembers(s.Counts.Members).WithAlive(s.Counts.Alive).WithSuspect(s.Counts.Suspect).WithDead(s.Counts.Dead)
	counts.Overloaded, counts.Connections = s.Counts.Overloaded, s.Counts.Connections
	status := ac.PresenceStatus().
		WithObservedGeneration(s.ObservedGeneration).WithSubject(s.Subject).WithCounts(counts).
		WithConditions(failover.Conditions(s.Conditions)...)
	if s.Mode != "" {
		status.WithMode(s.Mode)
	}
	if s.Reason != "" {
		status.WithReason(s.Reason)
	}
	for _, m := range s.NotAlive {
		status.WithNotAlive(ac.MemberStatus().WithName(m.Name).WithState(m.State).WithSince(m.Since).WithMessage(m.Message))
	}
	for _, a := range s.AdvisedIntervals {
		status.WithAdvisedIntervals(ac.AdvisedInterval().WithNetwork(a.Network).WithMax(a.Max))
	}
	for _, e := range s.Evacuations {
		a := ac.Evacuation().WithNode(e.Node).WithTaintedAt(e.TaintedAt).WithPods(e.Pods).WithElsewhere(e.Elsewhere)
		a.UntaintedAt, a.Took = e.UntaintedAt, e.Took
		if e.Message != "" {
			a.WithMessage(e.Message)
		}
		status.WithEvacuations(a)
	}
	config := ac.Presence(p.Name, p.Namespace).WithUID(p.UID).WithStatus(status)
	if err := r.Client.Status().Apply(ctx, config, failover.FieldOwner, client.ForceOwnership); err != nil {
		return "", err
	}
	if config.ResourceVersion != nil {
		version = *config.ResourceVersion
	}
	return version, nil
}
