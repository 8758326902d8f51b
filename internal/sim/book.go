package sim

import (
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

const (
	// settleAfter and leftWindow are those of controllers/evidence: how old
	// takeovers must be to be history, and how far back the clients' word goes.
	settleAfter = 5 * time.Second
	leftWindow  = 5 * time.Second
)

// book is what one controller knows, stamped with its own clock: the evidence
// of controllers/evidence, kept in the very form in which the judge takes it.
type book struct {
	c       *controller
	servers []verdict.ServerEvidence
	nodes   []verdict.NodeEvidence
	known   []known
	origins map[int]*origin
	authors []author // by node
	beats   []beat   // two for each node
}

// known is what a book has of a server besides the evidence.
type known struct {
	record    record
	live      bool
	gone      time.Duration // when it last ceased to be live
	well      baseline
	wellFrom  int
	writes    int
	takenOver int
	written   time.Duration
	directive *directive
	shedding  bool
	admitted  time.Duration // when its drain directive was withdrawn; -1: never
}

// author is one life of an agent, and when it was first heard of; zero: before
// this book was begun.
type author struct {
	boot  int
	since time.Time
}

type baseline struct {
	clients   int
	takenOver takeovers
}

type origin struct {
	total  takeovers
	growth []growth
}

type growth struct {
	at    time.Duration
	total takeovers
}

type beat struct {
	known, online bool
	seen          time.Time
	server        int
}

func newBook(c *controller) *book {
	w := c.w
	b := &book{
		c: c, servers: make([]verdict.ServerEvidence, len(w.servers)), nodes: make([]verdict.NodeEvidence, len(w.agents)),
		known: make([]known, len(w.servers)), origins: map[int]*origin{}, beats: make([]beat, 2*len(w.agents)),
		authors: make([]author, len(w.agents)),
	}
	for i, s := range w.servers {
		b.known[i].admitted = -1
		on := nodeName(s.place)
		b.servers[i] = verdict.ServerEvidence{
			Name: s.name, Zone: zoneName(w.net.zone(s.place)), Node: on, Assigned: w.assigned[i],
			Observations: make([]verdict.Observation, len(w.assigned[i])),
		}
		for k, o := range w.assigned[i] {
			b.servers[i].Observations[k].Observer = o
		}
	}
	for i := range w.agents {
		b.nodes[i] = verdict.NodeEvidence{
			Name: nodeName(i), Zone: zoneName(w.net.zone(i)), Reporters: w.reporters[i],
			Beats: make([]verdict.Beats, 0, 2), Words: make([]verdict.Word, len(w.reporters[i])),
		}
		for k, o := range w.reporters[i] {
			b.nodes[i].Words[k].Reporter = o
		}
	}
	return b
}

func (b *book) putServer(i int, r record) {
	k := &b.known[i]
	for from, t := range r.takeovers {
		var was takeovers
		if k.record.life == r.life {
			was = k.record.takeovers[from]
		}
		grown := t.minus(was)
		if grown.total() == 0 {
			continue
		}
		o := b.origins[from]
		if o == nil {
			o = &origin{}
			b.origins[from] = o
		}
		o.total = o.total.plus(grown)
		o.growth = append(o.growth, growth{b.c.w.now, o.total})
		for len(o.growth) > 1 && o.growth[1].at < b.c.w.now-settleAfter-time.Second {
			o.growth = o.growth[1:]
		}
	}
	fresh := k.record.life != r.life
	k.live, k.record, k.written = true, r, b.c.w.now
	k.writes++
	k.takenOver = b.takenOver(r.life).total()
	if fresh {
		k.well, k.wellFrom = baseline{r.sessions, b.takenOver(r.life)}, k.writes
	}
}

func (b *book) leaseGone(i int) { b.known[i].live, b.known[i].gone = false, b.c.w.now }

func (b *book) putDirective(i int, d *directive) {
	k := &b.known[i]
	if d == nil && k.directive != nil && k.directive.drain {
		k.admitted = b.c.w.now
	}
	k.directive = d
}

func (b *book) putBeat(node, half int, online bool, server int) {
	x := &b.beats[2*node+half]
	if !x.known || x.online != online {
		x.seen = b.c.clock()
	}
	x.known, x.online, x.server = true, online, server
}

func (b *book) putReport(r *report) {
	now := b.c.clock()
	a := &b.authors[r.node]
	if a.boot != r.stamp.boot {
		a.since = time.Time{}
		if a.boot > 0 || b.c.w.now > b.c.filled+warmup {
			a.since = now
		}
		a.boot = r.stamp.boot
	}
	for _, s := range r.seen {
		o := &b.servers[s.server].Observations[s.slot]
		incarnation := ""
		if s.life > 0 {
			incarnation = b.c.w.incarnation(s.life)
		}
		if o.Band != string(s.band) || o.Incarnation != incarnation {
			o.Seen = now
		}
		o.Band, o.Incarnation, o.QueueDelay, o.Detail, o.Healthy = string(s.band), incarnation, s.queueDelay, s.detail, r.health == 0
		o.Answer, o.Booted = s.answer, a.since
	}
	for _, x := range r.words {
		o := &b.nodes[x.node].Words[x.slot]
		if o.Says != string(x.says) {
			o.Seen = now
		}
		o.Says, o.Healthy, o.Booted = string(x.says), r.health == 0, a.since
	}
}

func (b *book) takenOver(life int) takeovers {
	if o := b.origins[life]; o != nil {
		return o.total
	}
	return takeovers{}
}

// before is what had been taken over from a life by then.
func (b *book) before(life int, at time.Duration) takeovers {
	var t takeovers
	if o := b.origins[life]; o != nil {
		for _, g := range o.growth {
			if g.at > at {
				break
			}
			t = g.total
		}
	}
	return t
}

// settle moves the baseline of a server that was found well.
func (b *book) settle(i int) {
	k := &b.known[i]
	if !k.live {
		return
	}
	if k.wellFrom != k.writes {
		k.well, k.wellFrom = baseline{k.record.sessions, b.takenOver(k.record.life)}, k.writes
		return
	}
	if old := b.before(k.record.life, b.c.w.now-settleAfter); old.total() > k.well.takenOver.total() {
		k.well.takenOver = old
	}
}

// deserted is that of controllers/evidence.
const deserted = 2 * time.Second

// online tells whether a node's agent has a session, on a server that can tell.
func (b *book) online(node int) bool {
	for _, x := range b.beats[2*node : 2*node+2] {
		if k := &b.known[x.server]; x.online && (k.live || k.record.life == 0 || b.c.w.now-k.gone < deserted) {
			return true
		}
	}
	return false
}

// complete fills in what follows from other evidence.
func (b *book) complete(nodes, servers map[string]verdict.Verdict) {
	w := b.c.w
	state := make([]verdict.State, len(w.servers))
	for i, s := range w.servers {
		state[i] = verdict.Unknown
		if v, ok := servers[s.name]; ok {
			state[i] = v.State
		}
	}
	for i := range b.nodes {
		e := &b.nodes[i]
		e.Beats = e.Beats[:0]
		for _, x := range b.beats[2*i : 2*i+2] {
			if x.known {
				e.Beats = append(e.Beats, verdict.Beats{Online: x.online, Seen: x.seen, ServerState: state[x.server]})
			}
		}
		for k, who := range w.reporting[i] {
			o := &e.Words[k]
			o.Online = b.online(who)
			if o.Says == "" && o.Online {
				// Live, and has said nothing: it is left out by the real one, which
				// counts it as live; a word that nobody knows does the same.
				o.Says, o.Healthy = "nothing", true
			}
		}
	}
	for i := range b.servers {
		e, k := &b.servers[i], &b.known[i]
		e.Incarnation = ""
		switch {
		case k.record.life == 0:
			e.Lease = verdict.LeaseUnknown
		case k.live:
			e.Lease = verdict.LeaseLive
		default:
			e.Lease = verdict.LeaseGone
		}
		if k.record.life > 0 {
			e.Incarnation = w.incarnation(k.record.life)
		}
		for n, who := range w.observing[i] {
			e.Observations[n].Online = b.online(who)
		}
		if v, ok := nodes[e.Node]; ok {
			e.NodeState = v.State
		}
		life := k.record.life
		lately := b.takenOver(life).minus(b.before(life, w.now-leftWindow))
		e.LeftLate, e.LeftBroken = lately.late, lately.broken
		e.Sessions, e.QueueDelay = k.well.clients, k.record.queueDelay
	}
}
