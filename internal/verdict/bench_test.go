package verdict_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// BenchmarkJudgement judges 1,000 servers and 5,000 nodes, of which one in a
// hundred is in trouble: the bar is 10 ms for both and their plan.
func BenchmarkJudgement(b *testing.B) {
	now := epoch.Add(time.Hour)
	w := verdict.World{Now: now, Warm: true}
	nodes := candidates(5000, 3)
	var servers []verdict.ServerEvidence
	for i := range 1000 {
		e := verdict.ServerEvidence{Name: fmt.Sprint("im/server-", i), Incarnation: "1", Lease: verdict.LeaseLive, Sessions: 2000}
		e.Assigned = verdict.Assign(e.Name, "", nodes[:50], 3)
		for _, o := range e.Assigned {
			band := "ok"
			if i%100 == 0 {
				band = "hung"
			}
			e.Observations = append(e.Observations, verdict.Observation{Observer: o, Band: band, Incarnation: "1", Seen: epoch, Healthy: true, Online: true})
		}
		servers = append(servers, e)
	}
	var machines []verdict.NodeEvidence
	for i, n := range nodes {
		e := verdict.NodeEvidence{Name: n.Name, Zone: n.Zone, Reporters: verdict.Assign(n.Name, n.Name, nodes[:50], 3)}
		dead := i%100 == 0
		e.Beats = []verdict.Beats{{Online: !dead, ServerState: verdict.Alive, Seen: epoch}, {Online: !dead, ServerState: verdict.Alive, Seen: epoch}}
		for _, r := range e.Reporters {
			says := "alive"
			if dead {
				says = "dead"
			}
			e.Words = append(e.Words, verdict.Word{Reporter: r, Says: says, Seen: epoch, Healthy: true, Online: true})
		}
		machines = append(machines, e)
	}
	prevServers := verdict.Servers(w, verdict.ServerPolicy{}, servers, nil, verdict.Brake{})
	prevNodes := verdict.Nodes(w, machines, nil, verdict.Brake{})
	b.ReportAllocs()
	for b.Loop() {
		prevServers = verdict.Servers(w, verdict.ServerPolicy{}, servers, prevServers.Verdicts, prevServers.Brake)
		prevNodes = verdict.Nodes(w, machines, prevNodes.Verdicts, prevNodes.Brake)
	}
}
