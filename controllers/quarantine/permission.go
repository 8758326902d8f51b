package quarantine

import (
	"context"
	"fmt"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/rollcall-dev/rollcall/controllers/lead"
)

// askAgain is how often it is asked whether nodes may be patched.
const askAgain = 30 * time.Second

// permission is whether this process may patch nodes, which not every
// installation is given. It is asked before a node is dead, so that a person
// learns of it in time.
type permission struct {
	mu      sync.Mutex
	asked   time.Time // and answered; zero: not yet, or in doubt
	known   bool
	allowed bool
}

func (p *permission) refused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known && !p.allowed
}

// doubt has it asked again soon.
func (p *permission) doubt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = time.Time{}
}

// permitted tells whether nodes may be patched, as far as it is known, and has it
// asked where the last answer is long ago. It returns at once.
func (w *Warden) permitted(t *lead.Tenure) bool {
	p := &w.may
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.Now().Sub(p.asked) >= askAgain {
		w.Once.Bring(t.Context, "mayTaint", "nodes", w.ask)
	}
	return p.known && p.allowed
}

func (w *Warden) ask(ctx context.Context) error {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "patch", Resource: "nodes"},
	}}
	if err := w.Client.Create(ctx, review); err != nil {
		return fmt.Errorf("asking whether nodes may be patched: %w", err)
	}
	p := &w.may
	p.mu.Lock()
	defer p.mu.Unlock()
	if (!p.known || p.allowed) && !review.Status.Allowed {
		w.Logger.Warn("Dead nodes can't be tainted: the right to patch nodes is missing")
	}
	p.asked, p.known, p.allowed = w.Now(), true, review.Status.Allowed
	return nil
}
