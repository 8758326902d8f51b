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
	in, mean := f.inService()
	var back []*Server
	for _, s := range in {
		if !s.Returned || suppressed(s) || f.late(s) {
			continue
		}
		if ready := s.Verdict.Since.Add(ReturnAfter); now.Before(ready) {
			d.again(ready)
			continue
		}
		back = append(back, s)
	}
	d.Moves = level(in, back, mean)
	for i := range d.Moves {
		m := &d.Moves[i]
		m.Reason = Returned
		m.Evidence = fmt.Sprintf("%s answers again, and gets its share back: this server holds %d, the mean is %d",
			strings.Join(serverNames(m.Targets), ", "), m.Clients, int(math.Round(mean)))
		// The returned server feels the sum.
		m.Rate = atLeastOne(p.Rate / ReturnPace / float64(len(d.Moves)))
	}
}

// rebalance plans the moves that even the load, when it has been uneven for long.
func (d *Decision) rebalance(now time.Time, p Policy, f *fleet) {
	in, mean := f.inService()
	most, least := 0, math.MaxInt
	var to []*Server
	for _, s := range in {
		most, least = max(most, s.Sessions), min(least, s.Sessions)
		if !f.late(s) && !suppressed(s) {
			to = append(to, s)
		}
	}
	if len(d.Moves) > 0 || float64(most) <= MaxOver*mean || float64(most)-mean < RebalanceLeast || f.unsettled() {
		return
	}
	since := p.Memory.Uneven
	if since.IsZero() {
		since = now
	}
	d.Memory.Uneven = since
	ready := since.Add(RebalanceAfter)
	if last := p.Memory.Rebalanced; !last.IsZero() && ready.Before(last.Add(RebalanceEvery)) {
		ready = last.Add(RebalanceEvery)
	}
	if now.Before(ready) {
		d.again(ready)
		return
	}
	d.Moves = level(in, to, mean)
	if len(d.Moves) > RebalanceRate { // each has at least one client a second
		slices.SortStableFunc(d.Moves, func(a, b Move) int { return b.Count - a.Count })
		d.Moves = d.Moves[:RebalanceRate]
	}
	if len(d.Moves) > 0 {
		d.Memory = Memory{Rebalanced: now}
	}
	for i := range d.Moves {
		m := &d.Moves[i]
		m.Reason = Rebalance
		m.Evidence = fmt.Sprintf("The load has been uneven for %v, from %d to %d clients: this server holds %d, the mean is %d",
			RebalanceAfter, least, most, m.Clients, int(math.Round(mean)))
		m.Rate = atLeastOne(min(RebalanceRate, p.Rate) / float64(len(d.Moves)))
	}
}

// inService are the servers that take clients and are well, and their mean load.
func (f *fleet) inService() (in []*Server, mean float64) {
	total := 0
	for _, s := range f.servers {
		if f.fit(s) {
			in = append(in, s)
			total += s.Sessions
		}
	}
	return in, float64(total) / float64(max(1, len(in)))
}

// unsettled tells whether any server is in trouble, and not yet taken out for
// it: then the load says nothing.
func (f *fleet) unsettled() bool {
	return slices.ContainsFunc(f.servers, func(s *Server) bool {
		return s.Verdict.State != verdict.Alive && !s.Exempt && !s.Out
	})
}

// level plans moves from those of in that hold more than the mean to those of to
// that hold less, at most MaxTargets of these, so that nobody crosses the mean.
// Reason, evidence and rate are left to the caller.
func level(in, to []*Server, mean float64) (moves []Move) {
	var targets []Target
	lacking := 0
	for _, s := range to {
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
		return nil
	}
	part := min(1, float64(lacking)/excess)
	for _, s := range from {
		if count := int((float64(s.Sessions) - mean) * part); count > 0 {
			moves = append(moves, Move{
				Server: s.Name, Incarnation: s.Incarnation, Clients: s.Sessions, Count: count,
				Targets: slices.Clone(targets), FirstWave: firstWave(count),
			})
		}
	}
	return moves
}

func serverNames(l []Target) []string {
	var n []string
	for _, t := range l {
		n = append(n, t.Server)
	}
	return n
}
