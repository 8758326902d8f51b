package sim

import (
	"fmt"
	"slices"

	"github.com/rollcall-dev/rollcall/internal/plan"
)

// Property is something that is promised whatever breaks.
type Property string

// The properties. The first six are watched while a world runs, the others hold
// once everything has been mended for long.
const (
	TwoWitnesses   Property = "no action without two independent witnesses"
	BrakeHolds     Property = "the brake holds"
	FewOut         Property = "at most the allowed servers are out at once"
	BelowCap       Property = "no receiver above its cap"
	NotMovedTwice  Property = "no client is moved twice within a cool-down without a new fault"
	NoFalseOffline Property = "no false offline"
	FailoversEnd   Property = "every Failover ends"
	AllOnline      Property = "when faults end, everyone alive is Online"
	LoadEven       Property = "when faults end, load is within 1.1 of the mean"
)

// Properties are all of them.
func Properties() []Property {
	return []Property{TwoWitnesses, BrakeHolds, FewOut, BelowCap, NotMovedTwice, NoFalseOffline, FailoversEnd, AllOnline, LoadEven}
}

// settled checks what must be so when everything has been mended for long.
func (o *outcome) settled() {
	lost, unfinished, _ := o.w.balance()
	if unfinished > 0 {
		o.breach(FailoversEnd, fmt.Sprintf("%d go on", unfinished))
	}
	if lost > 0 {
		o.breach(AllOnline, fmt.Sprintf("%d clients are not", lost))
	}
	if over := o.w.overload(); over > 0 {
		o.breach(LoadEven, fmt.Sprintf("the most loaded server holds %.0f too many", over))
	}
}

// overload is how many sessions the most loaded server holds above what is even:
// EvenOver times the mean, or RebalanceLeast above it.
func (w *world) overload() float64 {
	loads := make([]int, len(w.servers))
	total := 0
	for _, c := range w.clients {
		if c.state == clientOnline && !c.offline {
			loads[c.server]++
			total++
		}
	}
	mean := float64(total) / float64(len(loads))
	return max(0, float64(slices.Max(loads))-max(plan.EvenOver*mean, mean+plan.RebalanceLeast))
}
