package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// Reasons of a Move: those of the API's FailoverReason that a plan can have.
const (
	Overloaded = "Overloaded"
	Dead       = "Dead"
	Returned   = "Returned"
	Rebalance  = "Rebalance"
	Drained    = "Drain"
)

// Thresholds that are no policy.
const (
	// DefaultRate stands in for a policy's zero, in clients per second.
	DefaultRate = 500
	// FirstWave is the share of the clients, in percent, that is moved at once
	// to see how the receivers bear it; at least one client.
	FirstWave = 5
	// MaxOver is the greatest load of a receiver after the move, over the mean.
	MaxOver = 1.25
	// MinHeadroom is the least free share, in percent, of the receivers'
	// capacity at which anything is moved to them.
	MinHeadroom = 20
	// FillTime is the shortest time in which the receivers' room may be filled:
	// long enough for a dozen of their answers to say that it is too fast.
	FillTime = 5 * time.Second
	// RetryAfter is when newcomers may come back to a server that turns them away.
	RetryAfter = 10 * time.Second
	// MaxTargets is how many receivers a move has at most, those with the most
	// room: the API's limit.
	MaxTargets = 64
	// ReturnAfter is how long a server is back in service, and Alive, before
	// clients are sent back to it: its directive has been withdrawn by then, and new
	// ones have come by themselves.
	ReturnAfter = 2 * time.Second
	// ReturnPace divides the rate at which a returned server is filled.
	ReturnPace = 5
	// ReturnMin is the excess over the mean, in percent of it, under which
	// clients stay where they are.
	ReturnMin = 5
	// EvenOver stands in for MaxOver, once, after a server was in trouble: what a
	// fault leaves is evened further than what chance brings.
	EvenOver = 1.1
	// RebalanceAfter is how long the most loaded server must hold MaxOver times
	// the mean, and RebalanceLeast more than it, before its excess is moved:
	// RebalanceRate clients a second in all, once in RebalanceEvery.
	RebalanceAfter = 60 * time.Second
	RebalanceLeast = 10
	RebalanceRate  = 50
	RebalanceEvery = 10 * time.Minute
)

// Failovers decides what to do now. brake is the servers' brake or the nodes':
// see verdict.Brake.Or. A frozen brake forbids everything, readmission too, but for
// servers that can't turn anybody away (Stay): those that carry the load of one that is
// out and well would be lost for want of it.
//
// Clients leave a server only while its bad verdict is Proven, it is neither
// exempt nor out already, at most MaxServers are out with it, and the others
// have room. One decision may hold several moves; each counts with those before
// it. active are all Failovers that are not finished; while one is, no
// server gets its share back.
func Failovers(now time.Time, p Policy, brake verdict.Brake, servers []Server, active []Active) Decision {
	p = p.withDefaults()
	f := newFleet(p, servers, active)
	d := Decision{Memory: f.remember(now, p.Memory, brake, active)}
	faults := f.faults(p.Mode)
	readmit, restless := f.readmit(p.Mode)

	if brake.Frozen {
		if n := len(faults) + len(readmit); n > 0 {
			d.Blocked = fmt.Sprintf("Frozen (%s): %s", brake.Reason, brake.Message)
		}
		if p.Stay && (brake.Reason == verdict.BrakeTooManyLost || brake.Reason == verdict.BrakeTooFewHealthy) {
			d.Readmit = readmit
		}
		d.keepShedding(p.Mode, f)
		return d
	}
	d.Readmit = readmit
	d.restart(now, p, f)
	stuck := d.move(p, f, faults)
	d.keepShedding(p.Mode, f)
	d.release(f, restless, stuck)
	if p.Mode == Automatic && !p.Stay && len(d.Moves) == 0 && len(active) == 0 && len(faults) == 0 {
		d.bringBack(now, p, f)
		if len(d.Moves) == 0 && !f.unsettled() {
			d.rebalance(now, p, f)
		}
	}
	return d
}

