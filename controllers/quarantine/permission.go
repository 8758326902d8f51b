package quarantine

import (
	"context"
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
	asked   time.Time
	asking  bool
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
// asked where that is long ago. It returns at once.
func (w *Warden) permitted(t *lead.Tenure) bool {
	p := &w.may
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asking && w.Now().Sub(p.asked) >= askAgain {
		p.asking, p.asked = true, w.Now()
		w.Go(func() { w.ask(t) })
	}
	return p.known && p.allowed
}

func (w *Warden) ask(t *lead.Tenure) {
	ctx, cancel := context.WithTimeout(t.Context, within)
	defer cancel()
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "patch", Resource: "nodes"},
	}}
	err := w.Client.Create(ctx, review)
	p := &w.may
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking = false
	if err != nil {
		if t.Context.Err() == nil {
			w.Logger.Warn("Whether nodes may be patched could not be asked, and is again", "err", err)
		}
		return
	}
	if (!p.known || p.allowed) && !review.Status.Allowed {
		w.Logger.Warn("Dead nodes can't be tainted: the right to patch nodes is missing")
	}
	changed := !p.known || p.allowed != review.Status.Allowed
	p.known, p.allowed = true, review.Status.Allowed
	if changed {
		w.Touch()
	}
}
