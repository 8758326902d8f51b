package sim

import (
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

const (
	// orphansEvery is how often lost servers are looked for.
	orphansEvery = time.Second
	// agentGrace is what a server adds to the lease of an agent's session.
	agentGrace = 500 * time.Millisecond
)

// keepOrphans declares those Offline whose server is lost and who came to no
// other, by the real rule, as controllers/orphans does.
func (c *controller) keepOrphans() {
	if c.w.now-c.swept < orphansEvery {
		return
	}
	c.swept = c.w.now
	brake := c.servers.Brake.Or(c.nodes.Brake)
	for i, s := range c.w.servers {
		e := &c.book.servers[i]
		if v := c.servers.Verdicts[s.name]; !c.book.known[i].live && v.MayServe() && !e.Starting && !e.Terminating {
			c.mute = c.clock() // it may hold clients, and can't say so
		}
	}
	for i, s := range c.w.servers {
		k := &c.book.known[i]
		if k.live && len(c.w.lives[i]) < 2 {
			continue
		}
		bad := c.servers.Verdicts[s.name].State.Bad()
		for _, life := range c.w.lives[i] {
			if c.w.owned[life] == 0 || k.live && life == k.record.life || !k.live && !bad {
				delete(c.orphans, life)
				continue
			}
			since, ok := c.orphans[life]
			if !ok {
				since = c.clock()
				c.orphans[life] = since
			}
			if since.Before(c.mute) {
				since = c.mute
			}
			c.sweep(i, life, since, brake)
		}
	}
}

func (c *controller) sweep(server, life int, since time.Time, brake verdict.Brake) {
	session := verdict.Session{ServerLost: since, Interval: c.w.crowd.interval}
	for _, f := range c.w.failovers {
		if f.server != server {
			continue
		}
		if !f.finished {
			session.Failover = true
		} else {
			session.FailoverEnded = epoch.Add(f.completed + c.skew)
		}
	}
	policy := c.w.clientPolicy
	people, _ := verdict.Client(c.clock(), policy, session, brake)
	session.Interval, policy.Grace = time.Second, agentGrace // what agents declare
	agents, _ := verdict.Client(c.clock(), policy, session, brake)
	if people.State != verdict.Offline && agents.State != verdict.Offline {
		return
	}
	for _, x := range c.w.clients {
		v := people
		if x.agent {
			v = agents
		}
		if x.owner != life || x.offline || v.State != verdict.Offline {
			continue
		}
		c.w.etcd.write(c.place, c.running, func() {
			if x.owner == life && !x.offline {
				x.declareOffline(server)
			}
		})
	}
}
