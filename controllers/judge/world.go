package judge

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// reporters is how many nodes report on each node.
const reporters = 3

// judge makes one judgement of everything.
func (j *Judge) judge(ctx context.Context, now time.Time) (*Result, error) {
	if j.stale.Swap(false) || j.roster == nil {
		r, err := enrol(ctx, j.cfg.Cache, j.cfg.Installation)
		if err != nil {
			j.stale.Store(true)
			return nil, err
		}
		j.roster = r
		j.cfg.Book.Forget(func(server string) bool { return r.pods[server] })
	}
	failovers, err := j.cfg.Ledger.All(ctx, "")
	if err != nil {
		return nil, err
	}
	j.note(failovers, now)
	j.kept = kept{j.cfg.Book.Assignments(), j.cfg.Book.Due(), j.cfg.Book.Penalties()}
	r := &Result{
		World:       j.world(now),
		Populations: map[types.NamespacedName]*Population{},
		Assignments: map[string]store.Assignment{},
		Servers:     j.cfg.Book.Servers(now),
		pods:        map[string]Pod{},
		verdicts:    map[string]verdict.Verdict{},
	}
	j.nodes = j.judgeNodes(r.World)
	r.Nodes, r.Machines = j.nodes, j.roster.machines
	of := byPresence(failovers)
	for _, p := range j.roster.populations {
		pop := &Population{Presence: p.presence, Subject: p.subject, Refused: p.refused, Why: p.why, Pods: p.pods, Diversion: p.diversion}
		pop.Diversion.Forbidden = pop.Diversion.Mode == v1alpha1.DivertReadinessGate && j.cfg.GatesForbidden()
		key := client.ObjectKeyFromObject(p.presence)
		r.Populations[key] = pop
		switch {
		case p.refused != "":
		case p.subject == v1alpha1.SubjectNodes:
			pop.Members = p.nodes
			pop.Judgement = only(r.Nodes, p.nodes)
		case p.subject == v1alpha1.SubjectServers:
			for _, pod := range p.pods {
				pop.Members = append(pop.Members, pod.Name)
				r.pods[pod.Name] = pod
			}
			j.judgeServers(r, pop, of[key])
			j.servers[key] = pop.Judgement
			maps.Copy(r.verdicts, pop.Judgement.Verdicts)
		}
	}
	maps.DeleteFunc(j.servers, func(key types.NamespacedName, _ verdict.Judgement) bool { return r.Populations[key] == nil })
	maps.DeleteFunc(j.usual, func(key types.NamespacedName, _ verdict.Calibration) bool { return r.Populations[key] == nil })
	maps.DeleteFunc(j.memory, func(key types.NamespacedName, _ plan.Memory) bool { return r.Populations[key] == nil })
	j.forget(r)
	for key, pop := range r.Populations {
		if pop.Subject == v1alpha1.SubjectClients {
			pop.Counts, pop.Advised = countClients(r, key.String()), advised(r, key.String())
		}
	}
	return r, nil
}

