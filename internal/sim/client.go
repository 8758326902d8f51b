package sim

import (
	"math"
	"time"
)

// reason is why a client left its server, as it tells the next one.
type reason uint8

const (
	leftNot reason = iota
	leftLate
	leftBroken
	leftDirected
)

type clientState uint8

const (
	clientWaiting clientState = iota
	clientDialling
	clientOnline
)

// clientConfig is what clients of one kind have in common.
type clientConfig struct {
	interval, ack          time.Duration
	jitter                 float64
	misses                 int
	avoid                  time.Duration
	minBackoff, maxBackoff time.Duration
	lease                  time.Duration // that a server keeps after a beat
}

func (c *clientConfig) settle(grace time.Duration) {
	declared := max(math.Ceil(c.interval.Seconds()*(1+c.jitter)-1e-6), 1)
	c.lease = time.Duration(declared*1.5*float64(time.Second)) + grace
}

// client follows the rules of package client: beats with jitter, n late answers
// in a row, Server Reference before hints before bootstrap addresses, no return
// to a server that was left, full jitter between rounds. It keeps what the SDK's
// core keeps, in a hundred bytes instead of a goroutine.
type client struct {
	w     *world
	id    int32
	cfg   *clientConfig
	place int
	// agent: it is session half of the agent on node, and host its process.
	agent      bool
	node, half int32
	host       *process

	state  clientState
	gen    uint32 // counts changes of state: late news carry an older one
	server int32  // that holds it, or that it left last; -1: none yet
	on     int    // life of that server
	since  time.Duration
	why    reason
	rounds int
	refs   []int32
	hints  []hint
	tried  []int32
	marks  []mark

	// Beats.
	sent     []time.Duration // unanswered, oldest first
	deadline time.Duration   // 0: none
	missed   int
	excused  bool
	seeking  time.Duration // since when, for agents

	// What the servers and the store have of it.
	table   int   // life of the server whose table has the session; 0: none
	slot    int32 // there; -1: none
	seen    time.Duration
	arrival int32
	// filed counts how often a table took it up.
	filed   int32
	owner   int // life in the store's record
	offline bool
	leaving bool // told to go

	moves   int
	movedAt time.Duration
	victim  bool // on a server when that broke
}

// mark is what a client remembers of one server; times in the past say nothing.
type mark struct {
	server                                   int32
	avoidUntil, failedAt, failUntil, waitFor time.Duration
}

// What happens to a client.
const (
	clientBeat = iota
	clientDeadline
	clientRetry
	clientGiveUp
)

func (c *client) handle(kind int, arg int64) {
	if uint32(arg) != c.gen {
		return
	}
	if c.host != nil && !c.host.runs(c, kind, arg) {
		return
	}
	switch kind {
	case clientBeat:
		c.schedule()
		c.send()
	case clientDeadline:
		c.late()
	case clientRetry:
		c.tried = c.tried[:0]
		c.seek()
	case clientGiveUp:
		c.failed(c.dialled())
	}
}

// dialled is the server of the present attempt.
func (c *client) dialled() int32 { return c.tried[len(c.tried)-1] }

func (c *client) schedule() {
	share := 1 + c.cfg.jitter*(2*c.w.rnd.Float64()-1)
	c.w.at(c.w.now+time.Duration(float64(c.cfg.interval)*share), c, clientBeat, int64(c.gen))
}

// send sends a PINGREQ.
func (c *client) send() {
	s, w := c.w.servers[c.server], c.w
	if len(c.sent) == 0 && w.net.calm() && s.life == c.on && s.free() && c.table == s.life && s.quick(costPing) {
		c.seen = w.now
		c.missed, c.excused = 0, false
		return
	}
	c.await()
	gen, on := c.gen, c.on
	w.transfer(c.place, s.place, func() bool { return c.gen == gen }, func() { s.beat(c, gen, on) })
}

func (c *client) await() {
	c.sent = append(c.sent, c.w.now)
	if c.deadline == 0 {
		c.waitUntil(c.w.now + c.cfg.ack)
	}
}

func (c *client) waitUntil(t time.Duration) {
	c.deadline = t
	c.w.at(t, c, clientDeadline, int64(c.gen))
}

