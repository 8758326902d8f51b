// Package kept has a leader keep in the store what its successors must find there
// even if no controller is left to remember it: who stands in for observers,
// what is due to servers that were let in again, and the penalties of those that
// fail too often. What it wants follows from the judgement; it decides nothing.
// All of it is bounded by the number of servers, and written only when it changes.
package kept

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/controllers/lead"
	"github.com/rollcall-dev/rollcall/controllers/retry"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// patience is how long agents must have been too few before others stand in: an
// installation that starts, or a node that restarts, soon has them.
const patience = 5 * time.Second

// operation is what its calls are counted as.
const operation = "keep"

// Keeper keeps it. Every exported field is needed. Keep is called from one goroutine.
type Keeper struct {
	Book   *evidence.Book
	Once   *retry.Once
	Logger *slog.Logger

	// few is since when too few agents could observe a server, in this term.
	few  map[string]time.Time
	term int64
}

// Keep compares what is kept with what should be, and brings about what differs. It
// returns at once. Only the leader may call it.
func (k *Keeper) Keep(t *lead.Tenure, r *judge.Result) {
	if !r.World.Warm {
		return
	}
	if k.few == nil || k.term != t.Term() {
		k.few, k.term = map[string]time.Time{}, t.Term()
	}
	k.assignments(t, r)
	k.due(t, r)
	k.penalties(t, r)
}

// assignments has others observe the servers that too few agents can.
func (k *Keeper) assignments(t *lead.Tenure, r *judge.Result) {
	standing := k.Book.Assignments()
	for server := range k.few {
		if _, few := r.Assignments[server]; !few {
			delete(k.few, server)
		}
	}
	for server, wanted := range r.Assignments {
		if _, waits := k.few[server]; !waits {
			k.few[server] = r.World.Now
		}
		now, stands := standing[server]
		switch {
		case stands && now.Term == t.Term() && same(now, wanted):
		case !stands && (len(wanted.StandIns) == 0 || r.World.Now.Sub(k.few[server]) < patience):
		default:
			k.bring(t, fmt.Sprintf("%s observed by %v at %s %d %d", server, wanted.StandIns, wanted.Address, wanted.AnswerTime, wanted.Window), func(ctx context.Context) error {
				return t.PutAssignment(ctx, server, wanted)
			}, func() {
				k.Logger.Info("Others observe a server that too few agents can", "server", server, "standIns", names(wanted))
			})
		}
	}
	for server := range standing {
		if _, few := r.Assignments[server]; !few {
			k.bring(t, server+" observed by agents", func(ctx context.Context) error {
				return t.DeleteAssignment(ctx, server)
			}, func() { k.Logger.Info("Agents observe a server again", "server", server) })
		}
	}
}

func same(a, b store.Assignment) bool {
	return a.Address == b.Address && a.AnswerTime == b.AnswerTime && a.Window == b.Window && slices.Equal(a.StandIns, b.StandIns)
}

func names(a store.Assignment) string {
	all := make([]string, 0, len(a.StandIns))
	for _, s := range a.StandIns {
		all = append(all, s.Name)
	}
	return strings.Join(all, ", ")
}

// due forgets what has been sent back, or will not be.
func (k *Keeper) due(t *lead.Tenure, r *judge.Result) {
	paid := map[string]bool{}
	for _, p := range r.Populations {
		for _, server := range p.Paid {
			paid[server] = true
		}
	}
	for server := range k.Book.Due() {
		if _, exists := r.Pod(server); exists && !paid[server] {
			continue
		}
		k.bring(t, server+" nothing due", func(ctx context.Context) error { return t.DeleteDue(ctx, server) }, nil)
	}
}

// penalties remembers how often servers have failed.
func (k *Keeper) penalties(t *lead.Tenure, r *judge.Result) {
	standing := k.Book.Penalties()
	for _, p := range r.Populations {
		if p.Subject != v1alpha1.SubjectServers {
			continue
		}
		for server, v := range p.Judgement.Verdicts {
			now, stands := standing[server]
			if v.Spent(r.World.Now) || stands && now.At.Equal(v.PenaltyAt) && now.Suppressed.Equal(v.Suppressed) {
				continue
			}
			wanted := store.Penalty{Incarnation: v.Incarnation, Sum: v.Penalty, At: v.PenaltyAt, Suppressed: v.Suppressed}
			k.bring(t, fmt.Sprintf("%s failed %d %d", server, v.PenaltyAt.UnixNano(), v.Suppressed.UnixNano()), func(ctx context.Context) error {
				return t.PutPenalty(ctx, server, wanted)
			}, nil)
		}
	}
	for server := range standing {
		if _, exists := r.Pod(server); exists && !spent(r, server) {
			continue
		}
		k.bring(t, server+" never failed", func(ctx context.Context) error { return t.DeletePenalty(ctx, server) }, nil)
	}
}

// spent tells whether nothing is left of a server's penalty.
func spent(r *judge.Result, server string) bool {
	for _, p := range r.Populations {
		if v, ok := p.Judgement.Verdicts[server]; ok && p.Subject == v1alpha1.SubjectServers {
			return v.Spent(r.World.Now)
		}
	}
	return false // its Presence is not honoured at present
}

func (k *Keeper) bring(t *lead.Tenure, about string, do func(context.Context) error, done func()) {
	k.Once.Bring(t.Context, operation, about, func(ctx context.Context) error {
		err := do(ctx)
		if err == nil && done != nil {
			done()
		}
		return err
	})
}
