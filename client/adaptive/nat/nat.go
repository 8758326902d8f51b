// Package nat simulates what a strategy of adaptive is for: a client behind
// NATs that forget silent connections, on networks that lose packets, in
// simulated time. It holds strategies to account in tests and benchmarks; it is
// no model of a radio, a battery or TCP.
//
// A connection lives as long as no silence on it is longer than the timeout
// that the NAT has when the silence ends. A beat on a dead connection is never
// answered. One on a living connection is answered, but for a share Loss of
// them, at random and independently.
package nat

import (
	"math/rand/v2"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
)

// World is where a client lives.
type World struct {
	// Networks the client meets.
	Networks []Network
	// Stays are what network it is on, in order of time. Empty: always the first.
	Stays []Stay
	// Loss is the share of beats without an answer although the connection lives.
	Loss float64
	// Longest is the longest interval that strategies may use; zero: any. It
	// matters for the Outcome only.
	Longest time.Duration
	// Length is how long to simulate.
	Length time.Duration
}

// Network has a NAT at its border.
type Network struct {
	Name string
	// Timeouts are in order of time; the first is from the beginning.
	Timeouts []Timeout
}

// Timeout is the longest silence that a NAT survives, from a time on.
type Timeout struct {
	From, Longest time.Duration
}

// Stay begins when the client comes to a network, an index into Networks.
type Stay struct {
	From    time.Duration
	Network int
}

// Figures of every world.
const (
	// Answer is how long a client waits for an answer.
	Answer = adaptive.MarsAnswerTimeout
	// Again is how long it waits for the answer to a probe.
	Again = 2 * time.Second
	// RoundTrip is when an answer comes.
	RoundTrip = 100 * time.Millisecond
	// Reconnect is how long it takes to be connected again.
	Reconnect = 2 * time.Second
	// Late is how much later than asked for a beat is sent, at most: uniform.
	Late = time.Second
)

// Begin is the time at which every simulation begins.
var Begin = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// Step is one call of the strategy.
type Step struct {
	Now      time.Time
	Event    adaptive.Event
	Decision adaptive.Decision
	State    adaptive.State
}

// Run lives in a world by a strategy. The seed decides on what is lost, and how
// late beats are. Observe, unless nil, is told of every call of the strategy.
func Run(s adaptive.Strategy, w World, seed uint64, observe func(Step)) Outcome {
	c := &client{
		strategy: s, world: w, observe: observe,
		rnd:   rand.New(rand.NewPCG(seed, 0)),
		stays: w.Stays,
		count: newCount(w),
	}
	if len(c.stays) == 0 {
		c.stays = []Stay{{}}
	}
	for c.now < w.Length {
		c.connect()
		for c.beat() {
		}
	}
	return c.count.outcome(c.state)
}

// client is one in a world.
type client struct {
	strategy adaptive.Strategy
	world    World
	observe  func(Step)
	rnd      *rand.Rand
	count    *count

	now   time.Duration // since Begin
	stays []Stay        // the first is the current one
	state adaptive.State
	next  adaptive.Decision
	alive bool          // the NAT still knows the connection
	sent  time.Duration // when the last packet was
	fresh bool          // nothing was sent on this connection yet
}

func (c *client) tell(e adaptive.Event) {
	now := Begin.Add(c.now)
	c.state, c.next = c.strategy.Next(c.state, e, now)
	c.count.decided(c.state)
	if c.observe != nil {
		c.observe(Step{Now: now, Event: e, Decision: c.next, State: c.state})
	}
}

func (c *client) network() *Network { return &c.world.Networks[c.stays[0].Network] }

func (c *client) connect() {
	c.pass(Reconnect)
	c.alive, c.fresh, c.sent = true, true, c.now
	c.tell(adaptive.Connected(c.network().Name, 0))
}

// beat waits for the next beat, sends it and takes its outcome; false when the
// connection is left.
func (c *client) beat() bool {
	if c.now >= c.world.Length {
		return false
	}
	if !c.fresh && !c.next.Probe {
		due := c.sent + c.next.Interval.Duration() + time.Duration(c.rnd.Int64N(int64(Late))).Truncate(time.Millisecond)
		if len(c.stays) > 1 && due >= c.stays[1].From {
			c.pass(max(c.stays[1].From-c.now, 0))
			c.stays = c.stays[1:]
			c.tell(adaptive.NetworkChanged())
			return false
		}
		c.pass(due - c.now)
	}
	wait := Answer
	if c.next.Probe {
		wait = Again
	}
	silence := c.now - c.sent
	c.alive = c.alive && silence < c.network().at(c.now)
	c.sent, c.fresh = c.now, false
	c.count.beats(1)
	if c.alive && c.rnd.Float64() >= c.world.Loss {
		c.pass(RoundTrip)
		c.tell(adaptive.Answered(silence))
		return true
	}
	c.pass(wait)
	searching := c.count.here.searching
	c.tell(adaptive.Failed(silence))
	if c.next.Leave {
		c.count.lost(c.alive, searching)
	}
	return !c.next.Leave
}

func (c *client) pass(d time.Duration) {
	c.count.pass(c.now, d, c.stays[0].Network)
	c.now += d
}

// at is the timeout at a time.
func (n *Network) at(t time.Duration) time.Duration {
	longest := n.Timeouts[0].Longest
	for _, c := range n.Timeouts {
		if c.From <= t {
			longest = c.Longest
		}
	}
	return longest
}

// Still is a world of one network whose timeout never changes.
func Still(timeout time.Duration, loss float64, length time.Duration) World {
	return World{Networks: []Network{Fixed("home", timeout)}, Loss: loss, Length: length}
}

// Fixed is a network whose timeout never changes.
func Fixed(name string, timeout time.Duration) Network {
	return Network{Name: name, Timeouts: []Timeout{{Longest: timeout}}}
}

// Timeouts draws n timeouts between least and most, uniform in their
// logarithm, from a seed.
func Timeouts(n int, least, most time.Duration, seed uint64) []time.Duration {
	rnd := rand.New(rand.NewPCG(seed, 1))
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = between(least, most, rnd.Float64())
	}
	return all
}
