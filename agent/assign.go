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
		ours := strings.HasPrefix(s.Presence, namespace+"/")
		if ours && s.Question == "" {
			a.places = append(a.places, report.Place{Server: s.Name, Address: s.Address, Own: s.Node == me})
		}
		if s.Node != me && mine(s.Name, s.Node, s.Observers) {
			s.Foreign = !ours
			a.servers = append(a.servers, s)
		}
	}
	return a
}

// follow does what is assigned, as the cluster changes.
func (a *Agent) follow(ctx context.Context) error {
	defer a.probers.Close()
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
		a.probers.Probe(ctx, targets(now.servers))
		select {
		case <-ctx.Done():
			return nil
		case <-a.cfg.Cluster.Changed():
		}
	}
}

// targets are servers as a prober takes them.
func targets(servers []Target) []probe.Target {
	all := make([]probe.Target, 0, len(servers))
	for _, s := range servers {
		all = append(all, probe.Target{
			Server: s.Name, Address: s.Address, Limits: probe.Limits{AnswerTime: s.AnswerTime, Window: s.Window},
			Question: s.Question, Observers: s.Observers, Foreign: s.Foreign,
		})
	}
	return all
}
