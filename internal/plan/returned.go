package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// remember is what a decision must know of those before it, with what it sees
// itself. The times of an even or uneven load are left to rebalance.
func (f *fleet) remember(now time.Time, m Memory, brake verdict.Brake, active []Active) Memory {
	served := map[string]bool{}
	for _, a := range active {
		for _, t := range a.Targets {
			served[t.Server] = served[t.Server] || a.Reason == Returned
		}
	}
	came := map[string]time.Time{}
	shaken := m.Shaken || brake.Frozen
	for _, s := range f.servers {
		at, known := m.Came[s.Name]
		switch {
		case f.away(s):
			came[s.Name], shaken = time.Time{}, true
		case known && !f.fit(s): // in doubt
			came[s.Name] = time.Time{}
		case known && at.IsZero():
			came[s.Name] = now
		case known && !served[s.Name]:
			came[s.Name] = at
		}
	}
	return Memory{Rebalanced: m.Rebalanced, Shaken: shaken, Came: came}
}

// away tells whether a server is out of service, as far as is known. One of which
// nothing is known is not: so are all at the beginning, and one that is only cut off
// from the store keeps its clients.
func (f *fleet) away(s *Server) bool {
	return s.Exempt || s.Out || f.leaving[s.Name] || s.Verdict.State.Bad()
}

// bringBack plans the moves that give servers that are back in service their
// share: from each server above the mean what it has too much, and no more than
// they lack.
func (d *Decision) bringBack(now time.Time, p Policy, f *fleet) {
	in, mean := f.inService()
	var back []*Server
	for _, s := range in {
		came, recent := d.Memory.Came[s.Name]
		if !s.Returned && !recent || suppressed(s) || f.late(s) {
			continue
		}
		ready := s.Verdict.Since
		if came.After(ready) {
			ready = came
		}
		if ready = ready.Add(ReturnAfter); now.Before(ready) {
			d.again(ready)
			continue
		}
		back = append(back, s)
	}
	if d.Moves = level(in, back, mean); len(d.Moves) == 0 {
		for _, s := range back {
			delete(d.Memory.Came, s.Name) // it has its share
		}
	}
	for i := range d.Moves {
		m := &d.Moves[i]
		m.Reason = Returned
		m.Evidence = fmt.Sprintf("%s is back in service, and gets its share: this server holds %d, the mean is %d",
			strings.Join(serverNames(m.Targets), ", "), m.Clients, int(math.Round(mean)))
		// The returned server feels the sum.
		m.Rate = atLeastOne(p.Rate / ReturnPace / float64(len(d.Moves)))
	}
}

// rebalance plans the moves that even the load, when it has been uneven for long
// and everybody is well.
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
	limit := MaxOver
	if d.Memory.Shaken {
		limit = EvenOver
	}
	if float64(most) <= limit*mean || float64(most)-mean < RebalanceLeast {
		d.Memory.Even = since(p.Memory.Even, now)
		if !now.Before(d.Memory.Even.Add(RebalanceAfter)) {
			d.Memory.Shaken = false
		}
		return
	}
	d.Memory.Uneven = since(p.Memory.Uneven, now)
	ready := d.Memory.Uneven.Add(RebalanceAfter)
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
		d.Memory.Uneven, d.Memory.Rebalanced, d.Memory.Shaken = time.Time{}, now, false
	}
	for i := range d.Moves {
		m := &d.Moves[i]
		m.Reason = Rebalance
		m.Evidence = fmt.Sprintf("The load has been uneven for %v, from %d to %d clients: this server holds %d, the mean is %d",
			RebalanceAfter, least, most, m.Clients, int(math.Round(mean)))
		m.Rate = atLeastOne(min(RebalanceRate, p.Rate) / float64(len(d.Moves)))
	}
}

// since is a time that is known, or now.
func since(at, now time.Time) time.Time {
	if at.IsZero() {
		return now
	}
	return at
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
