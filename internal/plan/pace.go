package plan

import (
	"math"
	"slices"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// The rule by which a move in progress adapts its pace: additive increase,
// multiplicative decrease (Chiu and Jain, 1989), which converges on what the
// receivers bear, and shares it fairly between moves.
const (
	// PaceEvery is the shortest time between two changes.
	PaceEvery = time.Second
	// PaceStep is by how much the pace grows at a time, in percent of what the
	// move began with, while every receiver answers within half of what is slow.
	PaceStep = 10
	// PaceMost is the greatest pace of a move from a server in trouble, over that
	// which the policy begins with.
	PaceMost = 4
	// PaceChange is the least change, in percent, that is worth a new directive.
	PaceChange = 10
)

// Pace is how fast a move in progress goes, and where to. It begins as what the
// directive says, with At when that was written.
type Pace struct {
	// Rate in clients per second; 0: it stands still.
	Rate    float64
	Targets []Target
	// Held says in words why it stands still; empty: it doesn't.
	Held string
	// Next is when to adjust it again.
	Next time.Time

	// What the next adjustment must be given.

	// Want is the rate that it goes at, or goes on at once nothing holds it.
	Want float64
	// At is when it was last adjusted, and Slow whether a receiver was slow then.
	At   time.Time
	Slow bool
}

// Adjust decides how a move in progress goes on from m.Pace, at most once in
// PaceEvery. active are all moves in progress; m is one of them.
//
// While a receiver is slow it stands still, and then goes on at half its pace.
// While all are known to answer in good time, it grows by a step. It is never above what the
// receivers' room can be filled with in FillTime, nor above PaceMost times the
// policy's rate (or its own, for moves that only even the load), both divided
// among all moves; nor, unless it stands still, below one client a second. So it
// ends: it stands still only while somebody is slow, nobody has room, or the
// brake is on; that has no say where a person drains a server.
//
// A receiver that can take nobody any more is replaced: those who are pending
// are shared out anew, as for a new move. A move that only evens the load stands
// still then, and while clients leave a server in trouble.
func Adjust(now time.Time, p Policy, brake verdict.Brake, m Active, servers []Server, active []Active) Pace {
	last := m.Pace
	if !last.At.IsZero() && now.Before(last.At.Add(PaceEvery)) {
		last.Next = last.At.Add(PaceEvery)
		return last
	}
	p = p.withDefaults()
	others := slices.DeleteFunc(slices.Clone(active), func(a Active) bool { return a.Server == m.Server })
	f := newFleet(p, servers, others)
	f.leaving[m.Server] = f.leaving[m.Server] || empties(m.Reason)

	next := Pace{Targets: last.Targets, Want: last.Want, At: now, Next: now.Add(PaceEvery)}
	base, most := span(p, m.Reason)
	base, most = base/float64(1+f.active), most/float64(1+f.active)
	if next.Want <= 0 {
		next.Want = last.Rate
	}
	if next.Want <= 0 {
		next.Want = base / 2
	}
	if !f.bears(last.Targets) {
		if r, held := f.instead(m); held != "" {
			next.Held = held
		} else {
			next.Targets = r
		}
	}
	worst, known, room := f.state(next.Targets)
	switch {
	case brake.Frozen && m.Reason != Drained:
		next.Held = "frozen: " + brake.Reason
	case !empties(m.Reason) && slices.ContainsFunc(others, func(a Active) bool { return empties(a.Reason) }):
		next.Held = "clients of a server in trouble are moved first"
	case next.Held != "":
	case worst >= f.slow:
		next.Held, next.Slow = "a receiver answers later than "+f.slow.String(), true
		if !last.Slow {
			next.Want /= 2
		}
	case room == 0:
		next.Held = "the receivers are full"
	case known && worst < f.slow/2 && last.Held == "":
		next.Want += base * PaceStep / 100
	}
	next.Want = atLeastOne(min(next.Want, most, float64(room)/FillTime.Seconds()))
	switch change := math.Abs(next.Want - last.Rate); {
	case next.Held != "":
	case change*100 > last.Rate*PaceChange:
		next.Rate = next.Want
	default:
		next.Rate = last.Rate
	}
	return next
}

// span is the pace that a move begins with, were it the only one, and the
// greatest that it may have.
func span(p Policy, reason string) (base, most float64) {
	switch reason {
	case Returned:
		return p.Rate / ReturnPace, p.Rate / ReturnPace
	case Rebalance:
		return min(RebalanceRate, p.Rate), min(RebalanceRate, p.Rate)
	}
	return p.Rate, p.Rate * PaceMost
}

// bears tells whether all targets may still be sent clients, slow or not.
func (f *fleet) bears(targets []Target) bool {
	return len(targets) > 0 && !slices.ContainsFunc(targets, func(t Target) bool {
		s := f.server(t.Server)
		return t.Weight > 0 && (s == nil || !f.fit(s))
	})
}

// instead shares those who are pending out anew.
func (f *fleet) instead(m Active) (targets []Target, held string) {
	if !empties(m.Reason) {
		return nil, "a receiver can take nobody now"
	}
	targets, held, _ = f.receivers().share(m.Pending)
	return targets, held
}

// state is the slowest receiver's answer, whether those of all are known, and
// the room of all of them; a receiver whose capacity is not known has room for
// everybody.
func (f *fleet) state(targets []Target) (worst time.Duration, known bool, room int) {
	known = true
	for _, t := range targets {
		s := f.server(t.Server)
		if s == nil || t.Weight <= 0 {
			continue
		}
		worst, known = max(worst, s.QueueDelay, s.Answer), known && s.Answer > 0
		if s.Capacity == 0 {
			room = math.MaxInt32
		} else if room < math.MaxInt32 {
			room += max(0, s.Capacity-s.Sessions)
		}
	}
	return worst, known, room
}

// server finds one by name; nil: there is none.
func (f *fleet) server(name string) *Server {
	for _, s := range f.servers {
		if s.Name == name {
			return s
		}
	}
	return nil
}
