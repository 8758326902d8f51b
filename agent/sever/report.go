package sever

import (
	"context"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

const (
	// reportEvery is the shortest time between two writes of a Failover's status.
	reportEvery = 500 * time.Millisecond
	// reportWithin bounds one of them, and the last one as a whole.
	reportWithin = 5 * time.Second
)

// state is what is said of one Failover.
type state struct {
	v1alpha1.Severed
	saying
}

// reporter writes what a job has done, apart from the job: the API server may be
// slow, and the pace must not be.
type reporter struct {
	cluster cluster
	fo      *v1alpha1.Failover
	dirty   chan struct{} // cap 1

	mu  *sync.Mutex
	now state
}

func newReporter(c cluster, node string, fo *v1alpha1.Failover) reporter {
	return reporter{
		cluster: c, fo: fo, dirty: make(chan struct{}, 1), mu: &sync.Mutex{},
		now: state{Severed: v1alpha1.Severed{Node: node}},
	}
}

// say sets the condition, and tells whether that is news.
func (r *reporter) say(s saying) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	news := r.now.reason != s.reason
	if r.now.saying != s {
		r.now.saying = s
		r.touch()
	}
	return news
}

// says tells whether a reason is what is being said.
func (r *reporter) says(reason string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now.reason == reason
}

// count changes the numbers.
func (r *reporter) count(change func(*v1alpha1.Severed)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.now.Severed
	change(&r.now.Severed)
	if was != r.now.Severed {
		r.touch()
	}
}

func (r *reporter) touch() {
	select {
	case r.dirty <- struct{}{}:
	default:
	}
}

// run writes what has changed until ctx ends.
func (r *reporter) run(ctx context.Context, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.dirty:
		}
		if err := r.write(ctx); err != nil && ctx.Err() == nil {
			log.Warn("What was severed could not be reported, and is tried again", "err", err)
			r.touch()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(reportEvery):
		}
	}
}

// write says it once. A Failover that is gone wants to hear nothing.
func (r *reporter) write(ctx context.Context) error {
	r.mu.Lock()
	now := r.now
	r.mu.Unlock()
	if now.reason == "" {
		return nil // nothing has been said of the condition yet
	}
	ctx, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	err := r.cluster.report(ctx, r.fo, now.Severed, now.saying)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // deleted, or another of its name
	}
	return err
}

// finish says the last word, where severing was ever asked for, and returns how
// many were ended in all. Where it is not over, another goes on from what it says.
func (r *reporter) finish(ctx context.Context, asked, over bool, log *slog.Logger) int32 {
	r.mu.Lock()
	if over && (r.now.reason == "" || r.now.status == metav1.ConditionTrue || r.now.reason == v1alpha1.ReasonNoneLeft) {
		r.now.saying = saying{metav1.ConditionFalse, v1alpha1.ReasonSeveringEnded, "It is not asked for any more."}
	}
	n := r.now.Connections
	r.mu.Unlock()
	if !asked {
		return 0
	}
	if err := r.write(ctx); err != nil {
		log.Warn("What was severed could not be reported", "err", err, "connections", n)
	}
	return n
}
