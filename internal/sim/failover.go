package sim

import (
	"slices"
	"time"

	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

const (
	// minDeadline, deadlineFactor and quiet are those of controllers/failover.
	minDeadline    = 60 * time.Second
	deadlineFactor = 3
	quiet          = time.Second
)

// failover is one decision, from its record to its end. It lives in the
// Kubernetes API, so that any leader goes on with it.
type failover struct {
	id, server int
	life       int
	reason     string
	count      int // 0: all, and the server is out
	targets    []target
	rate       float64
	firstWave  int
	clients    int
	base       takeovers

	detected, decided, put, grown time.Duration
	firstMoved, completed         time.Duration
	begun, finished               bool
	moved, pending                int
	pace                          plan.Pace
	outcome                       string
}

func (f *failover) drains() bool { return f.count == 0 }

// active is a failover as the plan sees it.
func (f *failover) active() plan.Active {
	a := plan.Active{Server: serverName(f.server), Reason: f.reason, Pending: f.pending}
	a.Targets = planTargets(f.targets)
	return a
}

func planTargets(l []target) []plan.Target {
	var all []plan.Target
	for _, t := range l {
		all = append(all, plan.Target{Server: serverName(t.server), Address: serverName(t.server), Weight: t.weight})
	}
	return all
}

// adjust has a move in progress go on as its receivers bear it.
func (c *controller) adjust(f *failover) {
	if d := c.book.known[f.server].directive; d == nil || d.failover != f.id {
		return
	}
	was, move := f.pace, f.active()
	move.Pace = was
	f.pace = plan.Adjust(c.clock(), c.w.planPolicy, c.servers.Brake.Or(c.nodes.Brake), move, c.fleet, c.active)
	if f.pace.Rate == was.Rate && slices.Equal(f.pace.Targets, was.Targets) {
		return
	}
	f.rate, f.targets = f.pace.Rate, nil
	for _, t := range f.pace.Targets {
		f.targets = append(f.targets, target{c.w.serverNamed(t.Server), t.Weight})
	}
	put := f.put
	c.direct(f)
	f.put = put // it began then
}

// open records a decision, and then begins it.
func (c *controller) open(m *plan.Move) {
	i := c.w.serverNamed(m.Server)
	k := &c.book.known[i]
	f := &failover{
		id: len(c.w.failovers) + 1, server: i, life: k.record.life, reason: m.Reason, count: m.Count, rate: m.Rate,
		firstWave: m.FirstWave, clients: k.well.clients, base: k.well.takenOver, decided: c.w.now,
		detected: m.Detected.Sub(epoch),
	}
	if m.Count > 0 {
		f.clients = min(m.Count, f.clients)
		f.base = c.book.takenOver(f.life)
	}
	f.pending = f.clients
	for _, t := range m.Targets {
		f.targets = append(f.targets, target{c.w.serverNamed(t.Server), t.Weight})
	}
	c.w.failovers = append(c.w.failovers, f)
	c.w.out.opened(c, f, m)
	c.w.after(writeAPI, func() { c.direct(f) })
}

// direct writes the directive, if this controller still leads.
func (c *controller) direct(f *failover) {
	if f.finished || !c.running() || !c.leading() {
		return
	}
	f.put = c.w.now
	term := c.w.etcd.term
	c.w.etcd.write(c.place, c.running, func() {
		if c.w.etcd.leader != c.id || c.w.etcd.term != term || f.finished {
			return // fenced
		}
		if !f.begun {
			f.pace = plan.Pace{Rate: f.rate, Targets: planTargets(f.targets), At: epoch.Add(c.w.now)}
		}
		f.begun = true
		c.w.out.drained(f)
		c.w.etcd.direct(f.server, &directive{
			failover: f.id, life: f.life, drain: f.drains(), count: f.count, targets: f.targets, rate: f.rate, firstWave: f.firstWave,
		})
	})
}

// follow takes the next step of a failover.
func (c *controller) follow(f *failover) {
	k := &c.book.known[f.server]
	state := c.servers.Verdicts[serverName(f.server)].State
	switch d := k.directive; {
	case !f.begun && c.w.now-max(f.put, f.decided) > 2*time.Second:
		if f.life != k.record.life && state == verdict.Alive {
			c.end(f, "Cancelled")
			return
		}
		c.direct(f) // an earlier leader could not
		return
	case !f.begun:
		return
	case d != nil && d.failover != f.id:
		c.end(f, "Cancelled")
		return
	case !f.drains() && state.Bad():
		c.end(f, "Cancelled")
		return
	case d == nil && c.w.now-f.put > 2*time.Second:
		c.direct(f)
	}
	c.adjust(f)
	if grown := c.book.takenOver(f.life).minus(f.base).total(); grown > f.moved {
		if f.moved == 0 {
			f.firstMoved = c.w.now
		}
		f.moved, f.grown = grown, c.w.now
	}
	f.pending = max(0, f.clients-f.moved)
	idle := c.w.now - max(f.grown, f.put, k.written)
	own := k.live && k.record.life == f.life
	told := own && k.record.drain.done && k.record.drain.failover == f.id
	faulty := f.reason == plan.Overloaded || f.reason == plan.Dead
	switch {
	case f.pending == 0:
		c.end(f, "Moved")
	case f.drains() && own && k.record.sessions == 0 && idle >= quiet:
		c.end(f, "Moved")
	case !f.drains() && told && idle >= quiet:
		c.end(f, "Moved")
	case faulty && state == verdict.Alive:
		c.end(f, "Recovered")
	case c.w.now-f.decided >= max(minDeadline, time.Duration(deadlineFactor*float64(f.clients)/max(c.w.planPolicy.Rate, 1)*float64(time.Second))):
		c.end(f, "TimedOut")
	case f.put > 0 && c.w.now-max(f.grown, f.put) >= 3*quiet:
		// Nothing grows: the store is asked how many of its sessions are left.
		if n := c.w.remaining(f.life); n < f.pending {
			f.clients -= f.pending - n
		}
	}
}

func (c *controller) end(f *failover, outcome string) {
	f.finished, f.outcome, f.completed = true, outcome, c.w.now
	f.pending = 0
	c.w.out.ended(f)
	if d := c.book.known[f.server].directive; d != nil && d.failover == f.id && (!f.drains() || outcome == "Cancelled") {
		c.withdraw(f.server, f.id)
	}
}

// readmit withdraws the directive of a server that is trusted again.
func (c *controller) readmit(server int) {
	d := c.book.known[server].directive
	if d == nil {
		return
	}
	for _, f := range c.w.failovers {
		if f.id == d.failover && !f.finished {
			return
		}
	}
	c.withdraw(server, d.failover)
}

func (c *controller) withdraw(server, failover int) {
	term := c.w.etcd.term
	c.w.etcd.write(c.place, c.running, func() {
		d := c.w.etcd.directives[server]
		if d == nil || d.failover != failover || c.w.etcd.leader != c.id || c.w.etcd.term != term {
			return
		}
		c.w.etcd.direct(server, nil)
		c.w.out.admitted(server)
	})
}
