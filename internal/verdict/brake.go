package verdict

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Or is frozen where either is. What a plan for servers gets is the brake of
// the servers or that of the nodes: a zone that is lost shows in both.
func (b Brake) Or(other Brake) Brake {
	if b.Frozen || !other.Frozen {
		b.Since = latest(b.Since, other.Since)
		return b
	}
	return other
}

// storeTrusted tells whether the absence of a record means anything: not while
// the store is away, nor until it has been back for long enough that its owner
// would have renewed it.
func (w World) storeTrusted() bool {
	return w.StoreAway < StoreAwayLimit && (w.StoreBack.IsZero() || !w.Now.Before(w.StoreBack.Add(StoreAwayLimit)))
}

// nextFooting is when time alone changes what storeTrusted says; zero: never.
func (w World) nextFooting() time.Time {
	switch {
	case w.StoreAway > 0 && w.StoreAway < StoreAwayLimit:
		return w.Now.Add(StoreAwayLimit - w.StoreAway)
	case w.StoreAway == 0 && !w.storeTrusted():
		return w.StoreBack.Add(StoreAwayLimit)
	}
	return time.Time{}
}

// census counts one population for its brake.
type census struct {
	what                 string // "servers"
	total, lost, healthy int
	names                []string // of the lost
	minHealthy           int      // 0: no bound
}

func (c *census) lose(name string) {
	c.lost++
	c.names = append(c.names, name)
}

// cause is why so many losses forbid action; empty: they don't.
func (c *census) cause() (reason, message string) {
	switch {
	case c.lost > 1 && c.lost*100 > LostShare*c.total:
		slices.Sort(c.names)
		names := c.names
		if len(names) > 5 {
			names = append(slices.Clone(names[:5]), "…")
		}
		return BrakeTooManyLost, fmt.Sprintf("%d of %d %s are lost (%s), and at most %d may be: nothing is done",
			c.lost, c.total, c.what, strings.Join(names, ", "), max(1, LostShare*c.total/100))
	case c.total > 0 && c.healthy < c.minHealthy:
		return BrakeTooFewHealthy, fmt.Sprintf("%d of %d %s are healthy, and at least %d must be: nothing is done",
			c.healthy, c.total, c.what, c.minHealthy)
	}
	return "", ""
}

// brake decides whether anything may be done, and returns when time alone may
// change that. A judge that is in doubt of its own footing does not count
// losses: it would only remember its own blindness.
func (w World) brake(prev Brake, c *census) (Brake, time.Time) {
	b := Brake{Lasting: prev.Lasting, Clear: prev.Clear, Settled: prev.Settled, Since: prev.Since}
	var lasting string
	if w.Warm && w.storeTrusted() {
		lasting = b.last(w.Now, c)
	}
	switch {
	case w.Paused:
		b.Reason, b.Message = BrakePaused, "Paused by a person: nothing is done"
	case w.StoreAway >= StoreAwayLimit:
		b.Reason, b.Message = BrakeStoreAway, fmt.Sprintf("etcd has not answered for %v or more: nothing is done", StoreAwayLimit)
	case !w.storeTrusted():
		b.Reason, b.Message = BrakeStoreAway, fmt.Sprintf("etcd has been back for less than %v: nothing is done", StoreAwayLimit)
	case !w.Warm:
		b.Reason, b.Message = BrakeWarmingUp, "This leader has not yet seen enough to judge by: nothing is done"
	case b.Lasting != "":
		b.Reason, b.Message = b.Lasting, lasting
	}
	b.Frozen = b.Reason != ""
	if b.Frozen != prev.Frozen {
		b.Since = w.Now
	}
	next := w.nextFooting()
	if thaw := b.Clear.Add(ThawAfter); !b.Clear.IsZero() && thaw.After(w.Now) {
		next = earliest(next, thaw)
	}
	return b, next
}

// last carries the causes that outlive themselves, and words the one that holds.
func (b *Brake) last(now time.Time, c *census) string {
	reason, message := c.cause()
	first := !b.Settled // too few so far were only not known yet: nothing was lost
	b.Settled = b.Settled || reason == "" || c.lost > 0
	switch {
	case reason != "":
		b.Lasting, b.Clear = reason, time.Time{}
		return message
	case b.Lasting == "":
		return ""
	case first && b.Lasting == BrakeTooFewHealthy:
		b.Lasting = ""
		return ""
	case b.Clear.IsZero():
		b.Clear = now
	case !now.Before(b.Clear.Add(ThawAfter)):
		b.Lasting, b.Clear = "", time.Time{}
		return ""
	}
	return fmt.Sprintf("That is over (%s), and must have been for %v before anything is done again", b.Lasting, ThawAfter)
}
