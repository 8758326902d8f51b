package sim

import (
	"slices"
	"time"

	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

const (
	// judgeGap, lookAgain, warmup and returnWithin are those of controllers/judge.
	judgeGap     = 20 * time.Millisecond
	lookAgain    = time.Second
	warmup       = 2 * time.Second
	returnWithin = 10 * time.Minute
	// writeAPI is how long a write to the Kubernetes API takes, with its echo.
	writeAPI = 15 * time.Millisecond
)

// controller judges whenever something changes, by the real rules, and acts
// when it leads.
type controller struct {
	process
	id   int
	book *book

	inbox    []func(*book)
	reading  bool
	judging  bool // a judgement is due
	judged   time.Duration
	started  time.Time
	filled   time.Duration
	away     time.Duration // since when the store does not answer; -1: it does
	long     bool
	back     time.Time
	lastLead time.Duration // when the leadership was last renewed
	wake     int64

	servers, nodes verdict.Judgement
	memory         plan.Memory
	fleet          []plan.Server
	active         []plan.Active
	orphans        map[int]time.Time // lives that are lost, since when
	mute           time.Time         // when a server last was well and without a lease
	swept          time.Duration
	shedAt         map[int]time.Duration
}

const (
	controllerRead = iota
	controllerJudge
	controllerLook // and the number of the look
	controllerLead
)

func (w *world) newController(i int) *controller {
	c := &controller{id: i}
	c.process = process{w: w, place: i % w.net.nodes}
	return c
}

// begin starts a controller without a memory: it watches, and warms up.
func (c *controller) begin() {
	c.start()
	c.book, c.inbox, c.reading, c.judging = newBook(c), nil, false, false
	c.started, c.filled, c.away, c.long, c.back = c.clock(), c.w.now, -1, false, time.Time{}
	c.servers, c.nodes, c.memory = verdict.Judgement{}, verdict.Judgement{}, plan.Memory{}
	c.orphans, c.mute, c.shedAt = map[int]time.Time{}, time.Time{}, map[int]time.Duration{}
	w := c.w
	if w.now > 0 { // a snapshot of what is in the store
		for i := range w.servers {
			if w.etcd.leases[i].live {
				c.book.putServer(i, w.etcd.records[i])
			}
			c.book.putDirective(i, w.etcd.directives[i])
		}
		for _, k := range w.samplers {
			c.book.putStrain(k.s.id, k.said)
		}
		for i, a := range w.agents {
			if a.latest != nil {
				c.book.putReport(a.latest)
			}
			for half, s := range a.sessions {
				if sv := w.ofLife(s.owner); sv != nil {
					c.book.putBeat(i, half, !s.offline, sv.id)
				}
			}
		}
	}
	c.noteStore()
	c.touch()
	c.handle(controllerLead, int64(c.life))
}

func (c *controller) handle(kind int, arg int64) {
	if kind == controllerLook && arg != c.wake || kind != controllerLook && int(arg) != c.life || !c.runs(c, kind, arg) {
		return
	}
	switch kind {
	case controllerRead:
		c.read()
	case controllerJudge, controllerLook:
		c.judge()
	case controllerLead:
		c.lead()
	}
}

// watch is a change that the store shows.
func (c *controller) watch(f func(*book)) {
	if c.dead {
		return
	}
	c.inbox = append(c.inbox, f)
	if !c.reading {
		c.reading = true
		c.w.at(c.w.now+c.w.delay(c.w.net.store(), c.place), c, controllerRead, int64(c.life))
	}
}

func (c *controller) read() {
	if !c.w.passes(c.w.net.store(), c.place) {
		c.w.at(c.w.now+firstRTO, c, controllerRead, int64(c.life))
		return
	}
	c.reading = false
	inbox := c.inbox
	c.inbox = nil
	for _, f := range inbox {
		f(c.book)
	}
	c.touch()
}

// noteStore notes whether the store answers this controller.
func (c *controller) noteStore() {
	away := c.w.etcd.away || c.w.cut(c.place, c.w.net.store()) || c.w.cut(c.w.net.store(), c.place)
	switch {
	case !away:
		c.away = -1
	case c.away < 0:
		c.away = c.w.now
	}
}

// lead campaigns, and renews what it holds.
func (c *controller) lead() {
	e, w := c.w.etcd, c.w
	if c.away < 0 {
		switch {
		case e.leader == c.id:
			c.lastLead = w.now
		case e.leader < 0 || w.now-w.controllers[e.leader].lastLead > leaderTTL+leaderTTL/4:
			e.leader, c.lastLead = c.id, w.now
			e.term++
			c.touch()
		}
	}
	c.w.at(w.now+leaderTTL/8, c, controllerLead, int64(c.life))
}

func (c *controller) leading() bool {
	return c.w.etcd.leader == c.id && c.away < 0 && c.w.now-c.lastLead <= leaderTTL
}

// touch has a judgement made soon.
func (c *controller) touch() {
	if !c.judging && !c.dead {
		c.judging = true
		c.w.at(max(c.w.now, c.judged+judgeGap), c, controllerJudge, int64(c.life))
	}
}

func (c *controller) world() verdict.World {
	now := c.clock()
	away := time.Duration(0)
	if c.away >= 0 {
		away = c.w.now - c.away
	}
	if long := away >= verdict.StoreAwayLimit; long != c.long {
		if c.long {
			c.back = now
		}
		c.long = long
	}
	return verdict.World{
		Now: now, Started: c.started, Warm: !now.Before(c.started.Add(warmup)),
		StoreAway: away, StoreBack: c.back, Paused: c.w.paused,
	}
}

// judge judges everything, and acts on it.
func (c *controller) judge() {
	c.judging, c.judged = false, c.w.now
	vw := c.world()
	c.book.complete(c.nodes.Verdicts, c.servers.Verdicts)
	c.nodes = verdict.Nodes(vw, c.book.nodes, c.nodes.Verdicts, c.nodes.Brake)
	for i := range c.book.servers {
		e := &c.book.servers[i]
		e.NodeState = c.nodes.Verdicts[e.Node].State
	}
	c.servers = verdict.Servers(vw, c.w.policy, c.book.servers, c.servers.Verdicts, c.servers.Brake)
	for i, s := range c.w.servers {
		if v := c.servers.Verdicts[s.name]; v.State == verdict.Alive && v.Detected.IsZero() {
			c.book.settle(i)
		}
	}
	next := verdictNext(c.nodes.Next, c.servers.Next)
	if c.leading() {
		c.w.out.judged(c)
		if c.w.set.Mode != plan.Off {
			next = verdictNext(next, c.act(vw))
		}
	}
	look := c.w.now + lookAgain
	if !next.IsZero() {
		look = min(look, c.w.now+max(next.Sub(c.clock()), judgeGap))
	}
	c.wake++
	c.w.at(look, c, controllerLook, c.wake)
}

func verdictNext(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// act plans, begins what was planned, follows what is in progress, and lets in
// again what may come back.
func (c *controller) act(vw verdict.World) time.Time {
	c.fleet, c.active = c.fleet[:0], c.active[:0]
	for i := range c.w.servers {
		c.fleet = append(c.fleet, c.planned(i))
	}
	for _, f := range c.w.failovers {
		if !f.finished {
			c.active = append(c.active, f.active())
		}
	}
	policy := c.w.planPolicy
	policy.Memory = c.memory
	d := plan.Failovers(vw.Now, policy, c.servers.Brake.Or(c.nodes.Brake), c.fleet, c.active)
	c.memory = d.Memory
	c.w.out.decided(c, &d)
	c.keepShed(d.Shed)
	for i := range d.Moves {
		c.open(&d.Moves[i])
	}
	for _, name := range d.Readmit {
		c.readmit(c.w.serverNamed(name))
	}
	for _, f := range c.w.failovers {
		if !f.finished {
			c.follow(f)
		}
	}
	if vw.Warm {
		c.keepOrphans()
	}
	return d.Next
}

// planned is one server as the plan sees it.
func (c *controller) planned(i int) plan.Server {
	k, e := &c.book.known[i], &c.book.servers[i]
	v := c.servers.Verdicts[e.Name]
	s := plan.Server{
		Name: e.Name, Incarnation: e.Incarnation, Sessions: k.record.sessions, Capacity: c.w.set.Capacity, Verdict: v,
		QueueDelay: k.record.queueDelay, Exempt: e.Starting || e.Terminating, Shedding: k.shedding, Answer: median(e.Observations),
	}
	if k.live {
		s.Address = e.Name
	}
	if !k.live || v.State.Bad() {
		s.Sessions = max(0, s.Sessions-max(0, c.book.takenOver(k.record.life).total()-k.takenOver))
	}
	if k.directive != nil && k.directive.drain {
		s.Out = true
	}
	s.Returned = k.admitted >= 0 && c.w.now-k.admitted <= returnWithin && !c.w.returnedSince(i, k.admitted)
	return s
}

// median is what the observers of a server call the median of its answer times;
// zero: not known.
func median(all []verdict.Observation) time.Duration {
	var l []time.Duration
	for _, o := range all {
		if o.Answer > 0 {
			l = append(l, o.Answer)
		}
	}
	if len(l) == 0 {
		return 0
	}
	slices.Sort(l)
	return l[len(l)/2]
}

// keepShed has those turn newcomers away that should, and no others.
func (c *controller) keepShed(wanted []plan.Shed) {
	for i := range c.w.servers {
		wait := time.Duration(0)
		for _, s := range wanted {
			if s.Server == serverName(i) {
				wait = s.RetryAfter
			}
		}
		if (wait > 0) != c.book.known[i].shedding && c.w.now-c.shedAt[i] > time.Second {
			c.shedAt[i] = c.w.now
			c.w.etcd.write(c.place, c.running, func() { c.w.etcd.shed(i, wait) })
		}
	}
}
