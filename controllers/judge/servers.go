package judge

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// judgeServers judges the servers of one Presence, and plans for them; mine are its Failovers.
func (j *Judge) judgeServers(r *Result, pop *Population, mine []*v1alpha1.Failover) {
	w, spec := r.World, pop.Presence.Spec.Servers
	if _, paused := pop.Presence.Annotations[v1alpha1.PausedAnnotation]; paused {
		w.Paused = true
	}
	j.muster()
	ev := make([]verdict.ServerEvidence, 0, len(pop.Pods))
	for _, p := range pop.Pods {
		s := r.Servers[p.Name]
		on := p.Node
		if on == "" {
			on = s.Record.Node
		}
		zone := j.roster.nodes[on].zone
		if zone == "" {
			zone = s.Record.Zone
		}
		assigned := j.observers.assign(p.Name, on, int(spec.Overload.Observers))
		if len(assigned) < int(spec.Overload.Observers) {
			r.Assignments[p.Name] = j.standIns(r, p, spec, assigned)
			assigned = j.standing(p.Name, assigned, int(spec.Overload.Observers))
		}
		incarnation := s.Record.Incarnation
		if !spec.Probe.Heartbeats() {
			incarnation = string(p.UID)
		}
		ev = append(ev, verdict.ServerEvidence{
			Name: p.Name, Incarnation: incarnation, Registered: s.Registered, Zone: zone, Node: on,
			Service:  !spec.Probe.Heartbeats(),
			Starting: !j.hasBegun(p, s), Terminating: p.Terminating, Paused: p.Paused,
			Assigned: assigned, Observations: j.discount(j.cfg.Book.Observations(p.Name, assigned)),
			Lease: s.Lease(), NodeState: r.Nodes.Verdicts[on].State,
			LeftLate: s.LeftLate, LeftBroken: s.LeftBroken, Sessions: s.Well.Clients,
			QueueDelay: queueDelay(s), Past: j.past(p.Name),
			Kernel: j.kernel(spec, p, on),
		})
		if !spec.Probe.Heartbeats() {
			r.Servers[p.Name] = service(keyOf(pop).String(), p, ev[len(ev)-1].Kernel)
		}
	}
	last := j.servers[keyOf(pop)]
	policy := verdict.ServerPolicy{
		AnswerTime: spec.Overload.AnswerTime.Duration,
		Recovery:   spec.Overload.Recovery.Duration,
		Observers:  int(spec.Overload.Observers),
		MinHealthy: func(total int) int { return scaled(spec.Failover.MinHealthy, total, true) },
	}
	pop.Judgement = verdict.Servers(w, policy, ev, last.Verdicts, last.Brake)
	pop.world, pop.policy, pop.evidence = w, policy, make(map[string]verdict.ServerEvidence, len(ev))
	for _, e := range ev {
		pop.evidence[e.Name] = e
	}
	for name, v := range pop.Judgement.Verdicts {
		if v.State == verdict.Alive {
			j.alive[name] = w.Now
			if v.Detected.IsZero() {
				j.cfg.Book.Settle(name, w.Now)
			}
		}
	}
	j.calibrate(pop, ev, w.Now)
	j.plan(r, pop, ev, mine)
}

// calibrate hears how long the slowest of those who are well takes to answer.
func (j *Judge) calibrate(pop *Population, ev []verdict.ServerEvidence, now time.Time) {
	var slowest time.Duration
	for _, e := range ev {
		if pop.Judgement.Verdicts[e.Name].State == verdict.Alive {
			slowest = max(slowest, answer(e.Observations))
		}
	}
	key := keyOf(pop)
	c, next := j.usual[key].Hear(now, slowest)
	j.usual[key], pop.Calibration = c, c
	pop.Judgement.Next = sooner(pop.Judgement.Next, next)
}

// plan decides what to move.
func (j *Judge) plan(r *Result, pop *Population, ev []verdict.ServerEvidence, mine []*v1alpha1.Failover) {
	newest := newestRevision(pop.Pods)
	for i, p := range pop.Pods {
		pop.fleet = append(pop.fleet, j.planned(r, pop, p, ev[i], mine))
		pop.fleet[i].Newest = p.Revision == newest
	}
	pop.active = slices.DeleteFunc(j.cfg.Ledger.Opening(), func(a plan.Active) bool {
		return !slices.ContainsFunc(pop.Pods, func(p Pod) bool { return p.Name == a.Server })
	})
	for _, fo := range mine {
		if !failover.Finished(fo) {
			pop.active = append(pop.active, inProgress(r, fo))
		}
	}
	pop.plans = pacing(pop.Presence.Spec.Servers)
	pop.plans.Memory = j.memory[keyOf(pop)]
	for _, fo := range mine {
		if fo.Spec.Reason == v1alpha1.FailoverRebalance && pop.plans.Memory.Rebalanced.Before(j.seen[fo.UID]) {
			pop.plans.Memory.Rebalanced = j.seen[fo.UID]
		}
	}
	pop.Decision = plan.Failovers(r.World.Now, pop.plans, pop.brake(r), pop.fleet, pop.active)
	j.memory[keyOf(pop)] = pop.Decision.Memory
}

