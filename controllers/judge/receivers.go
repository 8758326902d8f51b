package judge

import (
	"slices"

	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// receivers asks the plan where the clients of a server would go if it, and
// nothing else, had to be emptied now: what a person who drains it wants to
// know. blocked says in words why nowhere.
func receivers(pop *Population, server string, clients int, rate float64) (targets []plan.Target, pace float64, blocked string) {
	fleet := slices.Clone(pop.fleet)
	for i := range fleet {
		fleet[i].Verdict.Proven = false
		if fleet[i].Name == server {
			fleet[i].Sessions = clients
			fleet[i].Exempt, fleet[i].Out = false, false
			fleet[i].Verdict = verdict.Verdict{State: verdict.Overloaded, Proven: true}
		}
	}
	all := plan.Policy{Mode: plan.Automatic, MaxServers: func(total int) int { return total }, Rate: rate}
	d := plan.Failovers(pop.Judgement.Brake.Since, all, verdict.Brake{}, fleet, nil)
	for _, m := range d.Moves {
		if m.Server == server {
			return m.Targets, m.Rate, ""
		}
	}
	return nil, rate, d.Blocked
}
