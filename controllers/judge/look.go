package judge

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

func keyOf(p *Population) types.NamespacedName { return client.ObjectKeyFromObject(p.Presence) }

// Look gathers what a follower must know of a Failover, as of now. While this
// process isn't warm or the store is away that is failover.ErrNotNow.
func (j *Judge) Look(ctx context.Context, fo *v1alpha1.Failover) (failover.Facts, error) {
	r := j.Last()
	if r == nil || !r.World.Warm || r.World.StoreAway >= verdict.StoreAwayLimit {
		return failover.Facts{}, failover.ErrNotNow
	}
	now, server := j.cfg.Now(), fo.Namespace+"/"+fo.Spec.Server
	f := failover.Facts{
		Now:       now,
		Server:    j.known(r, server, now),
		TakenOver: j.cfg.Book.Takeovers,
		State:     verdict.Unknown,
	}
	if d, ok := j.cfg.Book.Directive(server); ok && !d.Refuse {
		f.Directive = &d
	}
	pop := r.Of(fo.Namespace, fo.Spec.Presence)
	if pop == nil || pop.Subject != v1alpha1.SubjectServers || pop.Refused != "" {
		f.Forbidden = fmt.Sprintf("No Presence %q of servers is honoured in this namespace.", fo.Spec.Presence)
		return f, nil
	}
	policy := pop.Presence.Spec.Servers.Failover
	f.Mode, f.Rate = policy.Mode, float64(policy.ClientsPerSecond)
	f.State, f.Proven = pop.Judgement.Verdicts[server].State, pop.Judgement.Verdicts[server].Proven
	f.Plan = failover.Plan{Policy: pop.plans, Brake: pop.brake(r), Fleet: pop.fleet, Active: pop.active}
	pod, exists := r.Pod(server)
	diverted, out := true, pod.Accepting == "false"
	if !pop.Presence.Spec.Servers.Probe.Heartbeats() {
		f.Service = pop.service(server, fo.Status.Severed)
		diverted, out = pop.Diversion.From(pod), pop.Diversion.Past(pod)
	}
	if exists && !pod.Terminating {
		f.Sever = failover.Severing{
			Policy: policy.Sever, Installation: j.cfg.Installation.Namespace, Port: pop.Presence.Spec.Servers.Port,
			Node: pod.Node, PodUID: pod.UID, Divert: pop.Diversion.Mode, Out: out,
		}
	}
	_, paused := pop.Presence.Annotations[v1alpha1.PausedAnnotation]
	switch stop := j.cfg.Book.Paused(); {
	case stop != nil:
		f.Forbidden = strings.TrimSuffix(fmt.Sprintf("Everything is paused by %s: %s", stop.By, stop.Why), ": ") + "."
	case paused:
		f.Forbidden = "The Presence is paused by its annotation."
	case exists && pod.Paused:
		f.Forbidden = "The server is paused by its annotation."
	case !exists && !failover.Begun(fo):
		f.Forbidden = "The Presence selects no pod of this name."
	case !diverted && !failover.Begun(fo):
		_, _, f.Forbidden = pop.Diversion.Say()
	}
	if f.Forbidden == "" && failover.Drains(fo) && !failover.Begun(fo) {
		older, err := j.older(ctx, fo)
		if err != nil {
			return f, err
		}
		if older != "" {
			f.Forbidden = "Failover " + older + " is moving the clients of this server already."
		}
	}
	// A directive that stands before it has begun may be left from one of its name.
	if f.Forbidden == "" && (f.Directive == nil || f.Directive.Failover != fo.Namespace+"/"+fo.Name || !failover.Begun(fo)) {
		f.Choice = j.choose(r, pop, fo)
	}
	return f, nil
}

// older names an unfinished Failover that took the server out before this one.
func (j *Judge) older(ctx context.Context, fo *v1alpha1.Failover) (string, error) {
	all, err := j.cfg.Ledger.All(ctx, fo.Namespace)
	if err != nil {
		return "", err
	}
	for _, o := range all {
		if o.Spec.Server != fo.Spec.Server || o.UID == fo.UID || failover.Finished(o) || !failover.Drains(o) {
			continue
		}
		before := o.CreationTimestamp.Compare(fo.CreationTimestamp.Time)
		if failover.Begun(o) || before < 0 || before == 0 && o.Name < fo.Name {
			return o.Name, nil
		}
	}
	return "", nil
}

// choose resolves the receivers of a Failover, or finds some where it names
// none that lives.
func (j *Judge) choose(r *Result, pop *Population, fo *v1alpha1.Failover) failover.Choice {
	server, now := fo.Namespace+"/"+fo.Spec.Server, j.cfg.Now()
	clients := int(fo.Spec.Clients)
	if clients == 0 {
		clients = j.known(r, server, now).Record.Total()
	}
	if fo.Spec.Count != nil {
		clients = int(*fo.Spec.Count)
	}
	named := failover.Choice{
		Rate:      float64(pop.Presence.Spec.Servers.Failover.ClientsPerSecond),
		FirstWave: max(1, clients*plan.FirstWave/100),
	}
	for _, t := range fo.Spec.Targets {
		name := fo.Namespace + "/" + t.Server
		if s := j.known(r, name, now); s.Live && t.Weight > 0 {
			named.Targets = append(named.Targets, plan.Target{Server: name, Address: s.Record.Address, Weight: int(t.Weight)})
		}
	}
	if len(named.Targets) > 0 {
		return named
	}
	return receivers(pop, server, clients)
}