// Drain says where the clients of one server go when a person takes it out: the
// brake, its verdict and MaxServers have no say in that, the receivers' room has.
// blocked says in words why nowhere; empty: the Move is good.
func Drain(p Policy, server string, servers []Server, active []Active) (m Move, blocked string) {
	p = p.withDefaults()
	f := newFleet(p, servers, slices.DeleteFunc(slices.Clone(active), func(a Active) bool { return a.Server == server }))
	i := slices.IndexFunc(f.servers, func(s *Server) bool { return s.Name == server })
	if i < 0 {
		return Move{}, "there is no server " + server
	}
	f.leaving[server] = true
	s, r := f.servers[i], f.receivers()
	targets, blocked, _ := r.share(s.Sessions)
	if blocked != "" {
		return Move{}, blocked
	}
	return Move{
		Server: s.Name, Incarnation: s.Incarnation, Reason: Drained, Evidence: "A person drains it", Clients: s.Sessions,
		Targets: targets, Rate: atLeastOne(r.pace(p.Rate, targets) / float64(1+f.active)), FirstWave: firstWave(s.Sessions),
	}, ""
}

// fleet is the plan's own view of all servers, by name.
type fleet struct {
	slow    time.Duration // answers that take so long are slow
	servers []*Server     // sorted by name, and never changed
	leaving map[string]bool
	out     int            // servers that are out, or about to be
	coming  map[string]int // clients that moves in progress still bring
	active  int
}

func newFleet(p Policy, servers []Server, active []Active) *fleet {
	f := &fleet{slow: p.AnswerTime / 2, servers: make([]*Server, len(servers)), leaving: map[string]bool{}, coming: map[string]int{}, active: len(active)}
	for i := range servers {
		f.servers[i] = &servers[i]
	}
	slices.SortFunc(f.servers, func(a, b *Server) int { return strings.Compare(a.Name, b.Name) })
	for _, a := range active {
		if empties(a.Reason) {
			f.leaving[a.Server] = true
		}
		weights := 0
		for _, t := range a.Targets {
			weights += max(t.Weight, 0)
		}
		for _, t := range a.Targets {
			if weights > 0 && t.Weight > 0 {
				f.coming[t.Server] += (a.Pending*t.Weight + weights - 1) / weights
			}
		}
	}
	for _, s := range f.servers {
		if s.Out || f.leaving[s.Name] || p.Mode == Advise && s.Advised && s.Verdict.State.Bad() {
			f.out++
		}
	}
	return f
}

// faults are the servers to move clients from, the oldest trouble first.
func (f *fleet) faults(m Mode) []*Server {
	if m != Automatic && m != Advise {
		return nil
	}
	var l []*Server
	for _, s := range f.servers {
		v := &s.Verdict
		if v.State.Bad() && v.Proven && !s.Exempt && !s.Astray && !s.Out && !f.leaving[s.Name] && (m != Advise || !s.Advised) {
			l = append(l, s)
		}
	}
	slices.SortStableFunc(l, func(a, b *Server) int { return a.Verdict.Detected.Compare(b.Verdict.Detected) })
	return l
}

// empties tells whether a move takes its server out; the others only give some
// of its clients away.
func empties(reason string) bool { return reason != Returned && reason != Rebalance }

// readmit are the servers to let in again: out, trusted again by the verdict,
// and nobody has them taken out on purpose. So it is in every mode: what we
// took out must not stay out because somebody switched failover off. Those that
// fail too often are apart.
func (f *fleet) readmit(m Mode) (well []string, restless []*Server) {
	for _, s := range f.servers {
		switch {
		case !s.Out || s.Verdict.State != verdict.Alive || s.Exempt || s.Drained || f.leaving[s.Name]:
		case m == Automatic && suppressed(s):
			restless = append(restless, s)
		default:
			well = append(well, s.Name)
		}
	}
	return well, restless
}

// suppressed tells whether a server fails too often.
func suppressed(s *Server) bool { return !s.Verdict.Suppressed.IsZero() }

// release lets one suppressed server in where it is needed: somebody's clients
// are stuck for want of room or of a place, or nobody else is in service. Of
// several it is the one that would be let in first.
func (d *Decision) release(f *fleet, restless []*Server, stuck bool) {
	if len(restless) == 0 {
		return
	}
	slices.SortStableFunc(restless, func(a, b *Server) int { return a.Verdict.Suppressed.Compare(b.Verdict.Suppressed) })
	if stuck || len(d.Readmit) == 0 && !f.serving() {
		d.Readmit = append(d.Readmit, restless[0].Name)
		slices.Sort(d.Readmit)
		restless = restless[1:]
	}
	for _, s := range restless {
		d.block("%s is not let in again before %s: it fails too often", s.Name, s.Verdict.Suppressed.UTC().Format("15:04:05 MST"))
	}
}

