package sever

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/sockets"
)

const (
	// tick and jitter: connections are ended a few at a time, this far apart and
	// up to jitter more.
	tick, jitter = 50 * time.Millisecond, 100 * time.Millisecond
	// listEvery is the shortest time between two listings, listAnew the longest
	// that one is worked off.
	listEvery, listAnew = 100 * time.Millisecond, time.Second
	// lookAgain is how often it is made sure that the pod is still the one that
	// is meant, and that nobody is led to it; waitAgain how soon where that is
	// only being waited for.
	lookAgain, waitAgain = time.Second, 200 * time.Millisecond
	// refusedAgain is how soon what the kernel has refused is tried again.
	refusedAgain = 10 * time.Second
	// sampleMost bounds the connections that are held between two listings.
	sampleMost = 20000
	// within bounds one look at the cluster.
	within = 5 * time.Second
)

// errOver is why a job ends whose Failover asks no more; another may go on with one
// that ends because the severer does.
var errOver = errors.New("the Failover is over")

// refusal is why nothing is done, with one of the API's reasons of Severing.
type refusal struct{ reason, message string }

func (r refusal) Error() string { return r.message }

// saying is the condition Severing.
type saying struct {
	status          metav1.ConditionStatus
	reason, message string
}

// job is one Failover's.
type job struct {
	s    *Severer
	log  *slog.Logger
	uid  types.UID
	stop func()
	wake chan struct{} // cap 1

	mu    sync.Mutex
	fo    *v1alpha1.Failover
	order *v1alpha1.SeverOrder
	lease lease

	// The rest is the loop's alone.

	asked    bool // it ever was, in this process or before
	pace     pace
	target   target
	lookedAt time.Time
	ns       namespace
	found    sample[sockets.Socket]
	listedAt time.Time
	hold     time.Time // nothing is tried before that
	reporter reporter
}

// newJob begins to work on a Failover. The caller holds s.mu.
func (s *Severer) newJob(fo *v1alpha1.Failover) *job {
	ctx, cancel := context.WithCancelCause(s.ctx)
	j := &job{
		s: s, uid: fo.UID, stop: func() { cancel(errOver) }, wake: make(chan struct{}, 1), fo: fo, asked: s.unfinished(fo),
		log:      s.cfg.Logger.With("failover", fo.Namespace+"/"+fo.Name, "server", fo.Namespace+"/"+fo.Spec.Server),
		reporter: newReporter(s.cluster, s.cfg.Node, fo),
	}
	if d := fo.Status.Severed; d != nil && d.Node == s.cfg.Node {
		j.reporter.now.Severed = *d.DeepCopy()
		j.pace.begun = d.Connections > 0 // the first wave has been
	}
	s.metrics.active.Inc()
	s.wg.Go(func() {
		defer s.metrics.active.Dec()
		j.run(ctx)
	})
	return j
}

