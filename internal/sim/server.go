package sim

import (
	"math/bits"
	"strconv"
	"time"

	"github.com/rollcall-dev/rollcall/agent/probe"
)

const (
	// costPing and costConnect are what a server needs for a packet, by
	// docs/benchmarks.md: 12 to 16 µs for a PINGREQ, 76 µs for a CONNECT with its
	// admission, its credentials and its session.
	costPing    = 15 * time.Microsecond
	costConnect = 76 * time.Microsecond
	// announceEvery is how often a server's record is rewritten at most.
	announceEvery = 100 * time.Millisecond
	// connectRate is how many CONNECTs a second a server admits, and how many at
	// once: the default of server.Config.ConnectRate and ConnectBurst.
	connectRate = 2000
	// vitalTick is the resolution of a server's word on its own queue.
	vitalTick = 100 * time.Millisecond
)

// server is a heartbeat server: one work path with a queue, a session table,
// and a record in the store.
type server struct {
	process
	id          int
	name        string
	incarnation string

	wedged bool // its work path is stuck, and the rest of the process is not
	held   []func()
	delay  time.Duration // every answer leaves so late
	factor float64       // of the costs
	busy   time.Duration // until when the work path has something to do
	// jobs wait for it; working: it has one, or will look for one.
	jobs    []job
	working bool

	count    int // sessions as it believes
	sessions []*client
	admitted bucket
	shed     time.Duration // how long newcomers are told to wait; 0: they are let in
	from     map[int]takeovers

	worst    [10]time.Duration // of the last ticks
	ticked   time.Duration     // the tick of the last entry
	band     int
	lowered  time.Duration
	said     record
	spoken   time.Duration // when the record was last written
	speaking bool
	woke     time.Duration // when it last came back from a gap

	drain    *directive
	draining bool // a tick is under way
	pace     pace
	choice   []int
	told     int
	done     bool
	left     []*client
	searched time.Duration
}

// What happens to a server.
const (
	serverKeepAlive = iota
	serverAnnounce
	serverExpire
	serverDrain
	serverWork
)

func (w *world) newServer(i int) *server {
	s := &server{id: i, name: "ns/server-" + strconv.Itoa(i), factor: 1}
	s.process = process{w: w, place: i % w.net.nodes}
	s.begin()
	return s
}

// begin is a new life: nothing is left of the one before.
func (s *server) begin() {
	s.start()
	s.life = s.w.newLife(s.id)
	s.incarnation = s.name + "." + strconv.Itoa(s.life)
	s.wedged, s.held, s.delay, s.busy, s.jobs, s.working = false, nil, 0, 0, nil, false
	s.count, s.sessions = 0, nil
	s.admitted = bucket{rate: connectRate, level: connectRate, burst: connectRate}
	s.from = map[int]takeovers{}
	s.worst, s.band = [10]time.Duration{}, 0
	s.drain, s.left, s.shed, s.draining = nil, nil, 0, false
	s.said, s.speaking, s.woke = record{}, false, s.w.now
	s.handle(serverKeepAlive, int64(s.life))
}

// crash ends the process: its kernel resets every connection.
func (s *server) crash() {
	s.die()
	s.life = 0
	sessions := s.sessions
	s.sessions, s.count, s.held = nil, 0, nil
	s.w.hints.stale = true
	for _, c := range sessions {
		c.slot = -1
		c.reset(s)
	}
	for _, a := range s.w.agents {
		for _, p := range a.probers {
			if p.server == s {
				p.severed()
			}
		}
	}
}

func (s *server) handle(kind int, arg int64) {
	life := int(arg)
	if kind == serverExpire {
		life = s.life
	}
	if life != s.life || !s.runs(s, kind, arg) {
		return
	}
	switch kind {
	case serverKeepAlive:
		s.w.transfer(s.place, s.w.net.store(), func() bool { return s.life == life }, func() { s.w.etcd.renew(s) })
		s.w.at(s.w.now+keepAlive, s, serverKeepAlive, arg)
	case serverAnnounce:
		s.speaking = false
		s.announce()
	case serverExpire:
		s.expire(int32(arg), int32(arg>>32))
	case serverDrain:
		s.tell()
	case serverWork:
		s.work()
	}
}

// free tells whether the work path takes packets.
func (s *server) free() bool { return s.running() && !s.wedged }

// hold keeps what came to a work path that takes nothing.
func (s *server) hold(f func()) {
	if s.running() {
		s.held = append(s.held, f)
		return
	}
	s.parked = append(s.parked, event{h: call(f)})
}

// unwedge lets the work path go on with what it holds.
func (s *server) unwedge() {
	s.wedged = false
	held := s.held
	s.held = nil
	for _, f := range held {
		s.w.at(s.w.now, call(f), 0, 0)
	}
}

// job is a packet that waits for the work path.
type job struct {
	cost   time.Duration
	came   time.Duration
	wanted func() bool // whether its connection still is
	f      func()
}

// costGone is what the end of a connection costs that waits with its packet.
const costGone = 5 * time.Microsecond

