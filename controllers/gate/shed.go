package gate

import (
	"context"

	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/controllers/lead"
	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// shed has servers without headroom elsewhere turn newcomers away, and the
// others cease to. Nobody is moved by that, so no Failover records it: the
// condition Frozen says NoHeadroom meanwhile.
func (g *Gate) shed(t *lead.Tenure, r *judge.Result, directives map[string]store.Directive) {
	wanted := map[string]plan.Shed{}
	for _, pop := range r.Populations {
		for _, s := range pop.Decision.Shed {
			wanted[s.Server] = s
		}
	}
	for server, s := range wanted {
		d, stands := directives[server]
		want := store.Directive{Incarnation: s.Incarnation, Refuse: true, RetryAfter: int(s.RetryAfter.Milliseconds())}
		if stands && (!d.Refuse || d.Incarnation == want.Incarnation && d.RetryAfter == want.RetryAfter) {
			continue
		}
		g.Once.Bring(t.Context, "putDirective", server+" sheds "+s.Incarnation, func(ctx context.Context) error {
			if err := t.PutDirective(ctx, server, want); err != nil {
				return err
			}
			g.Logger.Info("Newcomers are turned away", "server", server, "because", s.Why)
			return nil
		})
	}
	for server, d := range directives {
		if _, want := wanted[server]; d.Refuse && !want {
			g.withdraw(t, server, "", "newcomers are welcome again")
		}
	}
}
