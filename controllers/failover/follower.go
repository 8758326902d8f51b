// Package failover carries decisions out: it records each as a Failover object
// before anything else is done, and follows every Failover, a person's too, to
// its end. A leader continues what an earlier one began, from the object and
// the store alone.
package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/controllers/lead"
	"github.com/rollcall-dev/rollcall/controllers/retry"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// ErrNotNow says that nothing can be said of a Failover at present: this process
// does not know enough. It is left as it is.
var ErrNotNow = errors.New("not enough is known at present")

// notNow is when such a Failover is looked at again.
const notNow = 200 * time.Millisecond

// statusEvery is the shortest time between two writes of a status in which
// nothing but counts has changed.
const statusEvery = 250 * time.Millisecond

// +kubebuilder:rbac:groups=rollcall.dev,resources=failovers,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups=rollcall.dev,resources=failovers/status,verbs=get;patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Follower is the reconciler of Failovers. Every field is needed.
type Follower struct {
	Client client.Client
	Ledger *Ledger
	Seat   *lead.Seat
	Store  *store.Store
	// Look gathers the facts, but for the choice of a decision just made.
	Look func(ctx context.Context, fo *v1alpha1.Failover) (Facts, error)
	// Standing is the directive that stands for a server.
	Standing func(server string) (store.Directive, bool)
	// Divert turns a server's label to false, where new clients are led past it by
	// that, and Restore to true where no Presence selects it any more. Both return at once.
	Divert, Restore func(t *lead.Tenure, server string)
	// Kick makes the reconciler look at a Failover soon.
	Kick     func(types.NamespacedName)
	Recorder events.EventRecorder
	Retry    *retry.Retrier
	Logger   *slog.Logger
	Metrics  *Metrics
	Now      func() time.Time
	// Go runs something in the background, and has it waited for at the end.
	Go func(func())

	mu     sync.Mutex
	tracks map[types.NamespacedName]*track
}

// track is what this process remembers of one Failover.
type track struct {
	// mu is held for a whole step, so that steps follow one another.
	mu sync.Mutex
	state
}

// state of a track lasts for one term, and one object of the name.
type state struct {
	uid    types.UID
	term   int64
	memory Memory
	// status is the newest, written or not: it goes before the object's.
	status  v1alpha1.FailoverStatus
	written v1alpha1.FailoverStatus
	at      time.Time // of the last write
	// choice of the decision that made it; nil where this process didn't.
	choice *Choice
	// counting: the store is being asked how many sessions remain.
	counting bool
}

// Reconcile takes the next step of one Failover, if this process leads.
func (f *Follower) Reconcile(_ context.Context, req reconcile.Request) (reconcile.Result, error) {
	t := f.Seat.Current()
	if t == nil {
		return reconcile.Result{}, nil
	}
	after, err := f.follow(t, req.NamespacedName)
	if t.Context.Err() == nil {
		return reconcile.Result{RequeueAfter: after}, err
	}
	return reconcile.Result{}, nil // the next leader goes on
}

// expect says how a Failover that is about to be created is to be carried out.
func (f *Follower) expect(key types.NamespacedName, c Choice) {
	tr := f.track(key)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.choice = &c
}

// begin takes the first step of a decision that was just recorded, without
// waiting for the reconciler. What it can't do now, the reconciler does.
func (f *Follower) begin(t *lead.Tenure, key types.NamespacedName) {
	if _, err := f.follow(t, key); err != nil && t.Context.Err() == nil {
		f.Logger.Warn("Failover could not be begun, and is tried again", "failover", key.String(), "err", err)
	}
	f.Kick(key)
}

func (f *Follower) track(key types.NamespacedName) *track {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tracks == nil {
		f.tracks = map[types.NamespacedName]*track{}
	}
	tr := f.tracks[key]
	if tr == nil {
		tr = &track{}
		f.tracks[key] = tr
	}
	return tr
}

func (f *Follower) drop(key types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tracks, key)
}

// follow takes the next step, and tells when to take another.
func (f *Follower) follow(t *lead.Tenure, key types.NamespacedName) (time.Duration, error) {
	ctx := t.Context
	tr := f.track(key)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	fo, err := f.Ledger.Get(ctx, key)
	if apierrors.IsNotFound(err) {
		f.Ledger.Forget(key)
		f.drop(key)
		return 0, nil // its directive is withdrawn by the gate
	}
	if err != nil {
		return 0, err
	}
	if ours, err := f.Ledger.Owns(ctx, fo); err != nil || !ours {
		f.Ledger.Forget(key)
		f.drop(key)
		return 0, err // another installation's; if it was ours before, the gate withdraws its directive
	}
	facts, err := f.Look(ctx, fo)
	if errors.Is(err, ErrNotNow) {
		return notNow, nil
	}
	if err != nil {
		return 0, fmt.Errorf("looking at Failover %s: %w", key, err)
	}
	if tr.uid != fo.UID || tr.term != t.Term() {
		fresh := state{
			uid: fo.UID, term: t.Term(),
			status: fo.Status, written: fo.Status, memory: Recall(fo, facts),
		}
		if tr.uid == "" {
			fresh.choice = tr.choice // what expect was told
		}
		tr.state = fresh
	}
	now := fo.DeepCopy()
	now.Status = *tr.status.DeepCopy()
	if tr.choice != nil {
		facts.Choice = *tr.choice
	}
	return f.carryOut(t, tr, now, Advance(now, tr.memory, facts))
}