// quick serves a packet at once, if nothing waits and it is no work to speak of.
func (s *server) quick(cost time.Duration) bool {
	if s.factor != 1 || s.delay > 0 || len(s.jobs) > 0 || s.working || s.busy > s.w.now+time.Millisecond {
		return false
	}
	s.busy = max(s.busy, s.w.now) + cost
	return true
}

// answer carries out f when the answer to a packet leaves, unless its
// connection has ended by then.
func (s *server) answer(cost time.Duration, wanted func() bool, f func()) {
	if s.quick(cost) {
		f()
		return
	}
	s.jobs = append(s.jobs, job{cost, s.w.now, wanted, f})
	if !s.working {
		s.working = true
		s.w.at(max(s.busy, s.w.now), s, serverWork, int64(s.life))
	}
}

// work takes the next packet.
func (s *server) work() {
	if s.wedged {
		s.held = append(s.held, s.work)
		return
	}
	if len(s.jobs) == 0 {
		s.working = false
		return
	}
	j := s.jobs[0]
	s.jobs = s.jobs[1:]
	took := costGone
	if j.wanted() {
		took = time.Duration(float64(j.cost) * s.factor)
	}
	life := s.life
	s.busy = s.w.now + took
	s.w.at(s.busy, s, serverWork, int64(life))
	if took == costGone && !j.wanted() {
		return
	}
	late := s.busy - j.came + s.delay
	s.w.after(took+s.delay, func() {
		s.leaves(life, func() {
			if late >= time.Millisecond {
				s.observe(late)
			}
			j.f()
		})
	})
}

// says has f happen when what the server says now leaves it.
func (s *server) says(f func()) {
	if s.delay == 0 {
		f()
		return
	}
	life := s.life
	s.w.after(s.delay, func() { s.leaves(life, f) })
}

func (s *server) leaves(life int, f func()) {
	if s.life != life {
		return
	}
	if !s.free() {
		s.hold(func() { s.leaves(life, f) })
		return
	}
	f()
}

// asked is a probe's question at the server's kernel.
func (s *server) asked(c *conn, m message) {
	if s.life != c.life {
		c.reset()
		return
	}
	if !s.free() {
		s.hold(func() { s.asked(c, m) })
		return
	}
	cost := costPing
	if m.kind == probe.Connect {
		cost = costConnect
	}
	s.answer(cost, func() bool { return !c.closed }, func() {
		m.delay = s.queueDelay()
		c.down.send(m, 4)
	})
}

// observe notes how long an answer took.
func (s *server) observe(d time.Duration) {
	s.advance()
	slot := int(s.ticked/vitalTick) % len(s.worst)
	s.worst[slot] = max(s.worst[slot], d)
	s.touch()
}

func (s *server) advance() {
	now := s.w.now / vitalTick * vitalTick
	for t := max(s.ticked, now-vitalTick*time.Duration(len(s.worst))); t < now; {
		t += vitalTick
		s.worst[int(t/vitalTick)%len(s.worst)] = 0
	}
	s.ticked = now
}

// queueDelay is the worst of the last second.
func (s *server) queueDelay() time.Duration {
	if s.w.now-s.ticked > 2*time.Second {
		return 0
	}
	s.advance()
	worst := time.Duration(0)
	for _, d := range s.worst {
		worst = max(worst, d)
	}
	return worst
}

// loadBand is that, rounded up to a power of two in milliseconds: it rises at
// once, and falls when it has been lower for ten seconds.
func (s *server) loadBand() time.Duration {
	band := 0
	if d := s.queueDelay(); d >= 16*time.Millisecond {
		band = 1 << bits.Len(uint((d+time.Millisecond-1)/time.Millisecond)-1)
	}
	if band >= s.band || s.w.now-s.lowered >= 10*time.Second {
		s.band, s.lowered = band, s.w.now
	}
	return time.Duration(s.band) * time.Millisecond
}

// touch has the record written soon, because it may have changed.
func (s *server) touch() {
	if s.speaking || s.dead {
		return
	}
	s.speaking = true
	s.w.at(max(s.w.now, s.spoken+announceEvery), s, serverAnnounce, int64(s.life))
}

func (s *server) announce() {
	r := s.record()
	if s.band > 0 {
		s.w.after(time.Second, s.touch)
	}
	if same(r, s.said) {
		return
	}
	s.said, s.spoken = r, s.w.now
	life := s.life
	s.w.etcd.write(s.place, func() bool { return s.life == life }, func() {
		if l := s.w.etcd.leases[s.id]; l.live && l.life == life {
			s.w.etcd.put(s.id, r)
		}
	})
}

func (s *server) record() record {
	r := record{life: s.life, sessions: max(0, s.count), queueDelay: s.loadBand(), takeovers: make(map[int]takeovers, len(s.from))}
	for k, v := range s.from {
		r.takeovers[k] = v
	}
	if s.drain != nil {
		r.drain = progress{s.drain.failover, s.told, s.done}
	}
	return r
}

func same(a, b record) bool {
	if a.life != b.life || a.sessions != b.sessions || a.queueDelay != b.queueDelay || a.drain != b.drain || len(a.takeovers) != len(b.takeovers) {
		return false
	}
	for k, v := range a.takeovers {
		if b.takeovers[k] != v {
			return false
		}
	}
	return true
}