// beat is a client's packet at a server.
func (s *server) beat(c *client, gen uint32, on int) {
	switch {
	case s.life != on || c.table != s.life:
		if s.life == on && !s.free() {
			s.hold(func() { s.beat(c, gen, on) })
			return
		}
		if c.gen == gen {
			c.reset(s)
		}
	case !s.free():
		s.hold(func() { s.beat(c, gen, on) })
	default:
		s.answer(costPing, func() bool { return c.gen == gen }, func() {
			c.seen = s.w.now
			s.w.transfer(s.place, c.place, func() bool { return c.gen == gen }, func() { c.pong(gen) })
		})
	}
}

// pong is an answer. One that comes late doesn't end a row of misses.
func (c *client) pong(gen uint32) {
	if c.gen != gen || c.state != clientOnline || len(c.sent) == 0 {
		return
	}
	if c.host != nil && !c.host.running() {
		if !c.host.dead {
			c.host.parked = append(c.host.parked, event{h: call(func() { c.pong(gen) })})
		}
		return
	}
	if c.w.now-c.sent[0] <= c.cfg.ack {
		c.missed, c.excused = 0, false
	}
	c.sent = c.sent[1:]
	c.deadline = 0
	if len(c.sent) > 0 {
		c.waitUntil(c.sent[0] + c.cfg.ack)
	}
}

// late looks whether the answer that is waited for is late.
func (c *client) late() {
	if c.state != clientOnline || c.deadline == 0 || c.w.now < c.deadline {
		return
	}
	if c.w.now-c.deadline > c.cfg.ack/2 && !c.excused {
		c.excused, c.deadline = true, 0
		c.send()
		return
	}
	c.missed++
	c.deadline = 0
	if c.missed >= c.cfg.misses {
		c.leave(leftLate)
		return
	}
	c.send()
}

// direct is a DISCONNECT with "use another server". It leaves as late as
// everything that a slow server says.
func (c *client) direct(s *server, to int) {
	gen := c.gen
	s.says(func() {
		c.w.transfer(s.place, c.place, func() bool { return c.gen == gen }, func() {
			if c.gen != gen || c.state != clientOnline {
				return
			}
			c.refs = c.refs[:0]
			if to >= 0 {
				c.refs = append(c.refs, int32(to))
				c.mark(int32(to)).avoidUntil = 0
			}
			c.leave(leftDirected)
		})
	})
}

// reset is the end of the connection by the server's machine.
func (c *client) reset(s *server) {
	gen := c.gen
	c.w.transfer(s.place, c.place, func() bool { return c.gen == gen }, func() { c.broken(gen) })
}

func (c *client) broken(gen uint32) {
	if c.gen != gen {
		return
	}
	if c.host != nil && !c.host.running() {
		if !c.host.dead {
			c.host.parked = append(c.host.parked, event{h: call(func() { c.broken(gen) })})
		}
		return
	}
	switch c.state {
	case clientOnline:
		c.refs = c.refs[:0]
		c.leave(leftBroken)
	case clientDialling:
		c.failed(c.dialled())
	}
}

func (c *client) leave(why reason) {
	c.why = why
	c.mark(c.server).avoidUntil = c.w.now + c.cfg.avoid
	c.tried = c.tried[:0]
	c.seeking = c.w.now
	if c.w.now-c.since >= c.cfg.maxBackoff {
		c.rounds = 0
	}
	if c.rounds == 0 {
		c.rounds = 1
		c.seek()
		return
	}
	c.pause()
}

func (c *client) pause() {
	c.become(clientWaiting)
	c.w.at(c.resume()+c.backoff(), c, clientRetry, int64(c.gen))
	c.rounds++
}

func (c *client) backoff() time.Duration {
	ceiling := c.cfg.maxBackoff
	if c.rounds < 30 {
		ceiling = min(ceiling, c.cfg.minBackoff<<c.rounds)
	}
	return time.Duration(c.w.rnd.Int64N(int64(ceiling)))
}

func (c *client) become(s clientState) {
	c.gen++
	c.state = s
	c.sent, c.deadline, c.missed, c.excused = nil, 0, 0, false
}

