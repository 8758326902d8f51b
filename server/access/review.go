package access

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"

	"github.com/rollcall-dev/rollcall/server"
)

// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

const (
	// reviewEvery is the pace of reviews: a question of each right.
	reviewEvery = 200 * time.Millisecond
	// reviewAgain is how long an answer counts before it is asked for anew.
	reviewAgain = 10 * time.Minute
	// reviewSettles is how long a difference may be just that one of the two has
	// not heard of a change yet.
	reviewSettles = 2 * time.Second
	// maxReviews bounds what is known; whoever comes beyond it is not reviewed.
	maxReviews = 1 << 14
)

// Outcomes of a review: a label.
const (
	reviewSame      = "same"
	reviewDifferent = "different"
	reviewFailed    = "failed"
)

// ask asks the API server whether a subject has a right.
type ask func(ctx context.Context, q question, verb string) (bool, error)

// reviews compare, in the background, what is held here of somebody's rights
// with what the API server holds. It knows more: other authorisers than RBAC, and
// what a fault here might make of it.
type reviews struct {
	ask     ask
	local   func(question) server.Rights
	now     func() time.Time
	log     *slog.Logger
	metrics *metrics
	queue   workqueue.TypedRateLimitingInterface[question]

	mu    sync.Mutex
	known map[question]*review
}

type review struct {
	// local is what was held here when the API server said remote; at when that
	// was, zero: never.
	local, remote server.Rights
	at            time.Time
	// doubted: they differed, and it is asked again.
	doubted bool
	used    time.Time
	queued  bool
}

func newReviews(ask ask, local func(question) server.Rights, a *Access) *reviews {
	return &reviews{
		ask: ask, local: local, now: a.cfg.Now, log: a.cfg.Logger, metrics: a.metrics,
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[question](time.Second, time.Minute)),
		known: map[question]*review{},
	}
}

// correct is what counts, where local is held here: the API server's answer,
// if it was given on the same grounds. It never waits.
func (r *reviews) correct(q question, local server.Rights) server.Rights {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	v := r.known[q]
	if v == nil {
		if len(r.known) >= maxReviews && !r.prune(now) {
			return local
		}
		v = &review{}
		r.known[q] = v
	}
	v.used = now
	if v.at.IsZero() || v.local != local || now.Sub(v.at) >= reviewAgain {
		if !v.queued {
			v.queued = true
			r.queue.Add(q)
		}
	}
	if v.at.IsZero() || v.local != local {
		return local
	}
	return v.remote
}

// prune forgets those that nobody has asked about for long.
func (r *reviews) prune(now time.Time) bool {
	for q, v := range r.known {
		if !v.queued && now.Sub(v.used) >= reviewAgain {
			delete(r.known, q)
		}
	}
	return len(r.known) < maxReviews
}

// run asks until the context ends.
func (r *reviews) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, r.queue.ShutDown)
	defer stop()
	pace := time.NewTicker(reviewEvery)
	defer pace.Stop()
	for {
		q, end := r.queue.Get()
		if end {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-pace.C:
			r.next(ctx, q)
		}
		r.queue.Done(q)
	}
}

func (r *reviews) next(ctx context.Context, q question) {
	local := r.local(q)
	remote, err := r.fetch(ctx, q)
	if err != nil {
		if ctx.Err() == nil {
			r.metrics.reviews.WithLabelValues(reviewFailed).Inc()
			r.log.Debug("Rights could not be reviewed, will try again", "user", q.subject.Value().user, "error", err)
			r.queue.AddRateLimited(q)
		}
		return
	}
	r.queue.Forget(q)
	if !r.settle(q, local, remote) {
		r.queue.AddAfter(q, reviewSettles)
	}
}

// settle takes an answer; it is false where it must be asked for again, because
// they differ for the first time or what is held here has changed meanwhile.
func (r *reviews) settle(q question, local, remote server.Rights) bool {
	after := r.local(q)
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.known[q]
	if v == nil {
		return true
	}
	standing := !v.at.IsZero() && v.local == local && v.remote == remote
	if after != local || local != remote && !v.doubted && !standing {
		v.doubted = true
		return false
	}
	if local != remote {
		r.metrics.reviews.WithLabelValues(reviewDifferent).Inc()
		if !standing {
			r.log.Warn("The API server holds something else of somebody's rights, and its word counts",
				"user", q.subject.Value().user, "presence", q.namespace+"/"+q.presence, "here", describe(local), "there", describe(remote))
		}
	} else {
		r.metrics.reviews.WithLabelValues(reviewSame).Inc()
	}
	v.local, v.remote, v.at, v.doubted, v.queued = local, remote, r.now(), false, false
	return true
}

func (r *reviews) fetch(ctx context.Context, q question) (server.Rights, error) {
	var rights server.Rights
	for _, v := range verbs {
		allowed, err := r.ask(ctx, q, v.name)
		if err != nil {
			return 0, err
		}
		if allowed {
			rights |= v.right
		}
	}
	return rights, nil
}

// reviewWithin bounds a question to the API server.
const reviewWithin = 5 * time.Second

// askAPI asks by SubjectAccessReview.
func askAPI(config *rest.Config) (ask, error) {
	client, err := authorizationclient.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, q question, verb string) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, reviewWithin)
		defer cancel()
		s := q.subject.Value()
		answer, err := client.SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User: s.user, Groups: s.groupList(),
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: q.namespace, Verb: verb, Group: group, Version: "v1alpha1",
					Resource: resource, Subresource: subresource, Name: q.presence,
				},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			return false, err
		}
		if !answer.Status.Allowed && answer.Status.EvaluationError != "" {
			return false, errors.New(answer.Status.EvaluationError)
		}
		return answer.Status.Allowed, nil
	}, nil
}
