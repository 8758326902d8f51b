package judge

import (
	"slices"

	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/plan"
)

// receivers asks the plan where so many clients of a server would go now.
func receivers(pop *Population, server string, clients int) failover.Choice {
	fleet := slices.Clone(pop.fleet)
	for i := range fleet {
		if fleet[i].Name == server {
			fleet[i].Sessions = clients
		}
	}
	m, blocked := plan.Drain(pop.plans, server, fleet, pop.active)
	return failover.Choice{Targets: m.Targets, Rate: m.Rate, FirstWave: m.FirstWave, Blocked: blocked}
}
