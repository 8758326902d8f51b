// Package permission asks the API server whether this process may do what not every
// installation lets it, before it is needed, so that a person learns of it in time.
package permission

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/controllers/retry"
)

// askAgain is how often it is asked.
const askAgain = 30 * time.Second

// Right is one that this process may have. Nothing is known of the zero value.
type Right struct {
	mu      sync.Mutex
	asked   time.Time // and answered; zero: not yet, or in doubt
	known   bool
	allowed bool
}

// Question is what is asked about a Right. Every field but Subresource is needed.
type Question struct {
	Verb, Resource, Subresource string
	// Operation is its name for Once, and Remedy how the right is given, for the log.
	Operation, Remedy string
	Client            client.Client
	Once              *retry.Once
	Logger            *slog.Logger
	Now               func() time.Time
}

// Refused tells whether the API server has said no.
func (r *Right) Refused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known && !r.allowed
}

// Doubt has it asked again soon.
func (r *Right) Doubt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = time.Time{}
}

// Granted tells whether the API server has said yes, and has it asked where the last
// answer is long ago. It returns at once.
func (r *Right) Granted(ctx context.Context, q Question) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q.Now().Sub(r.asked) >= askAgain {
		q.Once.Bring(ctx, q.Operation, q.Resource, func(ctx context.Context) error { return r.ask(ctx, q) })
	}
	return r.known && r.allowed
}

func (r *Right) ask(ctx context.Context, q Question) error {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: q.Verb, Resource: q.Resource, Subresource: q.Subresource},
	}}
	if err := q.Client.Create(ctx, review); err != nil {
		return fmt.Errorf("asking for the right to %s %s: %w", q.Verb, strings.TrimSuffix(q.Resource+"/"+q.Subresource, "/"), err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if (!r.known || r.allowed) && !review.Status.Allowed {
		q.Logger.Warn("A right is missing that a Presence asks for", "verb", q.Verb, "resource", q.Resource, "subresource", q.Subresource, "remedy", q.Remedy)
	}
	r.asked, r.known, r.allowed = q.Now(), true, review.Status.Allowed
	return nil
}