// world is the judge's own footing.
func (j *Judge) world(now time.Time) verdict.World {
	away := j.cfg.Away(now)
	if long := away >= verdict.StoreAwayLimit; long != j.away {
		if j.away {
			j.back = now
		}
		j.away = long
	}
	filled := j.cfg.Book.Filled()
	return verdict.World{
		Now: now, Started: j.started,
		Warm:      !filled.IsZero() && !now.Before(later(filled, j.started).Add(Warmup)),
		StoreAway: away, StoreBack: j.back,
		Paused: j.cfg.Book.Paused() != nil, Apart: j.cfg.Apart,
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// judgeNodes judges all nodes, and for the last time those that are deleted.
func (j *Judge) judgeNodes(w verdict.World) verdict.Judgement {
	j.muster()
	var ev []verdict.NodeEvidence
	add := func(n node, deleted bool) {
		by := j.observers.assign(n.name, n.name, reporters)
		ev = append(ev, verdict.NodeEvidence{
			Name: n.name, Zone: n.zone, Deleted: deleted, Reporters: by,
			Beats: j.cfg.Book.Beats(n.name, j.lastState), Words: j.cfg.Book.Words(n.name, by),
		})
	}
	for _, n := range j.roster.nodes {
		add(n, false)
	}
	for name, v := range j.nodes.Verdicts {
		if _, exists := j.roster.nodes[name]; !exists && v.State != verdict.Left {
			add(node{name: name}, true)
		}
	}
	slices.SortFunc(ev, func(a, b verdict.NodeEvidence) int { return cmp.Compare(a.Name, b.Name) })
	return verdict.Nodes(w, ev, j.nodes.Verdicts, j.nodes.Brake)
}

// note remembers when each Failover was first seen.
func (j *Judge) note(failovers []*v1alpha1.Failover, now time.Time) {
	if j.first.IsZero() {
		j.first = now
	}
	here := make(map[types.UID]bool, len(failovers))
	for _, fo := range failovers {
		here[fo.UID] = true
		if _, known := j.seen[fo.UID]; !known {
			j.seen[fo.UID] = now
		}
	}
	maps.DeleteFunc(j.seen, func(uid types.UID, _ time.Time) bool { return !here[uid] })
}

// byPresence are Failovers by the Presences whose servers they are of.
func byPresence(failovers []*v1alpha1.Failover) map[types.NamespacedName][]*v1alpha1.Failover {
	of := map[types.NamespacedName][]*v1alpha1.Failover{}
	for _, fo := range failovers {
		key := types.NamespacedName{Namespace: fo.Namespace, Name: fo.Spec.Presence}
		of[key] = append(of[key], fo)
	}
	return of
}

// only is a judgement reduced to some members.
func only(j verdict.Judgement, members []string) verdict.Judgement {
	some := make(map[string]verdict.Verdict, len(members))
	for _, m := range members {
		if v, ok := j.Verdicts[m]; ok {
			some[m] = v
		}
	}
	j.Verdicts = some
	return j
}

// forget drops what was remembered of pods that are gone.
func (j *Judge) forget(r *Result) {
	here := make(map[types.UID]bool, len(r.pods))
	for _, p := range r.pods {
		here[p.UID] = true
	}
	maps.DeleteFunc(j.begun, func(uid types.UID, _ bool) bool { return !here[uid] })
	maps.DeleteFunc(j.alive, func(server string, _ time.Time) bool { _, ok := r.pods[server]; return !ok })
}

// hasBegun tells whether a pod has ever been Ready, or has had a record. A
// record of another pod of the same name says nothing.
func (j *Judge) hasBegun(p Pod, s evidence.Server) bool {
	if j.begun[p.UID] {
		return true
	}
	uid, _, _ := strings.Cut(s.Record.Incarnation, ".")
	other := len(uid) == len(p.UID) && uid != string(p.UID)
	// Nobody takes out a pod that has not begun, and one that is out is not Ready.
	if p.Ready || p.Gate == corev1.ConditionFalse || s.Known && !other {
		j.begun[p.UID] = true
	}
	return j.begun[p.UID]
}

// advised are the longest intervals that servers advise to clients of a Presence, by
// kind of network: the least that any says, because what is too long costs more.
func advised(r *Result, presence string) map[string]time.Duration {
	var all map[string]time.Duration
	for _, s := range r.Servers {
		if !s.Live {
			continue
		}
		for network, ms := range s.Record.Advised[presence] {
			d := time.Duration(ms) * time.Millisecond
			if all == nil {
				all = map[string]time.Duration{}
			}
			if least, ok := all[network]; !ok || d < least {
				all[network] = d
			}
		}
	}
	return all
}

// countClients adds up the clients of a Presence. Those of a server that
// doesn't answer count as Orphaned until another has taken them over; the
// records don't say of which Presence a client was that has been taken over, so
// all Presences of that server shrink in proportion.
func countClients(r *Result, presence string) ClientCounts {
	var c ClientCounts
	for name, s := range r.Servers {
		n, late := s.Record.Sessions[presence], s.Record.Late[presence]
		state := r.State(name)
		if s.Live && !state.Bad() {
			late = min(late, n)
			c.Online += n - late
			c.Late += late
			continue
		}
		if total := s.Record.Total(); total > 0 {
			c.Orphaned += n * max(0, total-s.Left) / total
		}
	}
	return c
}
