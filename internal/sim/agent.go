package sim

import (
	"strconv"
	"time"

	"github.com/rollcall-dev/rollcall/agent/stall"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	// gossipEvery is the time between two probes of gossip's own.
	gossipEvery = 400 * time.Millisecond
	// healthEvery bounds how long an agent takes to notice its own illness.
	healthEvery = 200 * time.Millisecond
	// tolerated is the gossip's score that is no illness yet.
	tolerated = 1
	// maxScore is memberlist's.
	maxScore = 7
	// coalesce, yield, publishTimeout and retryPublish are those of agent/report.
	coalesce       = 5 * time.Millisecond
	yield          = 300 * time.Millisecond
	publishTimeout = 2 * time.Second
	retryPublish   = 200 * time.Millisecond
)

// agent is what runs on every node: probers, designated reporting, gossip for
// its own health, and two sessions to report through.
type agent struct {
	process
	name     string
	watch    *stall.Watch
	probers  []*prober
	subjects []*subject
	sessions [2]*client

	score    int
	alone    time.Duration // when gossip last heard anybody
	ill      time.Duration // when it last was
	health   int
	looking  bool // a look at the health is under way
	boot     int
	seq      int
	sealing  bool
	about    map[int]bool
	latest   *report
	accepted int // the newest report that a server has acknowledged
}

// report is everything that an agent holds to be the case.
type report struct {
	node   int
	stamp  stamp
	health int
	seen   []seen
	words  []word
	about  map[int]bool
	at     time.Duration
}

type seen struct {
	server, slot int
	band         wire.Band
	life         int
	queueDelay   time.Duration
	answer       time.Duration // the median
	detail       string
}

type word struct {
	node, slot int
	says       wire.NodeWord
}

const (
	agentGossip = iota
	agentHealth
	agentSeal
)

func (w *world) newAgent(i int) *agent {
	a := &agent{name: nodeName(i)}
	a.process = process{w: w, place: i}
	return a
}

func nodeName(i int) string { return "node-" + strconv.Itoa(i) }

// begin starts the agent's process.
func (a *agent) begin() {
	a.start()
	a.boot++
	a.watch = &stall.Watch{}
	a.score, a.alone, a.ill, a.health, a.seq, a.sealing, a.looking = 0, a.w.now, -time.Hour, 0, 0, false, false
	a.about, a.latest, a.accepted = map[int]bool{}, nil, 0
	for _, p := range a.probers {
		p.begin()
	}
	for _, s := range a.subjects {
		s.begin()
	}
	a.w.at(a.w.now+time.Duration(a.w.rnd.Int64N(int64(gossipEvery))), a, agentGossip, int64(a.life))
}

func (a *agent) end() {
	a.die()
	a.life++ // whatever was under way is nobody's
	for _, p := range a.probers {
		p.drop()
	}
}

func (a *agent) handle(kind int, arg int64) {
	if int(arg) != a.life || !a.runs(a, kind, arg) {
		return
	}
	switch kind {
	case agentGossip:
		a.gossip()
		a.w.at(a.w.now+gossipEvery, a, agentGossip, arg)
	case agentHealth:
		a.looking = false
		a.look()
	case agentSeal:
		a.seal()
	}
}

// gossip probes a member as memberlist does: directly, through three others,
// and by TCP; the score says how well this agent hears.
func (a *agent) gossip() {
	w := a.w
	n := len(w.agents)
	if n < 2 {
		return
	}
	other := func() *agent {
		i := w.rnd.IntN(n - 1)
		if i >= a.place {
			i++
		}
		return w.agents[i]
	}
	hears := func(from, to *agent) bool {
		return to.running() && w.passes(from.place, to.place) && w.passes(to.place, from.place)
	}
	target := other()
	if target.dead && w.now-target.died > 3*time.Second {
		return // gossip knows
	}
	if hears(a, target) {
		a.score, a.alone = max(0, a.score-1), w.now
		a.look()
		return
	}
	asked, nacks, ok := 0, 0, false
	for range min(3, n-2) {
		h := other()
		for try := 0; (h == target || h.dead) && try < 32; try++ {
			h = other()
		}
		if h == target || h.dead {
			continue
		}
		asked++
		if !hears(a, h) {
			continue
		}
		nacks++
		a.alone = w.now
		ok = ok || hears(h, target)
	}
	ok = ok || hears(a, target) // TCP has the rest of the interval: once more
	switch {
	case ok:
		a.score = max(0, a.score-1)
	case asked > 0:
		a.score = min(maxScore, a.score+asked-nacks)
	default:
		a.score = min(maxScore, a.score+1)
	}
	a.look()
}

