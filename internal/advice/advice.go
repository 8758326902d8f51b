// Package advice tells which intervals a network survives, from what clients
// report of theirs. It is pure.
package advice

import "time"

// steps are the intervals that are told apart; each stands for itself
// and what lies between it and the next.
var steps = [...]time.Duration{
	30 * time.Second, time.Minute, 90 * time.Second, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 270 * time.Second,
	5 * time.Minute, 6 * time.Minute, 8 * time.Minute, 10 * time.Minute, 15 * time.Minute, 20 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour,
}

const (
	// enough is how many silences must have been reported at a step before it
	// counts: of 200, one in a hundred lost is two.
	enough = 200
	// remembered is how many are kept of a step, at most. Beyond, both counts are
	// halved, so that what was long ago weighs less and less.
	remembered = 4096
	// A step is good where at most 1 in raise was lost; one that was good stays so
	// while at most 1 in keep was, so that chance does not change the advice.
	raise, keep = 100, 50
)

// Tally is what was reported of one network. The zero Tally is empty.
type Tally struct {
	counts [len(steps)]count
}

type count struct{ survived, lost int }

func (c count) total() int { return c.survived + c.lost }

// Step is the longest step that is no longer than a silence; 0: there is none.
func Step(silence time.Duration) time.Duration {
	for i := len(steps) - 1; i >= 0; i-- {
		if silence >= steps[i] {
			return steps[i]
		}
	}
	return 0
}

// Add counts silences of about a length: those that a connection survived, and those
// after which it was lost. Shorter ones than the shortest step are not counted.
func (t *Tally) Add(silence time.Duration, survived, lost int) {
	at := -1
	for i, s := range steps {
		if silence >= s {
			at = i
		}
	}
	if at < 0 || survived < 0 || lost < 0 {
		return
	}
	c := &t.counts[at]
	c.survived += survived
	c.lost += lost
	for c.total() > remembered {
		c.survived /= 2
		c.lost /= 2
	}
}

// Max is the longest interval that nearly every connection survives; 0: too little is
// known. last is what it was before.
//
// What survives a silence survives a shorter one, so a step that is not good
// ends the search: where it is the first of which enough is known, the step
// before it is the advice, of which nothing speaks against. The shortest is never undercut.
func (t *Tally) Max(last time.Duration) time.Duration {
	best := time.Duration(0)
	for i, s := range steps {
		c := t.counts[i]
		if c.total() < enough {
			continue
		}
		limit := raise
		if s <= last {
			limit = keep
		}
		if c.lost*limit > c.total() {
			if best == 0 {
				best = steps[max(i-1, 0)]
			}
			return best
		}
		best = s
	}
	return best
}
