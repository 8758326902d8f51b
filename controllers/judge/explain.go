package judge

import (
	"slices"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/explain"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// Explain is what was last held of a server, for people who ask; false for one
// that is not judged.
func (j *Judge) Explain(server string) (explain.Explanation, bool) {
	r := j.Last()
	if r == nil {
		return explain.Explanation{}, false
	}
	for key, p := range r.Populations {
		e, judged := p.evidence[server]
		if !judged {
			continue
		}
		return explain.Explanation{
			Presence: key.String(), Mode: string(p.Presence.Spec.Servers.Failover.Mode),
			World: p.world, Policy: p.policy, Evidence: e, Verdict: p.Judgement.Verdicts[server],
			Brake: p.brake(r),
		}, true
	}
	return explain.Explanation{}, false
}

// Clients are the Presences of clients, "namespace/name", sorted.
func (j *Judge) Clients() []string {
	var all []string
	if r := j.Last(); r != nil {
		for key, p := range r.Populations {
			if p.Subject == v1alpha1.SubjectClients {
				all = append(all, key.String())
			}
		}
	}
	slices.Sort(all)
	return all
}

// brake is the one in force for servers: their own, or that of the nodes.
func (p *Population) brake(r *Result) verdict.Brake { return p.Judgement.Brake.Or(r.Nodes.Brake) }
