package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// bringBack plans the moves that give readmitted servers their share: from each
// server above the mean what it has too much, and no more than they lack.
func (d *Decision) bringBack(now time.Time, p Policy, f *fleet) {
	var in, back []*Server
	total := 0
	for _, s := range f.servers {
		if s.Verdict.State != verdict.Alive || s.Exempt || s.Out || s.Address == "" {
			continue
		}
		in = append(in, s)
		total += s.Sessions
		if !s.Returned || busy(s) {
			continue
		}
		if ready := s.Verdict.Since.Add(ReturnAfter); now.Before(ready) {
			if d.Next.IsZero() || ready.Before(d.Next) {
				d.Next = ready
			}
			continue
		}
		back = append(back, s)
	}
	if len(back) == 0 {
		return
	}
	mean := float64(total) / float64(len(in))
	var targets []Target
	lacking := 0
	for _, s := range back {
		up := mean
		if s.Capacity > 0 {
			up = min(up, float64(s.Capacity))
		}
		if room := int(up) - s.Sessions; room > 0 && len(targets) < MaxTargets {
			targets = append(targets, Target{Server: s.Name, Address: s.Address, Weight: room})
			lacking += room
		}
	}
	var from []*Server
	excess := 0.0
	for _, s := range in {
		if over := float64(s.Sessions) - mean; over >= 1 && over*100 >= ReturnMin*mean {
			from = append(from, s)
			excess += over
		}
	}
	if lacking == 0 || len(from) == 0 {
		return
	}
	part := min(1, float64(lacking)/excess)
	for _, s := range from {
		count := int((float64(s.Sessions) - mean) * part)
		if count == 0 {
			continue
		}
		d.Moves = append(d.Moves, Move{
			Server: s.Name, Incarnation: s.Incarnation, Reason: Returned, Clients: s.Sessions, Count: count,
			Evidence: fmt.Sprintf("%s answers again, and gets its share back: this server holds %d, the mean is %d",
				strings.Join(serverNames(targets), ", "), s.Sessions, int(math.Round(mean))),
			Targets:   slices.Clone(targets),
			FirstWave: firstWave(count),
		})
	}
	// The returned server feels the sum.
	for i := range d.Moves {
		d.Moves[i].Rate = atLeastOne(p.Rate / ReturnPace / float64(len(d.Moves)))
	}
}

func serverNames(l []Target) []string {
	var n []string
	for _, t := range l {
		n = append(n, t.Server)
	}
	return n
}
