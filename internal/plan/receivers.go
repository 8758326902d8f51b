package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// receivers are the servers that can take clients, with the load that moves in
// progress bring them already counted.
type receivers []receiver

type receiver struct {
	*Server
	load int // sessions, and those that are coming
}

// receivers are Alive, in service, reachable for clients and not busy. A server
// that is merely Suspect gets nobody: it may be the next.
func (f *fleet) receivers() receivers {
	var r receivers
	for _, s := range f.servers {
		if s.Verdict.State == verdict.Alive && !s.Exempt && !s.Out && !f.leaving[s.Name] && s.Address != "" && !busy(s) {
			r = append(r, receiver{s, s.Sessions + f.coming[s.Name]})
		}
	}
	return r
}

func busy(s *Server) bool { return s.QueueDelay >= BusyAfter }

// share divides clients over the receivers, so that their loads after the move
// are as even as they can be: none takes more than the room it has up to the
// common level, which is at most their mean, or where capacities are in the
// way, MaxOver of it. Weights are that room in clients. blocked says why it
// can't be done; full, that it is for want of room.
func (r receivers) share(clients int) (targets []Target, blocked string, full bool) {
	if len(r) == 0 {
		return nil, "no other server is well enough to receive", false
	}
	used, free, known := 0, 0, 0
	for _, s := range r {
		used += s.load
		if s.Capacity > 0 {
			known += s.Capacity
			free += max(0, s.Capacity-s.load)
		}
	}
	if known > 0 && free*100 < MinHeadroom*known {
		return nil, fmt.Sprintf("the receivers have %d %% of their capacity left, and %d %% are needed", free*100/known, MinHeadroom), true
	}

	mean := float64(used+clients) / float64(len(r))
	r = r.roomiest(MaxOver * mean)
	level := r.level(clients)
	if level > math.Floor(MaxOver*mean) && level > math.Ceil(mean) {
		return nil, fmt.Sprintf("the receivers have no room for %d clients below their capacities and %v times their mean", clients, MaxOver), true
	}
	for _, s := range r {
		if room := s.room(level); room > 0 {
			targets = append(targets, Target{Server: s.Name, Address: s.Address, Weight: room})
		}
	}
	if len(targets) == 0 { // nobody to move: new clients still need to know where to go
		for _, s := range r {
			targets = append(targets, Target{Server: s.Name, Address: s.Address, Weight: 1})
		}
	}
	return targets, "", false
}

// roomiest are the MaxTargets receivers with the most room up to a level, still by name.
func (r receivers) roomiest(level float64) receivers {
	if len(r) <= MaxTargets {
		return r
	}
	rooms := make([]int, len(r))
	for i, s := range r {
		rooms[i] = s.room(level)
	}
	slices.Sort(rooms)
	least := rooms[len(rooms)-MaxTargets]
	// Of those with the least room that still belongs, so many as there are places.
	above, _ := slices.BinarySearch(rooms, least+1)
	last := MaxTargets - (len(rooms) - above)
	var chosen receivers
	for _, s := range r {
		switch room := s.room(level); {
		case room > least:
			chosen = append(chosen, s)
		case room == least && last > 0:
			chosen = append(chosen, s)
			last--
		}
	}
	return chosen
}

// room is how many more clients s may hold up to a level.
func (s receiver) room(level float64) int {
	if s.Capacity > 0 {
		level = min(level, float64(s.Capacity))
	}
	return max(0, int(level)-s.load)
}

// level is the lowest whole load up to which the receivers have room for so
// many clients; +Inf: there is none.
func (r receivers) level(clients int) float64 {
	fits := func(level int) bool {
		room := 0
		for _, s := range r {
			room += s.room(float64(level))
		}
		return room >= clients
	}
	high := 0
	for _, s := range r {
		high = max(high, s.load)
	}
	high += clients
	if !fits(high) {
		return math.Inf(1)
	}
	low := 0 // the lowest level that may fit
	for low < high {
		if mid := (low + high) / 2; fits(mid) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return float64(low)
}

// take counts a move as on its way, for those that are planned after it.
func (r receivers) take(targets []Target) {
	for _, t := range targets {
		if i, ok := slices.BinarySearchFunc(r, t.Server, func(s receiver, name string) int { return strings.Compare(s.Name, name) }); ok {
			r[i].load += t.Weight
		}
	}
}

// pace is the rate that the receivers' room bears.
func (r receivers) pace(rate float64) float64 {
	room := 0
	for _, s := range r {
		if s.Capacity == 0 {
			return rate
		}
		room += max(0, s.Capacity-s.load)
	}
	return atLeastOne(min(rate, float64(room)/FillTime.Seconds()))
}
