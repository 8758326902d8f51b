package agent

import (
	"fmt"
	"testing"

	"github.com/rollcall-dev/rollcall/agent/gossip"
)

// fakeCluster is an API that a test writes.
type fakeCluster struct {
	snapshot
	changed chan struct{}
}

func (f *fakeCluster) Nodes() []Node            { return f.nodes }
func (f *fakeCluster) Agents() []Peer           { return f.agents }
func (f *fakeCluster) Servers() []Target        { return f.servers }
func (f *fakeCluster) Changed() <-chan struct{} { return f.changed }

func TestAssign(t *testing.T) {
	c := &fakeCluster{}
	for i := range 9 {
		n := fmt.Sprintf("n%d", i)
		c.nodes = append(c.nodes, Node{Name: n, Zone: fmt.Sprintf("z%d", i%3), Address: "10.0.0." + fmt.Sprint(i)})
		if i < 8 { // n8 has no agent
			c.agents = append(c.agents, Peer{Node: n, GossipAddress: fmt.Sprintf("10.1.0.%d:7946", i)})
		}
	}
	for i := range 4 {
		c.servers = append(c.servers, Target{
			Name: fmt.Sprintf("rc/s-%d", i), Node: fmt.Sprintf("n%d", i), Address: fmt.Sprintf("10.2.0.%d:1883", i),
			Observers: 3, Presence: "rc/servers",
		})
	}
	c.servers = append(c.servers,
		Target{Name: "im/chat-0", Node: "n0", Address: "10.2.1.0:9000", Observers: 2, Presence: "im/chat"},
		Target{Name: "rc/web-0", Node: "n1", Address: "10.2.1.1:8080", Observers: 1, Presence: "rc/web", Question: "{}"})

	observers, reporting := map[string][]string{}, map[string][]string{}
	zones := map[string]map[string]bool{}
	for i, n := range c.nodes {
		a := assign(n.Name, "rc", c, func(string) bool { return false })
		for _, s := range a.servers {
			if s.Node == n.Name {
				t.Errorf("%s probes %s, which is on it", n.Name, s.Name)
			}
			if s.Foreign != (s.Presence == "im/chat") {
				t.Errorf("%s belongs to others: %v", s.Name, s.Foreign)
			}
			observers[s.Name] = append(observers[s.Name], n.Name)
		}
		for _, s := range a.nodes {
			if s.Node == n.Name || s.Node == "n8" || s.Agent == "" || s.Address == "" {
				t.Errorf("%s reports on %+v", n.Name, s)
			}
			reporting[s.Node] = append(reporting[s.Node], n.Name)
			if zones[s.Node] == nil {
				zones[s.Node] = map[string]bool{}
			}
			zones[s.Node][n.Zone] = true
		}
		if len(a.peers) != 8 {
			t.Errorf("%s has %d peers", n.Name, len(a.peers))
		}
		if i == 8 && len(a.servers)+len(a.nodes) > 0 {
			t.Errorf("a node without an agent is assigned %v and %v", a.servers, a.nodes)
		}
		if len(a.places) != 4 {
			t.Errorf("%s can report to %d servers, want the installation's 4", n.Name, len(a.places))
		}
		for _, p := range a.places {
			if p.Own != (p.Server == fmt.Sprintf("rc/s-%d", i)) {
				t.Errorf("%s: place %+v", n.Name, p)
			}
		}
	}
	for _, s := range c.servers {
		if got := len(observers[s.Name]); got != s.Observers {
			t.Errorf("%s has the observers %v, want %d", s.Name, observers[s.Name], s.Observers)
		}
	}
	for _, n := range c.nodes[:8] {
		if len(reporting[n.Name]) != reporters || len(zones[n.Name]) != 3 {
			t.Errorf("%s has the reporters %v", n.Name, reporting[n.Name])
		}
	}
}

func TestAssignmentsOutliveTheRestartOfAnAgent(t *testing.T) {
	c := &fakeCluster{}
	for i := range 5 {
		n := fmt.Sprintf("n%d", i)
		c.nodes = append(c.nodes, Node{Name: n})
		c.agents = append(c.agents, Peer{Node: n, GossipAddress: "10.1.0.1:7946"})
	}
	members := map[string]gossip.Member{"n4": {Node: "n4", State: gossip.Left}}
	known := func(node string) bool { _, ok := members[node]; return ok }
	all := func() (s string) {
		for _, n := range c.nodes[:4] {
			for _, x := range assign(n.Name, "rc", c, known).nodes {
				s += n.Name + ">" + x.Node + " "
			}
		}
		return s
	}
	before := all()
	c.agents = c.agents[:4]
	if after := all(); after != before {
		t.Errorf("assignments moved:\n%s\n%s", before, after)
	}
}
