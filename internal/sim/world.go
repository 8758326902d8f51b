// Package sim plays a whole cluster in simulated time, deterministic from a
// seed: servers, clients, node agents, the network, the store and the
// controllers. What decides is the real thing: internal/verdict, internal/plan,
// the bands of agent/probe, the designated reporters of agent/suspicion and the
// stalls of agent/stall. What carries out (sockets, MQTT, etcd, Kubernetes) is
// modelled, by the rules and constants of the packages that do it.
//
// It is for judging rules, not code: a bug of the real shells does not show here.
package sim

import (
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/rollcall-dev/rollcall/agent/probe"
	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// epoch is when every simulation begins, by the clocks in it.
var epoch = time.Unix(1_700_000_000, 0)

// reportersOfNode is how many nodes report on each node.
const reportersOfNode = 3

// world is one simulation.
type world struct {
	queue
	rnd  *rand.Rand
	set  Setting
	net  network
	etcd *etcd
	out  *outcome
	// shared are the processors of the one machine that everything is on.
	shared processors

	servers     []*server
	agents      []*agent
	clients     []*client
	controllers []*controller
	samplers    []*sampler // of each server; none: nobody looks at cgroups
	failovers   []*failover
	paused      bool
	healed      time.Duration // when a path was last mended
	// rollcall: agents and controllers do what they are for. Otherwise the agents
	// are nothing but something that runs on each node.
	rollcall bool
	byName   map[string]int

	// Who observes which server, and reports on which node.
	assigned, reporters  [][]verdict.Observer
	observing, reporting [][]int

	policy       verdict.ServerPolicy
	planPolicy   plan.Policy
	clientPolicy verdict.ClientPolicy
	crowd        clientConfig
	agentConfig  clientConfig

	hints directory
	fresh []hint // scratch

	// lifeOf is the server of each life, lives those of each server, owned how
	// many clients the store has on each.
	lifeOf []int
	lives  [][]int
	owned  map[int]int

	judges []judge // baselines
}

func zoneName(i int) string   { return "zone-" + strconv.Itoa(i) }
func serverName(i int) string { return "ns/server-" + strconv.Itoa(i) }

// newWorld makes a cluster at rest: everyone is connected, loads are even.
func newWorld(set Setting, seed uint64, withRollcall bool) *world {
	w := &world{rnd: rand.New(rand.NewPCG(seed, 0x726f6c6c63616c6c)), set: set, owned: map[int]int{}, healed: -time.Hour}
	w.net = network{nodes: set.Nodes, zones: set.Zones, dead: make([]bool, set.Nodes)}
	w.shared = make(processors, set.Processors)
	w.lifeOf = []int{-1} // life 0 is nobody's
	w.lives = make([][]int, set.Servers)
	w.etcd = &etcd{
		w: w, leader: -1, leases: make([]lease, set.Servers), records: make([]record, set.Servers),
		directives: make([]*directive, set.Servers), sheds: make([]time.Duration, set.Servers), reported: make([]stamp, set.Nodes),
	}
	w.out = newOutcome(w)
	w.policy = verdict.ServerPolicy{AnswerTime: set.AnswerTime}
	w.planPolicy = plan.Policy{Mode: set.Mode, Rate: set.Rate, AnswerTime: set.AnswerTime}
	w.clientPolicy = verdict.ClientPolicy{MissesUntilLate: 1, MissesUntilOffline: 1, Grace: set.Grace}
	w.crowd = clientConfig{
		interval: set.Interval, ack: set.Ack, jitter: 0.1, misses: set.Misses, avoid: 30 * time.Second,
		minBackoff: 50 * time.Millisecond, maxBackoff: 5 * time.Second,
	}
	w.crowd.settle(set.Grace)
	w.agentConfig = w.crowd
	w.agentConfig.interval, w.agentConfig.ack, w.agentConfig.misses = 500*time.Millisecond, 500*time.Millisecond, 2
	w.agentConfig.settle(agentGrace)

	w.byName = make(map[string]int, set.Servers)
	for i := range set.Servers {
		w.servers = append(w.servers, w.newServer(i))
		w.byName[serverName(i)] = i
	}
	for i := range set.Clients {
		c := &client{w: w, id: int32(i), cfg: &w.crowd, place: w.net.outside(i % set.Zones)}
		w.clients = append(w.clients, c)
		c.settleOn(w.servers[i%set.Servers])
	}
	if w.rollcall = withRollcall; withRollcall {
		w.populate()
	} else {
		for i := range set.Nodes {
			w.agents = append(w.agents, w.newAgent(i))
			w.agents[i].start()
		}
	}
	w.run(0)
	return w
}

// settleOn puts a client on a server as if it had been there for long.
func (c *client) settleOn(s *server) {
	c.slot, c.server, c.on, c.owner, c.table, c.state = int32(len(s.sessions)), int32(s.id), s.life, s.life, s.life, clientOnline
	s.sessions = append(s.sessions, c)
	s.count++
	c.arrival, c.since = 1, -time.Hour
	c.w.owned[s.life]++
	beat := time.Duration(c.w.rnd.Int64N(int64(c.cfg.interval)))
	c.seen = beat - c.cfg.interval
	c.w.at(beat, c, clientBeat, int64(c.gen))
	c.w.at(c.seen+c.cfg.lease, s, serverExpire, int64(c.id)|int64(c.arrival)<<32)
	c.w.after(time.Duration(c.w.rnd.Int64N(int64(time.Second))), func() { c.hints = c.w.hints.list(c.w) })
}

// populate adds what Rollcall is made of: agents and controllers.
func (w *world) populate() {
	set := w.set
	var candidates []verdict.Candidate
	for i := range set.Nodes {
		w.agents = append(w.agents, w.newAgent(i))
		candidates = append(candidates, verdict.Candidate{Observer: verdict.Observer{Name: nodeName(i), Zone: zoneName(w.net.zone(i))}})
	}
	voters := verdict.NewElectorate(candidates)
	place := make(map[string]int, set.Nodes)
	for i := range set.Nodes {
		place[nodeName(i)] = i
	}
	limits := probe.Limits{AnswerTime: set.AnswerTime, Window: time.Second}
	for _, s := range w.servers {
		by := voters.Assign(s.name, nodeName(s.place), verdict.DefaultObservers)
		var who []int
		for k, o := range by {
			a := w.agents[place[o.Name]]
			who = append(who, a.place)
			a.probers = append(a.probers, &prober{a: a, server: s, slot: k, limits: limits})
		}
		w.assigned, w.observing = append(w.assigned, by), append(w.observing, who)
	}
	for i := range set.Nodes {
		by := voters.Assign(nodeName(i), nodeName(i), reportersOfNode)
		var who []int
		for k, o := range by {
			a := w.agents[place[o.Name]]
			who = append(who, a.place)
			a.subjects = append(a.subjects, &subject{a: a, node: i, slot: k})
		}
		w.reporters, w.reporting = append(w.reporters, by), append(w.reporting, who)
	}
	for i := range set.Controllers {
		w.controllers = append(w.controllers, w.newController(i))
	}
	for _, c := range w.controllers {
		c.begin()
	}
	for _, s := range w.servers {
		w.etcd.renewNow(s)
		if set.Cgroups {
			w.samplers = append(w.samplers, &sampler{s: s})
			w.at(time.Duration(s.id)*137*time.Millisecond%sampleCalm, w.samplers[s.id], 0, 0)
		}
	}
	for _, a := range w.agents {
		first := a.place
		for half := range a.sessions {
			for w.servers[first%set.Servers].place == a.place && set.Servers > 1 {
				first++
			}
			c := &client{
				w: w, id: int32(len(w.clients)), cfg: &w.agentConfig, place: a.place,
				agent: true, node: int32(a.place), half: int32(half), host: &a.process,
			}
			w.clients = append(w.clients, c)
			a.sessions[half] = c
			c.settleOn(w.servers[first%set.Servers])
			s := w.servers[first%set.Servers]
			w.etcd.publish(func(b *book) { b.putBeat(a.place, half, true, s.id) })
			first++
		}
		a.begin()
	}
}

// renewNow registers a server that has been there before the beginning.
func (e *etcd) renewNow(s *server) {
	e.renew(s)
	s.said = s.record()
}

// newLife is the next life of a server's process.
func (w *world) newLife(server int) int {
	w.lifeOf = append(w.lifeOf, server)
	life := len(w.lifeOf) - 1
	w.lives[server] = append(w.lives[server], life)
	return life
}

// ofLife is the server that lives this life; nil: it is over.
func (w *world) ofLife(life int) *server {
	if life <= 0 {
		return nil
	}
	if s := w.servers[w.lifeOf[life]]; s.life == life {
		return s
	}
	return nil
}

func (w *world) incarnation(life int) string {
	return serverName(w.lifeOf[life]) + "." + strconv.Itoa(life)
}

func (w *world) serverNamed(name string) int { return w.byName[name] }

// remaining is how many clients the store has on a life.
func (w *world) remaining(life int) int { return w.owned[life] }

// returnedSince tells whether a server has been sent its share since then.
func (w *world) returnedSince(server int, since time.Duration) bool {
	for _, f := range w.failovers {
		if f.reason != plan.Returned || f.decided < since {
			continue
		}
		for _, t := range f.targets {
			if t.server == server {
				return true
			}
		}
	}
	return false
}

// noteStore tells all controllers that they may have lost, or found, the store.
func (w *world) noteStore() {
	for _, c := range w.controllers {
		c.noteStore()
		c.touch()
	}
}
