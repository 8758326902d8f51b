package judge

import (
	"slices"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// returnWithin is how long after its readmission a server's share is still
// brought back.
const returnWithin = 10 * time.Minute

// kept is what leaders keep for each other in the store, by server.
type kept struct {
	assignments map[string]store.Assignment
	due         map[string]store.Due
	penalties   map[string]store.Penalty
}

// past is what an earlier judge remembers of a server's failures.
func (j *Judge) past(server string) verdict.Past {
	p := j.kept.penalties[server]
	return verdict.Past{Incarnation: p.Incarnation, Penalty: p.Sum, At: p.At, Suppressed: p.Suppressed}
}

// returned tells whether a share is still due to a server that was let in at a
// time: not once any has been sent back to it since. Of Failovers that were there
// before this process only those count that are not finished: the others may
// have been for an earlier time.
func (j *Judge) returned(mine []*v1alpha1.Failover, server string, admitted, now time.Time) bool {
	if now.Sub(admitted) > returnWithin {
		return false
	}
	_, pod, _ := strings.Cut(server, "/")
	return !slices.ContainsFunc(mine, func(fo *v1alpha1.Failover) bool {
		if fo.Spec.Reason != v1alpha1.FailoverReturned ||
			!slices.ContainsFunc(fo.Spec.Targets, func(t v1alpha1.FailoverTarget) bool { return t.Server == pod }) {
			return false
		}
		seen := j.seen[fo.UID]
		return !failover.Finished(fo) || seen.After(j.first) && !seen.Before(admitted)
	})
}

// standIns are those who should observe a server that too few agents can. They
// speak MQTT only, so nobody stands in for agents that ask a service.
func (j *Judge) standIns(r *Result, p Pod, spec *v1alpha1.ServersSpec, agents []verdict.Observer) store.Assignment {
	if !spec.Probe.Heartbeats() {
		return store.Assignment{}
	}
	self := j.cfg.StandIn
	var candidates []verdict.Candidate
	boots := map[string]int64{}
	add := func(name, node, zone string, boot int64) {
		if known := j.roster.nodes[node].zone; known != "" {
			zone = known
		}
		boots[name] = boot
		candidates = append(candidates, verdict.Candidate{Observer: verdict.Observer{Name: name, Zone: zone, Node: node}})
	}
	for name, s := range r.Servers {
		if s.Live && s.Record.Observes != 0 && name != p.Name && !s.Record.Leaving && !j.lastState(name).Bad() {
			add(store.ServerObserver(name), s.Record.Node, s.Record.Zone, s.Record.Observes)
		}
	}
	if self != nil {
		add(self.Name, self.Node, self.Zone, self.Boot)
	}
	a := store.Assignment{
		Address:    p.Address,
		AnswerTime: spec.Overload.AnswerTime.Milliseconds(), Window: spec.Overload.Window.Milliseconds(),
	}
	if a.Address == "" {
		a.Address = r.Servers[p.Name].Record.Address
	}
	for _, o := range verdict.StandIns(p.Name, agents, candidates, int(spec.Overload.Observers)) {
		a.StandIns = append(a.StandIns, store.StandIn{Name: o.Name, Node: o.Node, Zone: o.Zone, Boot: boots[o.Name]})
	}
	return a
}

// standing adds to the agents who stands in for others as the store has it: all
// replicas count the same, and nobody who was not asked.
func (j *Judge) standing(server string, agents []verdict.Observer, observers int) []verdict.Observer {
	all := slices.Clone(agents)
	for _, s := range j.kept.assignments[server].StandIns {
		if len(all) < observers {
			all = append(all, verdict.Observer{Name: s.Name, Zone: s.Zone, Node: s.Node})
		}
	}
	return all
}

// discount takes those stand-ins for gone, or unwell, whom no lease tells of: a
// controller that leads no more, and a server that is itself in trouble.
func (j *Judge) discount(all []verdict.Observation) []verdict.Observation {
	for i := range all {
		o := &all[i]
		if o.Observer.Agent() {
			continue
		}
		if server, ok := store.ObservingServer(o.Observer.Name); ok {
			o.Healthy = o.Healthy && !j.lastState(server).Bad()
			continue
		}
		own := j.cfg.StandIn != nil && j.cfg.StandIn.Name == o.Observer.Name
		o.Online = o.Online && own == j.cfg.Leading()
	}
	return all
}

// lastState is that of a server in the last judgement: of one that is exempt, what
// it would be called otherwise.
func (j *Judge) lastState(server string) verdict.State {
	r := j.Last()
	if r == nil {
		return verdict.Unknown
	}
	if v := r.verdicts[server]; v.Held.Bad() {
		return v.Held
	}
	return r.State(server)
}