// stalledAt is told when a loop of the agent has noticed that it did not run.
func (a *agent) stalledAt() {
	if !a.looking {
		a.looking = true
		a.w.at(a.w.now+time.Duration(a.w.rnd.Int64N(int64(healthEvery))), a, agentHealth, int64(a.life))
	}
}

// look puts up how the agent is: ill at once, and well when it has been well
// for a while.
func (a *agent) look() {
	w := a.w
	isolated := len(w.agents) > 2 && w.now-a.alone > 5*time.Second
	ill := a.watch.Health(a.clock()) > 0 || a.score > tolerated || isolated
	health := a.health
	switch {
	case ill:
		a.ill, health = w.now, 1
	case w.now-a.ill >= stall.Memory:
		health = 0
	}
	if health != a.health {
		a.health = health
		a.tell(-1)
	}
}

// tell has a report made of what has changed about a server; -1: of else.
func (a *agent) tell(server int) {
	if server >= 0 {
		a.about[server] = true
	}
	if !a.sealing {
		a.sealing = true
		a.w.at(a.w.now+coalesce, a, agentSeal, int64(a.life))
	}
}

func (a *agent) seal() {
	a.sealing = false
	a.seq++
	r := &report{node: a.place, stamp: stamp{a.boot, a.seq}, health: a.health, about: a.about, at: a.w.now}
	for _, p := range a.probers {
		if p.told.band != "" {
			r.seen = append(r.seen, p.told)
		}
	}
	for _, s := range a.subjects {
		if s.told != "" {
			r.words = append(r.words, word{s.node, s.slot, s.told})
		}
	}
	if a.latest != nil && a.accepted < a.latest.stamp.seq {
		for s := range a.latest.about {
			r.about[s] = true
		}
	}
	a.about, a.latest = map[int]bool{}, r
	for half := range a.sessions {
		a.publish(half, r, false)
	}
}

// connected: a server has taken a session, and gets all of it.
func (a *agent) connected(half int) {
	if a.latest != nil {
		a.publish(half, a.latest, true)
	}
}

// publish sends a report through one session, until it, or a newer one, has
// been acknowledged through any.
func (a *agent) publish(half int, r *report, again bool) {
	c, other := a.sessions[half], a.sessions[1-half]
	life := a.life
	stale := func() bool {
		return a.life != life || a.latest != r || a.accepted >= r.stamp.seq && !again
	}
	if c.state != clientOnline || stale() {
		return // it comes when a server takes the session
	}
	if wait := yield - (a.w.now - r.at); wait > 0 && !again && r.about[int(c.server)] && other.state == clientOnline && other.server != c.server {
		a.w.after(wait, func() { a.publish(half, r, false) })
		return
	}
	s, gen := a.w.servers[c.server], c.gen
	wanted := func() bool { return c.gen == gen }
	acked := false
	a.w.transfer(a.place, s.place, wanted, func() {
		s.report(r, c, gen, func() { acked, a.accepted = true, max(a.accepted, r.stamp.seq) })
	})
	a.w.after(publishTimeout+time.Duration(a.w.rnd.Int64N(int64(retryPublish))), func() {
		if !acked && c.gen == gen && !stale() {
			a.publish(half, r, again)
		}
	})
}

// report writes an agent's report to the store, and acknowledges it.
func (s *server) report(r *report, c *client, gen uint32, acked func()) {
	if c.gen != gen || s.life != c.on {
		return
	}
	if !s.free() {
		s.hold(func() { s.report(r, c, gen, acked) })
		return
	}
	c.seen = s.w.now
	life := s.life
	s.answer(costPing, func() bool { return c.gen == gen }, func() {
		s.w.etcd.write(s.place, func() bool { return s.life == life }, func() {
			if e := s.w.etcd; r.stamp.after(e.reported[r.node]) {
				e.reported[r.node] = r.stamp
				e.publish(func(b *book) { b.putReport(r) })
			}
			s.w.transfer(s.place, c.place, func() bool { return c.gen == gen }, acked)
		})
	})
}

// rank orders servers for a session, as agent/report does: the smallest is best.
func (a *agent) rank(server, half int) int {
	s := a.w.servers[server]
	for _, p := range a.probers {
		if p.server == s {
			switch p.told.band {
			case wire.BandSlow, wire.BandHung, wire.BandRefused, wire.BandUnreachable:
				return 3
			}
		}
	}
	switch o := a.sessions[1-half]; {
	case s.place == a.place:
		return 2
	case o.state == clientOnline && o.server == int32(server), o.state == clientDialling && len(o.tried) > 0 && o.dialled() == int32(server):
		return 1
	}
	return 0
}
