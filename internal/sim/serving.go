package sim

import (
	"time"
)

// bucket admits arrivals at a pace.
type bucket struct {
	rate, burst, level float64
	at, promised       time.Duration
}

// take admits one, or tells how long it shall wait: the times are spread at the
// same pace.
func (b *bucket) take(now time.Duration) (wait time.Duration, ok bool) {
	b.level = min(b.burst, b.level+(now-b.at).Seconds()*b.rate)
	b.at = now
	if b.level >= 1 {
		b.level--
		return 0, true
	}
	b.promised = max(b.promised, now) + time.Duration(float64(time.Second)/b.rate)
	if b.promised > now+30*time.Second {
		b.promised = now + 15*time.Second
	}
	return b.promised - now, false
}

// admit takes the CONNECT of a client, and answers it.
func (s *server) admit(c *client, gen uint32) {
	if !s.free() {
		life := s.life
		s.hold(func() {
			if s.life == life {
				s.admit(c, gen)
			}
		})
		return
	}
	say := func(a connack) {
		s.answer(costConnect, func() bool { return c.gen == gen }, func() { c.reply(s, gen, a) })
	}
	switch {
	case s.drain != nil && s.drain.drain:
		say(connack{refused: true, reference: s.refuge()})
	default:
		if s.shed > 0 {
			say(connack{refused: true, wait: s.shed + time.Duration(s.w.rnd.Int64N(int64(s.shed)))})
			return
		}
		if wait, ok := s.admitted.take(s.w.now); !ok {
			say(connack{refused: true, wait: wait})
			return
		}
		if s.count >= s.w.set.Capacity+s.w.set.Capacity/4 {
			say(connack{refused: true, wait: 5 * time.Second})
			return
		}
		if c.gen != gen || c.state != clientDialling {
			return // it has given up; what the server makes of its session ends by itself
		}
		s.attach(c)
		say(connack{})
	}
}

type connack struct {
	refused   bool
	wait      time.Duration
	reference int // server; -1 or 0 without refused: none
}

// attach files a session, and records it: a takeover, if another server held it.
func (s *server) attach(c *client) {
	if c.table == s.life && c.slot >= 0 {
		c.seen = s.w.now
	} else {
		c.detach()
		c.table, c.slot, c.seen = s.life, int32(len(s.sessions)), s.w.now
		s.sessions = append(s.sessions, c)
		c.filed++
		s.count++
		s.touch()
		if !c.agent {
			s.w.out.loaded(s)
		}
	}
	c.arrival++
	arrival, filed, life, why := c.arrival, c.filed, s.life, c.why
	s.w.at(c.seen+c.cfg.lease, s, serverExpire, int64(c.id)|int64(arrival)<<32)
	s.w.etcd.write(s.place, func() bool { return s.life == life }, func() { s.took(c, arrival, filed, life, why) })
}

// took is the write of a session's record.
func (s *server) took(c *client, arrival, filed int32, life int, why reason) {
	if c.arrival != arrival { // written over by a later one
		if c.filed != filed {
			s.dropped() // which filed it anew
		}
		return
	}
	was := c.owner
	c.owner = life
	s.w.owned[was]--
	s.w.owned[life]++
	if c.offline {
		c.offline = false
	} else if was != 0 && was != life {
		t := s.from[was]
		if c.agent && why == leftLate {
			why = leftBroken // it has said so already, as an observer
		}
		switch why {
		case leftDirected:
			t.directive++
		case leftLate:
			t.late++
		case leftBroken:
			t.broken++
		default:
			t.severed++
		}
		s.from[was] = t
		s.touch()
		if old := s.w.ofLife(was); old != nil {
			old.dropped()
		}
	}
	if c.agent {
		s.w.etcd.publish(func(b *book) { b.putBeat(int(c.node), int(c.half), true, s.id) })
	}
}

// dropped is the watch that shows that another server has a session. A process
// that doesn't run learns it later.
func (s *server) dropped() {
	life := s.life
	s.w.after(time.Millisecond, func() {
		if s.life != life {
			return
		}
		if !s.running() {
			s.parked = append(s.parked, event{h: call(func() { s.dropped() })})
			return
		}
		s.count--
		s.touch()
	})
}

