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
	// BusyAfter is the queue delay at which a server receives nobody: half of
	// the default time in which it should answer.
	BusyAfter = 250 * time.Millisecond
	// MaxTargets is how many receivers a move has at most, those with the most
	// room: the API's limit.
	MaxTargets = 64
	// ReturnAfter is how long a readmitted server is Alive before clients are
	// sent back to it: its directive has been withdrawn by then, and new ones
	// have come by themselves.
	ReturnAfter = 2 * time.Second
	// ReturnPace divides the rate at which a returned server is filled.
	ReturnPace = 5
	// ReturnMin is the excess over the mean, in percent of it, under which
	// clients stay where they are.
	ReturnMin = 5
)

// Failovers decides what to do now. brake is the servers' brake or the nodes':
// see verdict.Brake.Or. A frozen brake forbids everything, readmission too.
//
// Clients leave a server only while its bad verdict is Proven, it is neither
// exempt nor out already, at most MaxServers are out with it, and the others
// have room. One decision may hold several moves; each counts with those before
// it. active are all Failovers that are not finished; while one is, no
// server gets its share back.
func Failovers(now time.Time, p Policy, brake verdict.Brake, servers []Server, active []Active) Decision {
	if p.Rate <= 0 {
		p.Rate = DefaultRate
	}
	if p.MaxServers == nil {
		p.MaxServers = func(total int) int { return total / 10 }
	}
	d := Decision{}
	f := newFleet(p.Mode, servers, active)
	faults := f.faults(p.Mode)
	readmit := f.readmit()

	if brake.Frozen {
		if n := len(faults) + len(readmit); n > 0 {
			d.Blocked = fmt.Sprintf("Frozen (%s): %s", brake.Reason, brake.Message)
		}
		return d
	}
	d.Readmit = readmit
	d.move(p, f, faults)
	if p.Mode == Automatic && len(d.Moves) == 0 && len(active) == 0 {
		d.bringBack(now, p, f)
	}
	return d
}

// Drain says where the clients of one server go when a person takes it out: the
// brake, its verdict and MaxServers have no say in that, the receivers' room has.
// blocked says in words why nowhere; empty: the Move is good.
func Drain(p Policy, server string, servers []Server, active []Active) (m Move, blocked string) {
	if p.Rate <= 0 {
		p.Rate = DefaultRate
	}
	f := newFleet(p.Mode, servers, slices.DeleteFunc(slices.Clone(active), func(a Active) bool { return a.Server == server }))
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
		Targets: targets, Rate: atLeastOne(r.pace(p.Rate) / float64(1+f.active)), FirstWave: firstWave(s.Sessions),
	}, ""
}

// fleet is the plan's own view of all servers, by name.
type fleet struct {
	servers []*Server // sorted by name, and never changed
	leaving map[string]bool
	out     int            // servers that are out, or about to be
	coming  map[string]int // clients that moves in progress still bring
	active  int
}

func newFleet(m Mode, servers []Server, active []Active) *fleet {
	f := &fleet{servers: make([]*Server, len(servers)), leaving: map[string]bool{}, coming: map[string]int{}, active: len(active)}
	for i := range servers {
		f.servers[i] = &servers[i]
	}
	slices.SortFunc(f.servers, func(a, b *Server) int { return strings.Compare(a.Name, b.Name) })
	for _, a := range active {
		if a.Reason != Returned { // that one leaves the server where it is
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
		if s.Out || f.leaving[s.Name] || m == Advise && s.Advised && s.Verdict.State.Bad() {
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
		if v.State.Bad() && v.Proven && !s.Exempt && !s.Out && !f.leaving[s.Name] && (m != Advise || !s.Advised) {
			l = append(l, s)
		}
	}
	slices.SortStableFunc(l, func(a, b *Server) int { return a.Verdict.Detected.Compare(b.Verdict.Detected) })
	return l
}

// readmit are the servers to let in again: out, trusted again by the verdict,
// and nobody has them taken out on purpose. So it is in every mode: what we
// took out must not stay out because somebody switched failover off.
func (f *fleet) readmit() []string {
	var l []string
	for _, s := range f.servers {
		if s.Out && s.Verdict.State == verdict.Alive && !s.Exempt && !s.Drained && !f.leaving[s.Name] {
			l = append(l, s.Name)
		}
	}
	return l
}

// move plans one move for each fault, as far as the limits allow.
func (d *Decision) move(p Policy, f *fleet, faults []*Server) {
	allowed := max(1, p.MaxServers(len(f.servers)))
	r := f.receivers() // none of them is among the faults
	for _, s := range faults {
		if f.out >= allowed {
			d.block("%s stays as it is: out already are %d, and at most %d may be", s.Name, f.out, allowed)
			continue
		}
		targets, blocked, full := r.share(s.Sessions)
		if blocked != "" {
			d.NoHeadroom = d.NoHeadroom || full
			d.block("%s keeps its clients: %s", s.Name, blocked)
			continue
		}
		f.out++
		d.Moves = append(d.Moves, Move{
			Server: s.Name, Incarnation: s.Incarnation, Reason: string(s.Verdict.State), Evidence: s.Verdict.Message,
			Clients: s.Sessions, Targets: targets, Rate: r.pace(p.Rate), FirstWave: firstWave(s.Sessions),
			Detected: s.Verdict.Detected, AdviseOnly: p.Mode == Advise,
		})
		r.take(targets)
	}
	// The pace is one for all: receivers feel the sum.
	for i := range d.Moves {
		d.Moves[i].Rate = atLeastOne(d.Moves[i].Rate / float64(len(d.Moves)+f.active))
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
