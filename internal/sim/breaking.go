package sim

import (
	"slices"
	"strings"
	"time"
)

// faulty makes a fault of some servers true for as long as the step lasts.
// begin and end are what happens to each; end is not called for one that has
// begun another life meanwhile.
func (w *world) faulty(s *Step, who []int, begin, end func(*server)) {
	for _, i := range who {
		sv := w.servers[i]
		if sv.dead {
			continue
		}
		life := sv.life
		f := w.out.fault(kindServer, i, s.required())
		begin(sv)
		if d := s.lasts(); d < time.Hour*24*365 {
			w.after(d, func() {
				w.out.mended(f)
				if sv.life == life {
					end(sv)
				}
			})
		}
	}
}

func (w *world) doStop(s *Step, who []int) {
	w.faulty(s, who, func(sv *server) { sv.stop() }, func(sv *server) {
		sv.woke = w.now
		sv.resume()
		sv.touch()
	})
}

func (w *world) doHang(s *Step, who []int) {
	w.faulty(s, who, func(sv *server) { sv.wedged = true }, func(sv *server) {
		sv.woke = w.now
		sv.unwedge()
	})
}

func (w *world) doSlow(s *Step, who []int) {
	by := s.duration("by", 0)
	w.faulty(s, who, func(sv *server) { sv.delay = by }, func(sv *server) { sv.delay = 0 })
}

// doLoad makes every packet cost more: that many times what it should.
func (w *world) doLoad(s *Step, who []int) {
	factor := s.number("factor", 1)
	for _, i := range who {
		sv := w.servers[i]
		f := w.out.fault(kindServer, i, s.required())
		sv.factor = factor // whatever life it is in: the load comes from outside
		if d := s.lasts(); d < time.Hour*24*365 {
			w.after(d, func() {
				w.out.mended(f)
				sv.factor = 1
			})
		}
	}
}

// doCrash ends processes; a kubelet starts them again.
func (w *world) doCrash(s *Step, who []int) {
	restart := s.duration("restart", 3*time.Second)
	for _, i := range who {
		w.killServer(i, restart, s.required())
	}
}

func (w *world) killServer(i int, restart time.Duration, required bool) {
	sv := w.servers[i]
	if sv.dead {
		return
	}
	f := w.out.fault(kindServer, i, required)
	sv.crash()
	w.after(restart, func() {
		if !w.net.dead[sv.place] && sv.dead {
			sv.begin()
		}
		w.out.mended(f)
	})
}

// doRestart replaces pods as a rollout does: the API knows of it, and the
// process gives up its record, and tells everybody who else there is.
func (w *world) doRestart(s *Step, who []int) {
	down := s.duration("down", 3*time.Second)
	for _, i := range who {
		w.replace(i, down)
	}
}

func (w *world) replace(i int, down time.Duration) {
	sv := w.servers[i]
	if sv.dead {
		return
	}
	f := w.out.fault(kindServer, i, false)
	w.exempt(i, true, false)
	// The record is revoked before the process ends.
	w.etcd.write(sv.place, nil, func() {
		if l := &w.etcd.leases[i]; l.live {
			l.live = false
			w.hints.stale = true
			w.etcd.publish(func(b *book) { b.leaseGone(i) })
		}
	})
	w.after(50*time.Millisecond, func() {
		if !sv.dead { // it may have crashed just now
			for _, c := range sv.sessions {
				c.hints = w.hints.list(w)
			}
			sv.crash()
		}
		w.after(down, func() {
			w.exempt(i, false, true)
			if !w.net.dead[sv.place] && sv.dead {
				sv.begin()
			}
			w.after(time.Second, func() { w.exempt(i, false, false) })
			w.out.mended(f)
		})
	})
}

// exempt is what the Kubernetes API says of a server's pod.
func (w *world) exempt(i int, terminating, starting bool) {
	for _, c := range w.controllers {
		c.watch(func(b *book) { b.servers[i].Terminating, b.servers[i].Starting = terminating, starting })
	}
}

// doRoll restarts one server after the other.
func (w *world) doRoll(s *Step, who []int) {
	for n, i := range who {
		w.after(time.Duration(n)*s.duration("every", 20*time.Second), func() { w.replace(i, s.duration("down", 3*time.Second)) })
	}
}

// doStarve lets processes run only for a part of each period.
func (w *world) doStarve(s *Step, who []int) {
	run, period := s.duration("run", 0), s.duration("period", time.Second)
	if period-run > time.Second/2 { // what a server does then is its own: neither asked for nor wrong
		var servers []int
		for _, sv := range w.servers {
			for _, i := range who {
				if slices.Contains(w.starved(s, i), &sv.process) {
					servers = append(servers, sv.id)
				}
			}
		}
		w.faulty(&Step{Args: map[string]string{"for": s.Args["for"], "expect": "no"}}, servers, func(*server) {}, func(*server) {})
	}
	end := w.now + min(s.lasts(), 24*time.Hour)
	for _, i := range who {
		var turn func()
		turn = func() {
			if w.now >= end {
				return
			}
			for _, p := range w.starved(s, i) {
				p.stall(period - run)
			}
			w.after(period, turn)
		}
		turn()
	}
}

func (w *world) starved(s *Step, i int) []*process {
	switch {
	case strings.HasPrefix(s.Subject, "server"):
		return []*process{&w.servers[i].process}
	case strings.HasPrefix(s.Subject, "agent"):
		return []*process{&w.agents[i].process}
	}
	return w.on(i)
}