// expire ends a session that has been silent for its lease.
func (s *server) expire(id, arrival int32) {
	c := s.w.clients[id]
	if c.arrival != arrival || c.table != s.life || c.owner != s.life {
		return
	}
	again := func(at time.Duration) { s.w.at(at, s, serverExpire, int64(id)|int64(arrival)<<32) }
	due := max(c.seen, s.woke) + c.cfg.lease
	switch {
	case s.wedged:
		again(s.w.now + time.Second) // the table is stuck with it
	case due > s.w.now:
		again(due)
	case s.w.etcd.away || s.w.cut(s.place, s.w.net.store()):
		again(s.w.now + time.Second)
	default:
		life := s.life
		s.w.etcd.write(s.place, func() bool { return s.life == life }, func() {
			if c.arrival != arrival || c.owner != life {
				return
			}
			c.detach()
			s.count--
			s.touch()
			c.declareOffline(s.id)
		})
	}
}

// directed reads the directive that stands.
func (s *server) directed(life int) {
	if s.life != life {
		return
	}
	if !s.running() {
		s.parked = append(s.parked, event{h: call(func() { s.directed(life) })})
		return
	}
	d := s.w.etcd.directives[s.id]
	switch {
	case d == nil || d.life != s.life:
		s.drain, s.left = nil, nil
		s.touch()
		return
	case s.drain == nil || s.drain.failover != d.failover:
		s.pace = pace{credit: float64(d.firstWave), at: s.w.now}
		s.told, s.done, s.left, s.searched = 0, false, nil, -time.Hour
		s.choice = make([]int, len(d.targets))
	}
	s.drain = d
	s.touch()
	if !s.draining {
		s.draining = true
		s.w.at(s.w.now, s, serverDrain, int64(s.life))
	}
}

const (
	moveEvery   = 50 * time.Millisecond
	searchEvery = time.Second
)

// tell tells the clients to go whose turn it is.
func (s *server) tell() {
	d := s.drain
	if d == nil || s.done && !d.drain {
		s.draining = false
		return
	}
	s.w.at(s.w.now+moveEvery, s, serverDrain, int64(s.life))
	if s.wedged {
		return
	}
	due := s.pace.due(s.w.now, d.rate)
	if !d.drain {
		due = min(due, d.count-s.told)
	}
	told, done := s.told, s.done
	for n := 0; n < due; {
		if len(s.left) == 0 {
			if s.w.now-s.searched < searchEvery {
				break
			}
			s.searched = s.w.now
			for _, c := range s.sessions {
				if c.state == clientOnline && c.server == int32(s.id) && (d.drain || !c.agent) && !c.leaving {
					s.left = append(s.left, c)
				}
			}
			if len(s.left) == 0 {
				s.done = true
				break
			}
		}
		c := s.left[0]
		s.left = s.left[1:]
		if c.leaving || c.table != s.life || c.state != clientOnline {
			continue
		}
		n++
		s.told++
		s.pace.credit--
		c.leaving = true
		c.direct(s, s.refuge())
	}
	if !d.drain && s.told >= d.count {
		s.done = true
	}
	if s.told != told || s.done != done {
		s.touch()
	}
}

// refuge chooses a target in proportion to the weights: smooth weighted round
// robin.
func (s *server) refuge() int {
	total, best := 0, -1
	if len(s.choice) != len(s.drain.targets) {
		s.choice = make([]int, len(s.drain.targets))
	}
	for i, t := range s.drain.targets {
		if t.weight <= 0 {
			continue
		}
		total += t.weight
		s.choice[i] += t.weight
		if best < 0 || s.choice[i] > s.choice[best] {
			best = i
		}
	}
	if best < 0 {
		return -1
	}
	s.choice[best] -= total
	return s.drain.targets[best].server
}

// pace is a first wave, and then so many a second.
type pace struct {
	credit float64
	at     time.Duration
}

func (p *pace) due(now time.Duration, rate float64) int {
	passed := min(max((now-p.at).Seconds(), 0), 1)
	p.at = now
	p.credit = max(p.credit, min(p.credit+passed*rate, max(rate, 1)))
	return int(p.credit)
}
