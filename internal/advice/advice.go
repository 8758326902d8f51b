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
	// shares are as many as clients are told apart of: those that fall into one share
	// count as one.
	shares = 64
	// weight is how many silences one share counts for at a step, at most. Beyond,
	// both of its counts shrink, so that what was long ago weighs less and less.
	weight = 32
	// enough is how many silences the other clients (see others) must have
	// reported at a step before it counts: of 200, one in a hundred lost is two. It
	// takes eight clients.
	enough = 200
	// A step is good where at most 1 in raise was lost; one that was good stays so
	// while at most 1 in keep was, so that chance does not change the advice.
	raise, keep = 100, 50
)

// Tally is what was reported of one network, in 9 KiB. The zero Tally is empty.
type Tally struct {
	steps [len(steps)][shares]count
}

// count is not in whole numbers: the rare loss must shrink like the rest.
type count struct{ survived, lost float32 }

func (c count) total() float32 { return c.survived + c.lost }

// others is what all but one share have reported of a step: the one that lost most is
// left out, or else the one that reported most, so that no client decides alone.
func others(step *[shares]count) count {
	var sum, worst count
	for _, c := range step {
		sum.survived += c.survived
		sum.lost += c.lost
		if c.lost > worst.lost || c.lost == worst.lost && c.survived > worst.survived {
			worst = c
		}
	}
	return count{sum.survived - worst.survived, sum.lost - worst.lost}
}

// Step is the longest step that is no longer than a silence; 0: there is none.
func Step(silence time.Duration) time.Duration {
	for i := len(steps) - 1; i >= 0; i-- {
		if silence >= steps[i] {
			return steps[i]
		}
	}
	return 0
}

// Add counts what a client, told apart by a hash, reports of silences of about a
// length: those that its connection survived, and those after which it was lost.
// Shorter ones than the shortest step are not counted.
func (t *Tally) Add(client uint64, silence time.Duration, survived, lost int) {
	at := -1
	for i, s := range steps {
		if silence >= s {
			at = i
		}
	}
	if at < 0 || survived < 0 || lost < 0 {
		return
	}
	c := &t.steps[at][client%shares]
	c.survived += float32(survived)
	c.lost += float32(lost)
	if total := c.total(); total > weight {
		c.survived *= weight / total
		c.lost *= weight / total
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
		c := others(&t.steps[i])
		if c.total() < enough {
			continue
		}
		limit := float32(raise)
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
