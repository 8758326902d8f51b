package sim

import "time"

const (
	// commit is how long a write takes in the store, between the two ways.
	commit = 2 * time.Millisecond
	// serverTTL is the lease of a server's record, renewed every keepAlive.
	serverTTL = 5 * time.Second
	keepAlive = 1700 * time.Millisecond
	// leaderTTL is that of an election.
	leaderTTL = 2 * time.Second
)

// etcd is the store: writes in order, leases, and watches that show each
// controller every change in the order of the writes.
type etcd struct {
	w       *world
	away    bool
	waiting []func() // writes that arrived while it was away
	leases  []lease  // by server
	records []record // by server, the last
	// directives by server; nil: none.
	directives []*directive
	// sheds are how long newcomers are told to wait, by server; 0: they aren't.
	sheds []time.Duration
	// reported is the newest report of each agent.
	reported []stamp
	leader   int // controller; -1: none
	term     int
}

type lease struct {
	until time.Duration
	live  bool
	life  int
}

// stamp orders the reports of one agent.
type stamp struct{ boot, seq int }

func (s stamp) after(o stamp) bool { return s.boot > o.boot || s.boot == o.boot && s.seq > o.seq }

// record is a server's own.
type record struct {
	life       int
	sessions   int
	queueDelay time.Duration
	takeovers  map[int]takeovers // by the life that they came from
	drain      progress
}

type progress struct {
	failover int
	told     int
	done     bool
}

// takeovers count arrivals from one life of a server by why they left it.
type takeovers struct{ directive, late, broken, severed int }

func (t takeovers) total() int { return t.directive + t.late + t.broken + t.severed }

func (t takeovers) minus(o takeovers) takeovers {
	return takeovers{max(0, t.directive-o.directive), max(0, t.late-o.late), max(0, t.broken-o.broken), max(0, t.severed-o.severed)}
}

func (t takeovers) plus(o takeovers) takeovers {
	return takeovers{t.directive + o.directive, t.late + o.late, t.broken + o.broken, t.severed + o.severed}
}

// write commits f, as soon as the writer reaches the store and that is there.
// wanted tells whether the writer still lives.
func (e *etcd) write(from int, wanted func() bool, f func()) {
	e.w.transfer(from, e.w.net.store(), wanted, func() { e.w.after(commit, func() { e.commit(f) }) })
}

func (e *etcd) commit(f func()) {
	if e.away {
		e.waiting = append(e.waiting, f)
		return
	}
	f()
}

// leave takes the store away; back returns it, with whole leases: an etcd that
// elects a leader begins them anew.
func (e *etcd) leave() {
	e.away = true
	e.w.noteStore()
}

func (e *etcd) back() {
	e.away = false
	for i := range e.leases {
		if e.leases[i].live {
			e.leases[i].until = e.w.now + serverTTL
			e.w.at(e.leases[i].until, e, 0, int64(i))
		}
	}
	waiting := e.waiting
	e.waiting = nil
	for _, f := range waiting {
		f()
	}
	e.w.noteStore()
	if e.leader >= 0 {
		e.w.controllers[e.leader].lastLead = e.w.now
	}
}

// handle looks whether a server's lease has ended.
func (e *etcd) handle(_ int, server int64) {
	l := &e.leases[server]
	switch {
	case e.away || !l.live:
	case l.until > e.w.now:
		e.w.at(l.until, e, 0, server)
	default:
		l.live = false
		e.publish(func(b *book) { b.leaseGone(int(server)) })
	}
}

// renew is a server's keepalive, or its registration where its lease is gone.
func (e *etcd) renew(s *server) {
	if e.away {
		return
	}
	l := &e.leases[s.id]
	fresh := !l.live || l.life != s.life
	l.until = e.w.now + serverTTL
	if fresh {
		l.live, l.life = true, s.life
		e.w.at(l.until, e, 0, int64(s.id))
		e.put(s.id, s.record())
	}
}

// put writes a server's record.
func (e *etcd) put(server int, r record) {
	e.records[server] = r
	e.w.hints.stale = true
	e.publish(func(b *book) { b.putServer(server, r) })
}

// publish shows a change to all controllers.
func (e *etcd) publish(f func(*book)) {
	for _, c := range e.w.controllers {
		c.watch(f)
	}
}

// direct writes or (nil) withdraws the directive for a server.
func (e *etcd) direct(server int, d *directive) {
	e.directives[server] = d
	e.w.hints.stale = true
	e.publish(func(b *book) { b.putDirective(server, d) })
	s := e.w.servers[server]
	life := s.life
	e.w.transfer(e.w.net.store(), s.place, func() bool { return s.life == life && !s.dead }, func() { s.directed(life) })
}

// shed has a server turn newcomers away for a while; 0: no more.
func (e *etcd) shed(server int, wait time.Duration) {
	e.sheds[server] = wait
	e.publish(func(b *book) { b.known[server].shedding = wait > 0 })
	s := e.w.servers[server]
	life := s.life
	e.w.transfer(e.w.net.store(), s.place, func() bool { return s.life == life && !s.dead }, func() { s.shed = e.sheds[server] })
}

// directive tells a server to move clients.
type directive struct {
	failover  int
	life      int
	drain     bool
	count     int
	targets   []target
	rate      float64
	firstWave int
}

type target struct{ server, weight int }