// carryOut does what a step says: the directive and the label first, which
// must not wait for a status.
func (f *Follower) carryOut(t *lead.Tenure, tr *track, fo *v1alpha1.Failover, s Step) (time.Duration, error) {
	ctx, server := t.Context, fo.Namespace+"/"+fo.Spec.Server
	log := f.Logger.With("failover", fo.Namespace+"/"+fo.Name, "server", server)
	if s.Put != nil {
		if s.Put.Drain {
			f.Divert(t, server)
		}
		if err := t.PutDirective(ctx, server, *s.Put); err != nil {
			f.Retry.Count("putDirective")
			return 0, fmt.Errorf("directing %s: %w", server, err)
		}
		if !s.Paced {
			f.Metrics.wrote(fo, f.Now())
		}
		log.Info("Directive written", "drain", s.Put.Drain, "count", s.Put.Count, "rate", s.Put.Rate,
			"firstWave", s.Put.FirstWave, "targets", len(s.Put.Targets))
	}
	if s.Withdraw {
		if err := t.DeleteDirective(ctx, server, fo.Namespace+"/"+fo.Name); err != nil {
			f.Retry.Count("deleteDirective")
			return 0, fmt.Errorf("withdrawing the directive of %s: %w", server, err)
		}
		log.Info("Directive withdrawn")
		f.Restore(t, server)
	}
	if s.Put != nil {
		tr.choice = nil // what it chose stands in the store now
	}
	tr.memory, tr.status = s.Memory, s.Status
	if s.Stalled && !tr.counting {
		tr.counting = true
		f.Go(func() { f.remaining(t, tr, server, client.ObjectKeyFromObject(fo)) })
	}
	wait, err := f.write(t, tr, fo, log)
	if err != nil || wait > 0 && (s.After == 0 || wait < s.After) {
		return wait, err
	}
	return s.After, nil
}

// write applies the status if it is due, and else tells when it will be.
func (f *Follower) write(t *lead.Tenure, tr *track, fo *v1alpha1.Failover, log *slog.Logger) (time.Duration, error) {
	same, urgent := compare(tr.written, tr.status)
	if same {
		return 0, nil
	}
	now := f.Now()
	if wait := statusEvery - now.Sub(tr.at); !urgent && wait > 0 {
		return wait, nil
	}
	tr.at = now
	made, err := apply(t.Context, f.Client, fo, tr.status)
	if apierrors.IsNotFound(err) {
		return 0, nil // deleted: the informer says so soon
	}
	if err != nil {
		f.Retry.Count("failoverStatus")
		return 0, fmt.Errorf("writing the status of Failover %s/%s: %w", fo.Namespace, fo.Name, err)
	}
	before := Outcome(fo)
	tr.written = tr.status
	f.Ledger.Wrote(made)
	if !urgent {
		return 0, nil
	}
	if outcome := Outcome(made); outcome != before || Finished(made) {
		log.Info("Failover changed", "state", outcome, "moved", made.Status.Moved, "pending", made.Status.Pending, "lost", made.Status.Lost)
	}
	if Finished(made) {
		f.finished(t, made)
	}
	return 0, nil
}

// finished tells the world, and keeps the history short.
func (f *Follower) finished(t *lead.Tenure, fo *v1alpha1.Failover) {
	f.Metrics.ended(Outcome(fo))
	switch Outcome(fo) {
	case v1alpha1.ReasonMoved, v1alpha1.ReasonRecovered:
		succeeded(f.Recorder, fo)
	case v1alpha1.ReasonAdvised: // its creation has said it all
	default:
		failed(f.Recorder, fo)
	}
	if err := f.prune(t.Context, fo.Namespace, fo.Spec.Presence); err != nil && t.Context.Err() == nil {
		f.Retry.Count("pruneFailovers")
		f.Logger.Warn("Old Failovers stay a while longer", "namespace", fo.Namespace, "presence", fo.Spec.Presence, "err", err)
	}
}

// remaining counts the clients whom the store still holds on a server, when they
// have ceased to arrive elsewhere. Agents are not waited for: one may have lost its
// power together with the server.
func (f *Follower) remaining(t *lead.Tenure, tr *track, server string, key types.NamespacedName) {
	tr.mu.Lock()
	incarnation := tr.memory.Incarnation
	tr.mu.Unlock()
	n, err := 0, error(nil)
	for session, failure := range f.Store.SessionsOf(t.Context, server, incarnation) {
		if failure != nil {
			err = failure
			break
		}
		if session.Session == nil || session.Session.Incarnation != incarnation || session.Session.Offline ||
			evidence.ByAgent(f.Ledger.ours.Namespace, session.Key) {
			continue
		}
		n++
	}
	tr.mu.Lock()
	tr.counting = false
	if err == nil {
		tr.memory.Remaining = n
	}
	tr.mu.Unlock()
	if err != nil && !errors.Is(err, context.Canceled) {
		f.Retry.Count("countSessions")
		f.Logger.Warn("The sessions that remain could not be counted", "server", server, "err", err)
	}
	f.Kick(key)
}
