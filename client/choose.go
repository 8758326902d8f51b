package client

import (
	"math/rand/v2"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// choose picks one of candidates (at least one) and returns its index: of two
// random ones the less loaded, in proportion to the room that each has left.
//
// Not always the less loaded: the loads were true when the list was sent,
// perhaps hours ago, and every client of a server that hangs holds nearly the
// same list. With two servers left, "always the less loaded" sends all of them
// to one (TestChooseDoesNotHerd has the figures).
func choose(rnd *rand.Rand, candidates []wire.ServerHint) int {
	n := len(candidates)
	if n == 1 {
		return 0
	}
	i, j := rnd.IntN(n), rnd.IntN(n-1)
	if j >= i {
		j++
	}
	a, b := room(candidates[i]), room(candidates[j])
	if rnd.IntN(a+b) < a {
		return i
	}
	return j
}

// room is what a server has left, in percent of its capacity; never zero, so
// that full servers are told apart from none.
func room(h wire.ServerHint) int { return 101 - min(max(h.Load, 0), 100) }

// backoff is the wait before round n (from 0), uniform in [0, least × 2^n),
// never above most: "full jitter" (AWS Architecture Blog, 2015), whose weaker
// forms align clients.
func backoff(rnd *rand.Rand, least, most time.Duration, n int) time.Duration {
	ceiling := most
	if n < 62 && least <= most>>n {
		ceiling = least << n
	}
	if ceiling <= 0 {
		return 0
	}
	return time.Duration(rnd.Int64N(int64(ceiling)))
}