// pacing is the plan's policy, as a Presence has it.
func pacing(spec *v1alpha1.ServersSpec) plan.Policy {
	p := plan.Policy{
		Mode:       plan.Mode(spec.Failover.Mode),
		MaxServers: func(total int) int { return scaled(spec.Failover.MaxServers, total, false) },
		Rate:       float64(spec.Failover.ClientsPerSecond),
		AnswerTime: spec.Overload.AnswerTime.Duration,
		Stay:       !spec.Probe.Heartbeats(),
	}
	if r := spec.Failover.Restart; r != nil {
		p.RestartAfter = r.After.Duration
	}
	return p
}

// newestRevision is that of the youngest pod.
func newestRevision(pods []Pod) string {
	var newest Pod
	for _, p := range pods {
		if p.Created > newest.Created || newest.Name == "" {
			newest = p
		}
	}
	return newest.Revision
}

// planned is one server as the plan sees it.
func (j *Judge) planned(r *Result, pop *Population, p Pod, ev verdict.ServerEvidence, mine []*v1alpha1.Failover) plan.Server {
	s, v := r.Servers[p.Name], pop.Judgement.Verdicts[p.Name]
	one := plan.Server{
		Name: p.Name, Incarnation: s.Record.Incarnation,
		Sessions: s.Record.Total(), Capacity: s.Record.Capacity,
		Verdict: v, Exempt: ev.Starting || ev.Terminating || ev.Paused,
		Astray:     ev.Service && !pop.Diversion.From(p),
		QueueDelay: queueDelay(s), Answer: answer(ev.Observations),
	}
	if s.Live && (!ev.Service || pop.Diversion.To(p)) { // else nobody is led there
		one.Address = s.Record.Address
	}
	if !s.Live || v.State.Bad() {
		one.Sessions = max(0, one.Sessions-s.Left)
	}
	d, _ := j.cfg.Book.Directive(p.Name)
	one.Shedding = d.Refuse
	if d.Drain {
		one.Out = true
		one.Drained = drained(mine, d.Failover, d.Incarnation == s.Record.Incarnation)
	}
	if d, due := j.kept.due[p.Name]; due {
		if one.Returned = !ev.Service && j.returned(mine, p.Name, d.At, r.World.Now); !one.Returned {
			pop.Paid = append(pop.Paid, p.Name)
		}
	}
	one.Advised = j.advised(mine, p.Name, s.Record.Incarnation)
	return one
}

// drained tells whether a person took the server out, by a Failover that still
// exists, and it is still the same process.
func drained(mine []*v1alpha1.Failover, name string, same bool) bool {
	return same && slices.ContainsFunc(mine, func(fo *v1alpha1.Failover) bool {
		return fo.Namespace+"/"+fo.Name == name && fo.Spec.Reason == v1alpha1.FailoverDrain
	})
}

// advised tells whether the last Failover of a server only advised, and it has
// not been found alive since.
func (j *Judge) advised(mine []*v1alpha1.Failover, server, incarnation string) bool {
	var newest *v1alpha1.Failover
	for _, fo := range mine {
		if fo.Namespace+"/"+fo.Spec.Server == server && fo.Spec.Incarnation == incarnation &&
			(newest == nil || fo.CreationTimestamp.After(newest.CreationTimestamp.Time)) {
			newest = fo
		}
	}
	return newest != nil && failover.Outcome(newest) == v1alpha1.ReasonAdvised && j.seen[newest.UID].After(j.alive[server])
}

// inProgress is a Failover as the plan sees it.
func inProgress(r *Result, fo *v1alpha1.Failover) plan.Active {
	a := plan.Active{
		Name: fo.Name, Server: fo.Namespace + "/" + fo.Spec.Server,
		Reason: string(fo.Spec.Reason), Started: fo.CreationTimestamp.Time,
		Pending: int(fo.Status.Pending),
	}
	if failover.Outcome(fo) == "" {
		a.Pending = int(fo.Spec.Clients)
	}
	for _, t := range fo.Spec.Targets {
		name := fo.Namespace + "/" + t.Server
		a.Targets = append(a.Targets, plan.Target{Server: name, Address: r.Servers[name].Record.Address, Weight: int(t.Weight)})
	}
	return a
}

// answer is the median of the times in which those who count get answers; zero:
// nobody says.
func answer(all []verdict.Observation) time.Duration {
	var took []time.Duration
	for _, o := range all {
		if o.Online && o.Healthy && o.Answer > 0 {
			took = append(took, o.Answer)
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)/2]
}

func queueDelay(s evidence.Server) time.Duration {
	return time.Duration(s.Record.QueueDelay) * time.Millisecond
}

// scaled is a number or a share of all. Admission has checked the form; what
// it hasn't seen counts as zero, to which the plan adds its own least.
func scaled(v intstr.IntOrString, total int, up bool) int {
	n, err := intstr.GetScaledValueFromIntOrPercent(&v, total, up)
	if err != nil {
		return 0
	}
	return n
}