// serving tells whether any server that is well takes clients.
func (f *fleet) serving() bool {
	return slices.ContainsFunc(f.servers, func(s *Server) bool {
		return s.Verdict.State == verdict.Alive && !s.Exempt && !s.Out && !f.leaving[s.Name]
	})
}

// move plans one move for each fault, as far as the limits allow. stuck: a
// server that is out might change that.
func (d *Decision) move(p Policy, f *fleet, faults []*Server) (stuck bool) {
	allowed := max(1, p.MaxServers(len(f.servers)))
	r := f.receivers() // none of them is among the faults
	for _, s := range faults {
		if f.out >= allowed {
			stuck = true
			d.block("%s stays as it is: out already are %d, and at most %d may be", s.Name, f.out, allowed)
			continue
		}
		targets, blocked, full := r.share(s.Sessions)
		if blocked != "" {
			stuck = true
			d.NoHeadroom = d.NoHeadroom || full
			if full && p.Mode == Automatic && s.Verdict.State == verdict.Overloaded {
				d.shed(s, blocked)
			}
			d.block("%s keeps its clients: %s", s.Name, blocked)
			continue
		}
		f.out++
		d.Moves = append(d.Moves, Move{
			Server: s.Name, Incarnation: s.Incarnation, Reason: string(s.Verdict.State), Evidence: s.Verdict.Message,
			Clients: s.Sessions, Targets: targets, Rate: r.pace(p.Rate, targets), FirstWave: firstWave(s.Sessions),
			Detected: s.Verdict.Detected, AdviseOnly: p.Mode == Advise,
		})
		r.take(targets)
	}
	// The pace is one for all: receivers feel the sum.
	for i := range d.Moves {
		d.Moves[i].Rate = atLeastOne(d.Moves[i].Rate / float64(len(d.Moves)+f.active))
	}
	return stuck
}

// restart plans the last resort: a server that has been taken out, and whose clients
// are gone as far as they can be, answers nobody any more. Nobody is worse off for it.
// One that is dead has nobody to end.
func (d *Decision) restart(now time.Time, p Policy, f *fleet) {
	if p.Mode != Automatic || p.RestartAfter <= 0 {
		return
	}
	for _, s := range f.servers {
		if !s.Out || s.Exempt || s.Drained || f.leaving[s.Name] || s.Verdict.State != verdict.Overloaded || !s.Verdict.Proven {
			continue
		}
		if at := s.Verdict.Since.Add(p.RestartAfter); now.Before(at) {
			d.again(at)
		} else {
			d.Restart = append(d.Restart, s.Name)
		}
	}
}

func (d *Decision) shed(s *Server, why string) {
	d.Shed = append(d.Shed, Shed{Server: s.Name, Incarnation: s.Incarnation, RetryAfter: RetryAfter, Why: why})
}

// keepShedding has servers that turn newcomers away go on until they have
// recovered or their clients are moved, even where nothing new is done.
func (d *Decision) keepShedding(m Mode, f *fleet) {
	for _, s := range f.servers {
		decided := func(move Move) bool { return move.Server == s.Name }
		listed := func(shed Shed) bool { return shed.Server == s.Name }
		if m == Automatic && s.Shedding && s.Verdict.State == verdict.Overloaded && !s.Exempt && !s.Out && !f.leaving[s.Name] &&
			!slices.ContainsFunc(d.Moves, decided) && !slices.ContainsFunc(d.Shed, listed) {
			d.shed(s, "it has not recovered, and its clients have not been moved")
		}
	}
	slices.SortFunc(d.Shed, func(a, b Shed) int { return strings.Compare(a.Server, b.Server) })
}

// again asks to look again at a moment.
func (d *Decision) again(at time.Time) {
	if d.Next.IsZero() || at.Before(d.Next) {
		d.Next = at
	}
}

func (d *Decision) block(format string, args ...any) {
	if d.Blocked != "" {
		d.Blocked += "; "
	}
	d.Blocked += fmt.Sprintf(format, args...)
}

func firstWave(clients int) int {
	return min(clients, max(1, clients*FirstWave/100))
}

// atLeastOne keeps a pace at one client per second or more, or a move never ends.
func atLeastOne(rate float64) float64 { return max(1, math.Floor(rate)) }
