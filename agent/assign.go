package agent

import (
	"context"
	"slices"
	"strings"

	"github.com/rollcall-dev/rollcall/agent/gossip"
	"github.com/rollcall-dev/rollcall/agent/probe"
	"github.com/rollcall-dev/rollcall/agent/report"
	"github.com/rollcall-dev/rollcall/agent/suspicion"
	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// reporters is how many agents report on each node.
const reporters = 3

// assignment is what this agent has to watch.
type assignment struct {
	servers []Target
	nodes   []suspicion.Target
	places  []report.Place
	peers   []gossip.Peer
}

// assign tells what the agent of node me has to watch. A node is one that can
// watch, and be reported on, when it has an agent, or had one of late: known
// tells whether gossip speaks of it. The controller goes by the agents' sessions,
// whose records stay as long; a restarted agent must not move assignments about.
func assign(me, namespace string, c Cluster, known func(node string) bool) assignment {
	var a assignment
	agents := map[string]string{}
	for _, p := range c.Agents() {
		agents[p.Node] = p.GossipAddress
		a.peers = append(a.peers, gossip.Peer{Node: p.Node, Address: p.GossipAddress})
	}
	var manned []Node
	var candidates []verdict.Candidate
	for _, n := range c.Nodes() {
		if _, listed := agents[n.Name]; listed || known(n.Name) {
			manned = append(manned, n)
			candidates = append(candidates, verdict.Candidate{Observer: verdict.Observer{Name: n.Name, Zone: n.Zone}})
		}
	}
	electorate := verdict.NewElectorate(candidates)
	mine := func(subject, on string, k int) bool {
		return slices.ContainsFunc(electorate.Assign(subject, on, k),
			func(o verdict.Observer) bool { return o.Name == me })
	}
	for _, n := range manned {
		if n.Name != me && mine(n.Name, n.Name, reporters) {
			a.nodes = append(a.nodes, suspicion.Target{Node: n.Name, Agent: agents[n.Name], Address: n.Address})
		}
	}
	for _, s := range c.Servers() {
		if strings.HasPrefix(s.Presence, namespace+"/") {
			a.places = append(a.places, report.Place{Server: s.Name, Address: s.Address, Own: s.Node == me})
		}
		if s.Node != me && mine(s.Name, s.Node, s.Observers) {
			a.servers = append(a.servers, s)
		}
	}
	return a
}

// running is a prober at work.
type running struct {
	target Target
	stop   context.CancelFunc
	done   chan struct{}
}

// follow does what is assigned, as the cluster changes.
func (a *Agent) follow(ctx context.Context) error {
	defer func() {
		for _, r := range a.probers {
			r.end()
		}
	}()
	namespace, _, err := wire.ParseUserName(a.cfg.Presence)
	if err != nil {
		return err
	}
	for {
		now := assign(a.cfg.Node, namespace, a.cfg.Cluster, func(node string) bool {
			_, ok := a.gossip.Member(node)
			return ok
		})
		a.places.Store(&now.places)
		a.gossip.SetPeers(now.peers)
		a.suspicion.SetTargets(now.nodes)
		a.probe(ctx, now.servers)
		select {
		case <-ctx.Done():
			return nil
		case <-a.cfg.Cluster.Changed():
		}
	}
}

// probe starts and ends probers, so that there is one for each of servers.
func (a *Agent) probe(ctx context.Context, servers []Target) {
	wanted := make(map[string]Target, len(servers))
	for _, s := range servers {
		wanted[s.Name] = s
	}
	for name, r := range a.probers {
		if wanted[name] != r.target {
			r.end()
			delete(a.probers, name)
			a.board.Forget(name)
		}
	}
	for _, s := range servers {
		if _, ok := a.probers[s.Name]; ok {
			continue
		}
		p, err := probe.New(probe.Config{
			Server: s.Name, Address: s.Address,
			Limits:   probe.Limits{AnswerTime: s.AnswerTime, Window: s.Window},
			ClientID: func(n int) string { return probeID(a.cfg.Node, n) },
			User:     a.cfg.Presence,
			Token:    a.cfg.Token,
			TLS:      a.cfg.TLS,
			Observe:  func(o wire.Observation) { a.board.Observe(s.Name, s.AnswerTime, o) },
			Phase:    a.phase,
			Stall:    &a.stall, Logger: a.cfg.Logger, Metrics: a.metrics,
		})
		if err != nil {
			a.cfg.Logger.Error("Server cannot be probed", "server", s.Name, "error", err)
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		r := &running{target: s, stop: stop, done: make(chan struct{})}
		a.probers[s.Name] = r
		go func() {
			defer close(r.done)
			if err := p.Run(ctx); err != nil {
				a.cfg.Logger.Error("Prober ended", "server", s.Name, "error", err)
			}
		}()
	}
}

func (r *running) end() {
	r.stop()
	<-r.done
}
