package judge

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// Result is one judgement of everything. It is never changed once published.
type Result struct {
	World verdict.World
	// Nodes is the judgement on all nodes, whatever Presences select.
	Nodes verdict.Judgement
	// Machines are all nodes there are, by name: read it only.
	Machines map[string]Machine
	// Populations by the names of their Presences.
	Populations map[types.NamespacedName]*Population
	// Servers is what is known of every server by its record.
	Servers map[string]evidence.Server
	// Assignments are who should observe which servers because too few agents can.
	Assignments map[string]store.Assignment
	// pods that some Presence selects, and the verdicts on those that are judged.
	pods     map[string]Pod
	verdicts map[string]verdict.Verdict
}

// Population is one Presence, its members and what was judged.
type Population struct {
	Presence *v1alpha1.Presence
	Subject  string
	// Refused is the reason of Accepted=False and Why its message; empty: it is honoured.
	Refused, Why string
	// Members are the names of Nodes ("node") or Servers ("namespace/pod").
	Members   []string
	Judgement verdict.Judgement
	// Calibration is what Servers usually take to answer.
	Calibration verdict.Calibration
	// Pods and Decision are those of Servers.
	Pods     []Pod
	Decision plan.Decision
	// Diversion is who leads clients to servers that are not heartbeat servers.
	Diversion Diversion
	// Paid are servers, if any, that a share was due to and is not any more.
	Paid []string
	// world, policy and evidence are what servers were judged on.
	world    verdict.World
	policy   verdict.ServerPolicy
	evidence map[string]verdict.ServerEvidence
	// plans, fleet and active are what was planned on.
	plans  plan.Policy
	fleet  []plan.Server
	active []plan.Active
	// Counts are those of Clients.
	Counts ClientCounts
	// Advised are the longest intervals that Clients' connections survive, by kind
	// of network, as they have told their servers.
	Advised map[string]time.Duration
}

// ClientCounts are the clients of one Presence by state.
type ClientCounts struct {
	Online, Late, Orphaned int
}

// Next is when to judge again even if nothing changes; zero: only then.
func (r *Result) next() time.Time {
	next := r.Nodes.Next
	for _, p := range r.Populations {
		next = sooner(sooner(next, p.Judgement.Next), p.Decision.Next)
	}
	return next
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Of finds the population of a Presence.
func (r *Result) Of(namespace, name string) *Population {
	return r.Populations[types.NamespacedName{Namespace: namespace, Name: name}]
}

// Pod finds a server among those that a Presence selects.
func (r *Result) Pod(server string) (Pod, bool) {
	p, ok := r.pods[server]
	return p, ok
}

// State is the verdict on a server; Unknown where no Presence selects it.
func (r *Result) State(server string) verdict.State {
	if v, judged := r.verdicts[server]; judged {
		return v.State
	}
	return verdict.Unknown
}
