package sim

import (
	"math"
	"time"
)

// memberlist is hashicorp/memberlist with its LAN defaults, alone: each member
// probes another every second (500 ms directly, then through three others and
// by TCP until the second is over); who fails is suspected by all, and dead 4 to
// 24 × max(1, log10 n) seconds later, the sooner the more of them find the same
// (two confirmations make it the least), unless it refutes. How news spread is
// modelled by its time alone. There is one pool of the nodes and one of the
// servers, whose gossip runs beside their work.
type memberlist struct {
	w       *world
	kind    kindOf
	members []*process
	score   []int
	state   []suspected
}

type suspected struct {
	suspected bool
	dead      bool
	start     time.Duration
	by        map[int]bool
	gen       int64
}

const (
	memberProbe = iota
	memberDeadline
	memberRefutes
)

// pools is both of them, as one judge.
type pools struct{ all []*memberlist }

func newMemberlist(w *world) judge {
	servers := &memberlist{w: w, kind: kindServer}
	for _, s := range w.servers {
		servers.members = append(servers.members, &s.process)
	}
	nodes := &memberlist{w: w, kind: kindNode}
	for _, a := range w.agents {
		nodes.members = append(nodes.members, &a.process)
	}
	return &pools{[]*memberlist{servers, nodes}}
}

func (p *pools) name() string { return rivalMemberlist }

func (p *pools) begin() {
	for _, m := range p.all {
		m.score, m.state = make([]int, len(m.members)), make([]suspected, len(m.members))
		for i := range m.members {
			m.w.at(time.Duration(m.w.rnd.Int64N(int64(time.Second))), m, memberProbe, int64(i))
		}
	}
}

func (m *memberlist) handle(kind int, arg int64) {
	i := int(arg & 0xffffffff)
	x := &m.state[i]
	switch kind {
	case memberProbe:
		m.probe(i)
	case memberDeadline:
		if x.suspected && arg>>32 == x.gen {
			x.suspected, x.dead = false, true
			m.say(i, true)
			m.refute(i) // it hears that it is dead, if it can
		}
	case memberRefutes:
		if m.members[i].running() && (x.suspected || x.dead) {
			if !m.heard(i) {
				m.refute(i)
				return
			}
			x.suspected, x.dead = false, false
			x.gen++
			m.say(i, false)
			m.score[i] = min(7, m.score[i]+1)
		} else if x.suspected || x.dead {
			m.refute(i)
		}
	}
}

func (m *memberlist) say(i int, bad bool) {
	m.w.out.verdict(m.w.out.rivals[rivalMemberlist], rivalMemberlist, m.kind, i, bad)
}

// heard tells whether somebody hears a member.
func (m *memberlist) heard(i int) bool {
	for range 6 {
		if o := m.w.rnd.IntN(len(m.members)); o != i && m.hears(o, i) {
			return true
		}
	}
	return false
}

func (m *memberlist) hears(from, to int) bool {
	a, b := m.members[from], m.members[to]
	return a.running() && b.running() && m.w.passes(a.place, b.place) && m.w.passes(b.place, a.place)
}

// spread is how long news needs to reach one member: gossip to three others
// every 200 ms.
func (m *memberlist) spread() time.Duration {
	rounds := math.Ceil(math.Log(float64(len(m.members)+1))/math.Log(4)) + 1
	return time.Duration(rounds * m.w.rnd.Float64() * float64(200*time.Millisecond))
}

func (m *memberlist) refute(i int) {
	m.w.at(m.w.now+m.spread()+50*time.Millisecond, m, memberRefutes, int64(i))
}

func (m *memberlist) probe(i int) {
	w, n := m.w, len(m.members)
	interval := time.Second * time.Duration(m.score[i]+1)
	w.at(w.now+interval, m, memberProbe, int64(i))
	if n < 2 || !m.members[i].running() {
		return
	}
	to := w.rnd.IntN(n - 1)
	if to >= i {
		to++
	}
	if m.state[to].dead {
		return
	}
	if m.hears(i, to) {
		m.score[i] = max(0, m.score[i]-1)
		return
	}
	asked, nacks := 0, 0
	for range min(3, n-2) {
		h := w.rnd.IntN(n)
		if h == i || h == to {
			continue
		}
		asked++
		if m.hears(i, h) {
			nacks++
			if m.hears(h, to) {
				m.score[i] = max(0, m.score[i]-1)
				return
			}
		}
	}
	if m.hears(i, to) { // by TCP
		m.score[i] = max(0, m.score[i]-1)
		return
	}
	if asked > 0 {
		m.score[i] = min(7, m.score[i]+asked-nacks)
	} else {
		m.score[i] = min(7, m.score[i]+1)
	}
	w.after(interval, func() { m.suspect(to, i) })
}

// suspect is one member's word that another does not answer.
func (m *memberlist) suspect(i, by int) {
	x := &m.state[i]
	if x.dead {
		return
	}
	if !x.suspected {
		*x = suspected{suspected: true, start: m.w.now, by: map[int]bool{}, gen: x.gen + 1}
		m.refute(i)
	}
	x.by[by] = true
	n := len(m.members)
	least := time.Duration(4 * max(1, math.Log10(float64(n))) * float64(time.Second))
	most := 6 * least
	k := 2
	if n-2 < k {
		k = 0
	}
	timeout := least
	if k > 0 {
		share := math.Log(float64(min(len(x.by)-1, k))+1) / math.Log(float64(k)+1)
		timeout = max(least, most-time.Duration(share*float64(most-least)))
	}
	x.gen++
	m.w.at(x.start+timeout, m, memberDeadline, int64(i)|x.gen<<32)
}
