package nat

import (
	"math"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
)

// Outcome is what became of a client.
//
// A search begins when the client comes to a network for the first time, and
// when the timeout falls to what is in use or below it. It ends when the
// strategy calls an interval below the timeout stable; it is of use when that
// interval is at least two thirds of the best there is, which is the timeout or
// World.Longest. Only time on that network counts.
type Outcome struct {
	// Searches are how long each took, and Useful how long until an interval of
	// use was found. Unfinished ones are among them, with the time they had.
	Searches, Useful []time.Duration
	// Unfinished and Useless count those among Searches and Useful.
	Unfinished, Useless int
	// Stable is the time without a search, StableBeats the beats sent in it.
	Stable      time.Duration
	StableBeats int
	// Lost are the connections lost, StableLost those of them while no search
	// went on, Needless those of them that the NAT still knew.
	Lost, StableLost, Needless int
	// Distance is the mean over the stable time of (best - interval) / best,
	// where interval is the one settled last.
	Distance float64
	// Settled is the interval settled at the end; zero: none.
	Settled time.Duration
}

// BeatsPerDay are those of the stable time, NaN when there was none.
func (o Outcome) BeatsPerDay() float64 {
	return float64(o.StableBeats) / (o.Stable.Hours() / 24)
}

// count counts what becomes of a client.
type count struct {
	Outcome
	world   World
	places  []place // by network
	here    *place
	longest time.Duration // the timeout here
	weight  float64       // of Distance
}

// place is what a client has of one network.
type place struct {
	visited   bool
	searching bool          // no stable interval below the timeout yet
	wanting   bool          // nor one of use
	search    time.Duration // since the search began
	settled   time.Duration
}

func newCount(w World) *count {
	c := &count{world: w, places: make([]place, len(w.Networks))}
	c.here = &c.places[0]
	return c
}

// pass is time spent on a network.
func (c *count) pass(now, d time.Duration, network int) {
	c.here = &c.places[network]
	c.longest = c.world.Networks[network].at(now + d)
	if !c.here.visited {
		c.here.visited, c.here.searching, c.here.wanting = true, true, true
	}
	if !c.here.searching && c.here.settled >= c.longest {
		if c.here.wanting { // the search before was overtaken by this one
			c.giveUp(c.here)
		}
		c.here.searching, c.here.wanting, c.here.search = true, true, 0
	}
	c.here.search += d
	if c.here.searching {
		return
	}
	c.Stable += d
	c.Distance += d.Seconds() * float64(c.best()-c.here.settled) / float64(c.best())
	c.weight += d.Seconds()
}

// decided is a decision of the strategy.
func (c *count) decided(s adaptive.State) {
	settled, ok := s.Settled()
	if !ok {
		return
	}
	c.here.settled = settled
	if c.here.searching && settled < c.longest {
		c.Searches = append(c.Searches, c.here.search)
		c.here.searching = false
	}
	if c.here.wanting && settled < c.longest && 3*settled >= 2*c.best() {
		c.Useful = append(c.Useful, c.here.search)
		c.here.wanting = false
	}
}

// best is the longest interval that could be used here.
func (c *count) best() time.Duration {
	if c.world.Longest > 0 {
		return min(c.longest, c.world.Longest)
	}
	return c.longest
}

func (c *count) giveUp(p *place) {
	c.Useful = append(c.Useful, p.search)
	c.Useless++
}

func (c *count) beats(n int) {
	if !c.here.searching {
		c.StableBeats += n
	}
}

// lost is a connection left: whether the NAT still knew it, and whether a
// search went on until then.
func (c *count) lost(alive, searching bool) {
	c.Lost++
	if !searching {
		c.StableLost++
	}
	if alive {
		c.Needless++
	}
}

func (c *count) outcome(s adaptive.State) Outcome {
	for i := range c.places {
		p := &c.places[i]
		if p.searching {
			c.Searches = append(c.Searches, p.search)
			c.Unfinished++
		}
		if p.wanting {
			c.giveUp(p)
		}
	}
	o := c.Outcome
	o.Distance /= c.weight
	o.Settled, _ = s.Settled()
	return o
}

// between is least at share 0 and most at share 1, even in its logarithm.
func between(least, most time.Duration, share float64) time.Duration {
	return time.Duration(float64(least) * math.Pow(float64(most)/float64(least), share)).Truncate(time.Millisecond)
}