// on are the processes on a node.
func (w *world) on(node int) []*process {
	var l []*process
	for _, s := range w.servers {
		if s.place == node {
			l = append(l, &s.process)
		}
	}
	l = append(l, &w.agents[node].process)
	for _, c := range w.controllers {
		if c.place == node {
			l = append(l, &c.process)
		}
	}
	return l
}

// doBursts takes the CPU from everything on a node for a while, again and again
// at random.
func (w *world) doBursts(s *Step, who []int) {
	every, last := s.duration("every", time.Minute), s.duration("last", time.Second)
	end := w.now + min(s.lasts(), 365*24*time.Hour)
	for _, i := range who {
		var burst func()
		burst = func() {
			if w.now >= end {
				return
			}
			for _, p := range w.on(i) {
				p.stall(time.Duration(w.rnd.Int64N(int64(last))))
			}
			w.after(time.Duration(w.rnd.ExpFloat64()*float64(every)), burst)
		}
		w.after(time.Duration(w.rnd.ExpFloat64()*float64(every)), burst)
	}
}

// doStall keeps agents alone from running.
func (w *world) doStall(s *Step, who []int) {
	for _, i := range who {
		w.agents[i].stall(s.duration("for", time.Second))
	}
}

// doKill switches machines off.
func (w *world) doKill(s *Step, who []int) {
	for _, i := range who {
		if w.net.dead[i] {
			continue
		}
		f := w.out.fault(kindNode, i, s.required())
		w.net.dead[i] = true
		w.net.anyDead++
		var broken []*fault
		for _, sv := range w.servers {
			if sv.place == i && !sv.dead {
				b := w.out.fault(kindServer, sv.id, s.required())
				b.machine = true
				broken = append(broken, b)
				sv.die()
				sv.life = 0
				for _, c := range sv.sessions {
					c.slot = -1
				}
				sv.sessions, sv.count, sv.held = nil, 0, nil
			}
		}
		a := w.agents[i]
		a.end()
		for _, c := range a.sessions {
			if c != nil {
				c.gen++
			}
		}
		for _, c := range w.controllers {
			if c.place == i {
				c.die()
			}
		}
		if d := s.lasts(); d < time.Hour*24*365 {
			w.after(d, func() { w.powerOn(i, f, broken) })
		}
	}
}

func (w *world) powerOn(i int, f *fault, broken []*fault) {
	w.net.dead[i] = false
	w.net.anyDead--
	for _, b := range append(broken, f) {
		w.out.mended(b)
	}
	for _, sv := range w.servers {
		if sv.place == i && sv.dead {
			sv.begin()
		}
	}
	if !w.rollcall {
		w.agents[i].start()
	} else {
		w.agents[i].begin()
		for _, c := range w.agents[i].sessions {
			c.seeking = w.now
			c.tried, c.rounds = c.tried[:0], 0
			c.seek()
		}
	}
	for _, c := range w.controllers {
		if c.place == i && c.dead {
			c.begin()
		}
	}
}

// doCut loses packets between places; all of them, unless a share is given.
func (w *world) doCut(s *Step, _ []int) {
	from, _ := places(s.Args["from"], &w.set)
	to, _ := places(s.Args["to"], &w.set)
	share := s.number("share", 1)
	rules := []*rule{{from, to, share}}
	if s.Args["oneway"] == "" && s.Args["from"] != s.Args["to"] {
		rules = append(rules, &rule{to, from, share})
	}
	w.net.rules = append(w.net.rules, rules...)
	w.noteStore()
	if d := s.lasts(); d < time.Hour*24*365 {
		w.after(d, func() {
			w.net.rules = slices.DeleteFunc(w.net.rules, func(r *rule) bool { return slices.Contains(rules, r) })
			w.out.changed, w.healed = w.now, w.now
			w.noteStore()
		})
	}
}

// doJump sets clocks ahead. Those that count are monotonic, and never go back.
func (w *world) doJump(s *Step, who []int) {
	by := s.duration("by", 0)
	for _, i := range who {
		switch kind, _, _ := strings.Cut(s.Subject, "-"); strings.TrimSuffix(kind, "s") {
		case "server":
			w.servers[i].skew += by
			w.servers[i].woke = w.now // a gap in its own clock
		case "agent":
			w.agents[i].skew += by
		case "controller":
			if i < len(w.controllers) {
				w.controllers[i].skew += by
				w.controllers[i].touch()
			}
		}
	}
}

func (w *world) doAway(s *Step, _ []int) {
	w.etcd.leave()
	w.after(min(s.lasts(), 24*time.Hour), w.etcd.back)
}

// doUnseat ends the leading controller; it comes back without a memory.
func (w *world) doUnseat(s *Step, _ []int) {
	if w.etcd.leader < 0 || !w.rollcall {
		return
	}
	c := w.controllers[w.etcd.leader]
	c.die()
	w.after(min(s.lasts(), 24*time.Hour), func() {
		if c.dead && !w.net.dead[c.place] {
			c.begin()
		}
	})
}

// doHerd breaks the connections of a share of all clients at once.
func (w *world) doHerd(s *Step, _ []int) {
	share := s.number("share", 1)
	for _, c := range w.clients {
		if !c.agent && c.state == clientOnline && w.rnd.Float64() < share {
			c.broken(c.gen)
		}
	}
}

func (w *world) doPause(s *Step, _ []int) {
	w.paused = true
	w.after(min(s.lasts(), 24*time.Hour), func() { w.paused = false })
}
