package sim

import (
	"slices"
	"time"
)

// hint is one entry of the list of servers that a CONNACK carries.
type hint struct {
	server int32
	load   int // percent of its capacity
}

// maxHints is how many servers a client is told of.
const maxHints = 16

// directory is what servers know of each other, made anew at most ten times a
// second: the records change no more often.
type directory struct {
	stale bool
	made  time.Duration
	all   []hint
}

func (d *directory) list(w *world) []hint {
	if d.all != nil && (!d.stale || w.now-d.made < announceEvery) {
		return d.all
	}
	all := make([]hint, 0, len(w.servers))
	for i := range w.servers {
		l, r := &w.etcd.leases[i], &w.etcd.records[i]
		x := w.etcd.directives[i]
		if !l.live || x != nil && x.drain && x.life == r.life {
			continue
		}
		all = append(all, hint{int32(i), min(100, 100*r.sessions/w.set.Capacity)})
	}
	slices.SortStableFunc(all, func(a, b hint) int { return a.load - b.load })
	// One more: nobody is told of the server that it is on.
	d.all, d.stale, d.made = all[:min(len(all), maxHints+1)], false, w.now
	return d.all
}

func (c *client) mark(server int32) *mark {
	for i := range c.marks {
		if c.marks[i].server == server {
			return &c.marks[i]
		}
	}
	c.marks = append(c.marks, mark{server: server})
	return &c.marks[len(c.marks)-1]
}

func (c *client) marked(server int32) mark {
	for _, m := range c.marks {
		if m.server == server {
			return m
		}
	}
	return mark{}
}

// next picks the server to try now, as client's routes do.
func (c *client) next() (int32, bool) {
	now := c.w.now
	for len(c.refs) > 0 {
		a := c.refs[0]
		c.refs = c.refs[1:]
		m := c.marked(a)
		if !slices.Contains(c.tried, a) && !c.excluded(a) && m.avoidUntil <= now && m.waitFor <= now {
			return a, true
		}
	}
	fresh := c.w.fresh[:0]
	var failed, avoided []mark
	pending := false
	file := func(h hint) {
		switch m := c.marked(h.server); {
		case c.excluded(h.server):
		case m.avoidUntil > now:
			if !slices.Contains(c.tried, h.server) && m.waitFor <= now {
				avoided = append(avoided, m)
			}
		case m.waitFor > now:
			pending = true
		case slices.Contains(c.tried, h.server):
		case m.failUntil > now:
			failed = append(failed, m)
		default:
			fresh = append(fresh, h)
		}
	}
	for _, h := range c.hints {
		file(h)
	}
	if len(fresh) == 0 {
		for i := range c.w.servers {
			if !slices.ContainsFunc(c.hints, func(h hint) bool { return h.server == int32(i) }) {
				file(hint{server: int32(i)})
			}
		}
	}
	c.w.fresh = fresh[:0]
	switch {
	case len(fresh) > 0:
		return c.choose(fresh), true
	case len(failed) > 0:
		return slices.MinFunc(failed, func(a, b mark) int { return int(a.failedAt - b.failedAt) }).server, true
	case len(avoided) > 0 && !pending:
		return slices.MinFunc(avoided, func(a, b mark) int { return int(a.avoidUntil - b.avoidUntil) }).server, true
	}
	return 0, false
}

// choose picks one of two at random, by the room that they have left.
func (c *client) choose(from []hint) int32 {
	n := len(from)
	if n == 1 {
		return from[0].server
	}
	i, j := c.w.rnd.IntN(n), c.w.rnd.IntN(n-1)
	if j >= i {
		j++
	}
	a, b := 101-from[i].load, 101-from[j].load
	if c.w.rnd.IntN(a+b) < a {
		return from[i].server
	}
	return from[j].server
}

// resume is when a round that is over can go on at the earliest.
func (c *client) resume() time.Duration {
	now := c.w.now
	pending := false
	for _, m := range c.marks {
		pending = pending || m.waitFor > now && m.avoidUntil <= now && !c.excluded(m.server)
	}
	if !pending {
		return now
	}
	var at time.Duration
	for i := range c.w.servers {
		if c.excluded(int32(i)) {
			continue
		}
		m := c.marked(int32(i))
		until := max(m.waitFor, m.avoidUntil)
		if until <= now {
			return now
		}
		if at == 0 || until < at {
			at = until
		}
	}
	return max(at, now)
}

// excluded tells whether an agent's session leaves a server alone because a
// better place is known: not on its own node, not where the other one is, not
// on a server that is ill itself. A second without a server ends the choice.
func (c *client) excluded(server int32) bool {
	if !c.agent || c.w.now-c.seeking >= time.Second {
		return false
	}
	a := c.w.agents[c.node]
	mine := a.rank(int(server), int(c.half))
	if mine == 0 {
		return false
	}
	for i := range c.w.servers {
		if a.rank(i, int(c.half)) < mine {
			return true
		}
	}
	return false
}
