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

// receivers are Alive, in service, reachable for clients and not slow. A server
// that is merely Suspect gets nobody: it may be the next. So with those that
// fail too often, unless there are no others.
func (f *fleet) receivers() receivers {
	var r, restless receivers
	for _, s := range f.servers {
		switch one := (receiver{s, s.Sessions + f.coming[s.Name]}); {
		case !f.fit(s) || f.late(s):
		case suppressed(s):
			restless = append(restless, one)
		default:
			r = append(r, one)
		}
	}
	if len(r) == 0 {
		return restless
	}
	return r
}

// fit tells whether clients may be sent to a server at all.
func (f *fleet) fit(s *Server) bool {
	return s.Verdict.State == verdict.Alive && !s.Exempt && !s.Out && !f.leaving[s.Name] && s.Address != ""
}

// late tells whether a server is too busy to be sent anybody.
func (f *fleet) late(s *Server) bool { return max(s.QueueDelay, s.Answer) >= f.slow }

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
	most := max(math.Floor(MaxOver*mean), math.Ceil(mean))
	newest, others := r.byRevision()
	first := newest.level(min(clients, newest.rooms(most)))
	rest := others.level(max(0, clients-newest.rooms(first)))
	if rest > most {
		return nil, fmt.Sprintf("the receivers have no room for %d clients below their capacities and %v times their mean", clients, MaxOver), true
	}
	for _, s := range r {
		level := rest
		if s.Newest {
			level = first
		}
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

// byRevision parts those that receive first, during a rollout, from the others;
// without one all are others.
func (r receivers) byRevision() (newest, others receivers) {
	for _, s := range r {
		if s.Newest {
			newest = append(newest, s)
		} else {
			others = append(others, s)
		}
	}
	return newest, others
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

// rooms is how many more clients all of them may hold up to a level.
func (r receivers) rooms(level float64) int {
	n := 0
	for _, s := range r {
		n += s.room(level)
	}
	return n
}

// level is the lowest whole load up to which the receivers have room for so
// many clients; +Inf: there is none.
func (r receivers) level(clients int) float64 {
	fits := func(level int) bool { return r.rooms(float64(level)) >= clients }
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
		r.find(t.Server).load += t.Weight
	}
}

// pace is the rate that the room of the targets bears.
func (r receivers) pace(rate float64, targets []Target) float64 {
	room := 0
	for _, t := range targets {
		s := r.find(t.Server)
		if s.Capacity == 0 {
			return rate
		}
		room += max(0, s.Capacity-s.load)
	}
	return atLeastOne(min(rate, float64(room)/FillTime.Seconds()))
}

// find is the receiver of a name, which is among them.
func (r receivers) find(name string) *receiver {
	i, _ := slices.BinarySearchFunc(r, name, func(s receiver, name string) int { return strings.Compare(s.Name, name) })
	return &r[i]
}