// follow takes what the Failover asks now.
func (j *job) follow(fo *v1alpha1.Failover, order *v1alpha1.SeverOrder, now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fo, j.order = fo, order
	if order == nil {
		j.lease.saw(nil, now)
	} else {
		j.lease.saw(&order.RenewedAt, now)
	}
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends, and says so then where that is for good.
func (j *job) run(ctx context.Context) {
	var reports sync.WaitGroup
	reports.Go(func() { j.reporter.run(ctx, j.log) })
	for ctx.Err() == nil {
		timer := time.NewTimer(j.step(ctx, time.Now()))
		select {
		case <-ctx.Done():
		case <-j.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	j.leave()
	reports.Wait()
	j.mu.Lock()
	fo := j.fo
	j.mu.Unlock()
	over := errors.Is(context.Cause(ctx), errOver)
	if n := int(j.reporter.finish(context.WithoutCancel(ctx), j.asked, over, j.log)); n > 0 && over {
		j.log.Info("Severing ended", "connections", n)
		j.s.cluster.ended(fo, n)
	}
}

// leave forgets the pod's network namespace, so that it can end with the pod.
func (j *job) leave() {
	if j.ns != nil {
		_ = j.ns.Close() // nothing was written
	}
	j.ns, j.found, j.lookedAt, j.listedAt = nil, sample[sockets.Socket]{}, time.Time{}, time.Time{}
}

// step does what is due, and tells when to take the next one.
func (j *job) step(ctx context.Context, now time.Time) time.Duration {
	j.mu.Lock()
	fo, order, good := j.fo, j.order, j.lease.good(now)
	j.mu.Unlock()
	if order == nil || !good {
		if j.asked {
			j.reporter.say(saying{metav1.ConditionFalse, v1alpha1.ReasonSeveringEnded, "It is not asked for any more."})
		}
		j.leave()
		return lookAgain
	}
	if !j.asked {
		j.log.Info("Severing is asked for", "pod", order.PodUID, "port", order.Port.String(),
			"clientsPerSecond", order.ClientsPerSecond, "firstWave", order.FirstWave)
	}
	j.asked = true
	if wait := j.hold.Sub(now); wait > 0 {
		return wait
	}
	switch looked, err := j.look(ctx, fo, order, now); {
	case err != nil:
		return j.refused(ctx, err, now)
	case looked: // which may have taken a while: is it still asked for?
		return 0
	}
	if err := j.list(ctx, order, now); err != nil {
		return j.refused(ctx, err, now)
	}
	if err := j.end(ctx, order, now); err != nil {
		return j.refused(ctx, err, now)
	}
	return tick + rand.N(jitter)
}

// look makes sure that the pod is still the one, and enters its namespace, unless
// it has just done so; it tells whether it has now.
func (j *job) look(ctx context.Context, fo *v1alpha1.Failover, order *v1alpha1.SeverOrder, now time.Time) (bool, error) {
	if !j.lookedAt.IsZero() && now.Sub(j.lookedAt) < lookAgain {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	t, err := j.s.cluster.target(ctx, types.NamespacedName{Namespace: fo.Namespace, Name: fo.Spec.Server}, order)
	if err != nil {
		return false, err
	}
	if j.ns != nil && !slices.Equal(t.addresses, j.target.addresses) {
		j.leave() // its sandbox was made anew, and the network namespace with it
	}
	if j.ns == nil {
		ns, err := j.s.enter(ctx, t.addresses)
		if err != nil {
			return false, err
		}
		j.ns = ns
	}
	j.target, j.lookedAt = t, time.Now() // later than now, or one that takes long would never be used
	return true, nil
}

// list finds who is connected, where what was found is worked off or old.
func (j *job) list(ctx context.Context, order *v1alpha1.SeverOrder, now time.Time) error {
	if age := now.Sub(j.listedAt); !j.listedAt.IsZero() && (age < listEvery || age < listAnew && len(j.found.kept) > 0) {
		return nil
	}
	size := int(order.ClientsPerSecond) + 1
	if !j.pace.begun {
		size += int(order.FirstWave)
	}
	j.found = sample[sockets.Socket]{size: min(size, sampleMost)}
	spared := 0
	err := j.ns.List(ctx, sockets.Query{Port: j.target.port}, func(s sockets.Socket) error {
		switch {
		case !j.target.client(s):
		case j.target.spared[s.Remote.Addr().WithZone("")]:
			spared++
		default:
			j.found.show(s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	j.listedAt = now
	j.reporter.count(func(d *v1alpha1.Severed) {
		d.Port, d.Remaining = int32(j.target.port), int32(j.found.seen)
	})
	// It is said once: how many observers are connected changes all the time.
	if j.found.seen == 0 && !j.reporter.says(v1alpha1.ReasonNoneLeft) {
		j.reporter.say(saying{metav1.ConditionFalse, v1alpha1.ReasonNoneLeft, noneLeft(j.target.port, spared)})
	}
	return nil
}

// noneLeft says so in words. Clients may come from an observer's address, where that
// is its node's: they are not passed over in silence.
func noneLeft(port uint16, spared int) string {
	if spared == 0 {
		return fmt.Sprintf("There is no client connection to port %d.", port)
	}
	return fmt.Sprintf("There is no client connection to port %d but for %d from addresses of observers, which are spared.", port, spared)
}

// client tells whether a connection is not one of the pod with itself: a client's,
// or an observer's.
func (t *target) client(s sockets.Socket) bool {
	remote := s.Remote.Addr().WithZone("")
	if s.State != sockets.Established || s.Local.Port() != t.port ||
		remote.IsLoopback() || s.Local.Addr().IsLoopback() || remote == s.Local.Addr().WithZone("") {
		return false
	}
	for _, own := range t.addresses {
		if remote == own {
			return false
		}
	}
	return true
}

// end ends as many as the pace allows.
func (j *job) end(ctx context.Context, order *v1alpha1.SeverOrder, now time.Time) error {
	if len(j.found.kept) == 0 {
		return nil
	}
	ended := 0
	defer func() {
		j.pace.take(ended)
		if ended == 0 {
			return
		}
		j.s.metrics.connections.Add(float64(ended))
		at := metav1.NewMicroTime(now)
		j.reporter.count(func(d *v1alpha1.Severed) {
			d.Connections += int32(ended)
			d.Remaining = max(0, d.Remaining-int32(ended))
			d.LastAt = &at
			if d.FirstAt == nil {
				d.FirstAt = &at
			}
		})
		j.reporter.say(saying{metav1.ConditionTrue, v1alpha1.ReasonSevering,
			fmt.Sprintf("Client connections to port %d are being ended.", j.target.port)})
	}()
	for due := j.pace.due(now, float64(order.ClientsPerSecond), int(order.FirstWave)); ended < due && len(j.found.kept) > 0; {
		last := len(j.found.kept) - 1
		s := j.found.kept[last]
		j.found.kept = j.found.kept[:last]
		err := j.ns.Destroy(ctx, s)
		switch {
		case err == nil:
			ended++
		case !errors.Is(err, sockets.ErrGone):
			return err
		}
	}
	return nil
}

// refused says why nothing is done, and tells when to try again.
func (j *job) refused(ctx context.Context, err error, now time.Time) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	var r refusal
	wait := lookAgain
	switch {
	case errors.As(err, &r):
		if r.reason == v1alpha1.ReasonNotDiverted {
			wait = waitAgain
		}
	case errors.Is(err, sockets.ErrNoNamespace), errors.Is(err, sockets.ErrAmbiguous):
		r = refusal{v1alpha1.ReasonNoNamespace, err.Error()}
	case errors.Is(err, sockets.ErrNotPermitted):
		r, wait = refusal{v1alpha1.ReasonNotPermitted, err.Error()}, refusedAgain
	case errors.Is(err, sockets.ErrUnsupported):
		r, wait = refusal{v1alpha1.ReasonNotSupported, err.Error()}, refusedAgain
	default:
		r = refusal{v1alpha1.ReasonSeveringFailed, err.Error()}
	}
	if j.reporter.say(saying{metav1.ConditionFalse, r.reason, r.message}) {
		j.s.metrics.refused(r.reason)
		j.log.Warn("Nothing is severed", "reason", r.reason, "err", err)
	}
	j.leave()
	j.hold = now.Add(wait)
	return wait
}
