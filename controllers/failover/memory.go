package failover

import (
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// Recall rebuilds what a leader must remember of a Failover from the object
// and the store, for one that an earlier leader, or a person, has begun.
func Recall(fo *v1alpha1.Failover, f Facts) Memory {
	m := Memory{Incarnation: fo.Spec.Incarnation, Clients: int(fo.Spec.Clients), Remaining: -1}
	own := f.directs(fo)
	if m.Incarnation == "" {
		m.Incarnation = f.Server.Record.Incarnation
		// What stands before it has begun may have been left by another of its name.
		if own && (Begun(fo) || !f.Server.Known) {
			m.Incarnation = f.Directive.Incarnation
		}
	}
	status, taken := fo.Status, f.TakenOver(m.Incarnation)
	switch {
	case automatic(fo) || fo.Spec.Clients > 0:
		m.Base = scale(taken, int(fo.Spec.TakenOver))
	case Begun(fo):
		// A person's: what it expected at first is what it has counted since.
		m.Clients = int(status.Moved + status.Pending + status.Lost)
		m.Base = scale(taken, max(0, taken.Total()-int(status.Moved)))
	default:
		m.Clients = f.Server.Record.Total()
		m.Base = taken
	}
	if fo.Spec.Count != nil && (m.Clients == 0 || int(*fo.Spec.Count) < m.Clients) {
		m.Clients = int(*fo.Spec.Count)
	}
	m.Ended = -1
	m.baseline(f)
	m.Lost = int(status.Lost)
	if Begun(fo) {
		m.Put, m.Began = f.Now, f.Now
		if own {
			m.slow(f.Directive.Rate)
		}
	}
	return m
}

// baseline begins to count who goes offline on the server, if it has not begun
// yet, from what the incarnation's record says.
func (m *Memory) baseline(f Facts) {
	if m.Ended < 0 && f.Server.Known && f.Server.Record.Incarnation == m.Incarnation {
		m.Ended = f.Server.Record.Ended
	}
}

// scale gives a baseline of n takeovers the same parts as all that are known:
// the object holds only their number.
func scale(t store.Takeovers, n int) store.Takeovers {
	total := t.Total()
	if n >= total {
		return t
	}
	b := store.Takeovers{Directive: t.Directive * n / total, Late: t.Late * n / total, Broken: t.Broken * n / total, Severed: t.Severed * n / total}
	// What rounding left over belongs to whichever part still has room.
	for _, part := range []struct {
		of *int
		up int
	}{{&b.Severed, t.Severed}, {&b.Directive, t.Directive}, {&b.Late, t.Late}, {&b.Broken, t.Broken}} {
		*part.of += min(n-b.Total(), part.up-*part.of)
	}
	return b
}