// detach takes the session out of the table that has it.
func (c *client) detach() {
	if c.slot < 0 || c.table == 0 {
		return
	}
	if s := c.w.ofLife(c.table); s != nil {
		last := s.sessions[len(s.sessions)-1]
		s.sessions[c.slot], last.slot = last, c.slot
		s.sessions = s.sessions[:len(s.sessions)-1]
	}
	c.table, c.slot = 0, -1
}

// seek tries the next server, or ends the round.
func (c *client) seek() {
	to, ok := c.next()
	if !ok {
		c.pause()
		return
	}
	c.tried = append(c.tried, to)
	c.become(clientDialling)
	gen, s := c.gen, c.w.servers[to]
	c.w.at(c.w.now+max(2*c.cfg.ack, time.Second), c, clientGiveUp, int64(gen))
	if wait := c.w.shared.take(c.w.now, costArrival); wait > 0 {
		c.w.after(wait, func() { c.syn(s, gen, synRTO) })
		return
	}
	c.syn(s, gen, synRTO)
}

// syn tries to reach the server's machine, again and again until it is given up.
func (c *client) syn(s *server, gen uint32, rto time.Duration) {
	w := c.w
	if c.gen != gen {
		return
	}
	if !w.passes(c.place, s.place) || !w.passes(s.place, c.place) {
		w.after(rto, func() { c.syn(s, gen, 2*rto) })
		return
	}
	trip := w.delay(c.place, s.place)
	if s.dead {
		w.after(2*trip, func() { c.broken(gen) })
		return
	}
	w.after(2*trip, func() {
		w.transfer(c.place, s.place, func() bool { return c.gen == gen }, func() {
			if s.dead {
				c.reset(s)
				return
			}
			s.admit(c, gen)
		})
	})
}

// reply is a CONNACK.
func (c *client) reply(s *server, gen uint32, a connack) {
	life := s.life
	c.w.transfer(s.place, c.place, func() bool { return c.gen == gen }, func() {
		if c.gen != gen || c.state != clientDialling {
			return
		}
		if c.host != nil && !c.host.running() {
			if !c.host.dead {
				c.host.parked = append(c.host.parked, event{h: call(func() { c.reply(s, gen, a) })})
			}
			return
		}
		if a.refused {
			m := c.mark(int32(s.id))
			if a.wait > 0 {
				m.waitFor = c.w.now + a.wait
			} else {
				m.failedAt, m.failUntil = c.w.now, c.w.now+c.cfg.avoid
				if a.reference >= 0 {
					c.refs = append(c.refs, int32(a.reference))
				}
			}
			c.seek()
			return
		}
		c.arrived(s, life)
	})
}

func (c *client) arrived(s *server, life int) {
	c.become(clientOnline)
	if !c.agent && c.server != int32(s.id) {
		c.w.out.moved(c, s)
	}
	c.server, c.on, c.since, c.why, c.leaving = int32(s.id), life, c.w.now, leftNot, false
	c.refs = c.refs[:0]
	c.hints = c.w.hints.list(c.w)
	marks := c.marks[:0]
	for _, m := range c.marks {
		if m.server != c.server && max(m.avoidUntil, m.failUntil, m.waitFor) > c.w.now {
			marks = append(marks, m)
		}
	}
	c.marks = marks
	c.schedule()
	c.send()
	if c.host != nil {
		c.w.agents[c.node].connected(int(c.half))
	}
}

func (c *client) failed(server int32) {
	m := c.mark(server)
	m.failedAt, m.failUntil = c.w.now, c.w.now+c.cfg.avoid
	c.seek()
}

// declareOffline is a verdict on the client, which is there: a false one, unless
// it could not reach every server that there is for the whole of its lease
// (observers don't stand where clients do: it may have been sent where it can't
// go), or there was none that was well and took clients.
func (c *client) declareOffline(by int) {
	c.offline = true
	w := c.w
	if c.agent {
		w.etcd.publish(func(b *book) { b.putBeat(int(c.node), int(c.half), false, by) })
		return
	}
	cut := w.now-w.healed < c.cfg.lease || w.out.forsaken(c.cfg.lease)
	for _, s := range w.servers {
		cut = cut || !s.dead && (w.cut(c.place, s.place) || w.cut(s.place, c.place))
	}
	if cut {
		w.out.offline++
		return
	}
	w.out.falseOffline(c)
}
