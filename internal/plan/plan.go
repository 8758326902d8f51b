// Package plan turns verdicts and load into moves: which servers' clients, to
// which servers, how many and how fast. It is pure, like internal/verdict.
//
// Where the rules leave a choice:
//
//   - A server that fails too often (verdict.Verdict.Suppressed) stays out after
//     it has recovered, and is sent nobody; but not where nobody else is in
//     service, nor while another's clients wait for want of room or of a place.
//   - A move in progress adapts its pace to its receivers (Adjust), and stands
//     still while the brake is on, while they are slow, and, if it only
//     evens the load, while clients of a server in trouble are moved.
//   - Without headroom the clients of an overloaded server stay, and it turns
//     newcomers away for a while. One that is dead needs no telling.
//   - A server that comes into service, or back to it, gets its share at once
//     (in a ramp), whoever took it away: a Failover, a rollout, a crash, nobody.
//   - The load is only evened in the mode Automatic, and in peace: where it has
//     long been MaxOver of the mean, or EvenOver after a server was in trouble.
package plan

import (
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// Mode says what may be done.
type Mode string

// The modes, as in the API.
const (
	Automatic Mode = "Automatic"
	Advise    Mode = "Advise"
	Off       Mode = "Off"
)

// Policy bounds the moves.
type Policy struct {
	Mode Mode
	// MaxServers may be out at once, of so many; nil: 10 %; at least 1 in any case.
	MaxServers func(total int) int
	// Rate is clients per second to begin with, over all moves; zero: DefaultRate.
	Rate float64
	// AnswerTime is the longest time in which a healthy server answers; zero:
	// verdict.DefaultAnswerTime. At half of it a receiver is slow.
	AnswerTime time.Duration
	// Stay: clients leave servers in trouble only, because the others could not tell
	// theirs to go: nobody is sent back to a server, and the load is not evened.
	Stay bool
	// RestartAfter is how long a server that is out must have been overloaded for its
	// process to be ended; zero: never.
	RestartAfter time.Duration
	// Memory is that of the last Decision, handed back; zero at the first.
	Memory Memory
}

// Memory is what a decision must know of those before it.
type Memory struct {
	// Uneven is since when the load has been uneven without a break, in peace, and
	// Even since when it has been even; zero: it is not. Rebalanced is when it was
	// last evened; zero: never.
	Uneven, Even, Rebalanced time.Time
	// Shaken: a server was in trouble, or everything was Frozen, since the load
	// was last found even for long, or was evened.
	Shaken bool
	// Came are servers that were seen away from service and have not had their
	// share since: when they came back; zero: not yet. Never changed, but replaced.
	Came map[string]time.Time
}

func (p Policy) withDefaults() Policy {
	if p.Rate <= 0 {
		p.Rate = DefaultRate
	}
	if p.AnswerTime <= 0 {
		p.AnswerTime = verdict.DefaultAnswerTime
	}
	if p.MaxServers == nil {
		p.MaxServers = func(total int) int { return total / 10 }
	}
	return p
}

// Server is one server as the plan sees it.
type Server struct {
	Name        string // "namespace/pod"
	Incarnation string
	Address     string // where clients reach it; empty: not known, so it can't receive
	Sessions    int
	Capacity    int // 0: not known
	Verdict     verdict.Verdict
	// Exempt servers (starting, terminating, paused) neither lose nor receive clients by plan.
	Exempt bool
	// Astray: its clients would come back to it, so none are moved from it.
	Astray bool
	// Out: a Failover has taken it out, and it has not been let in again.
	Out bool
	// Drained: a person took it out (a Drain Failover that still exists): it is
	// not readmitted by plan.
	Drained bool
	// Returned: it was readmitted after a Failover, and no Returned Failover
	// has brought its share back yet.
	Returned bool
	// Advised: a Failover that only advises was recorded for the present fault.
	Advised bool
	// QueueDelay is the server's own word on its work path, and Answer the median
	// time in which its observers get answers; zero: not known.
	QueueDelay, Answer time.Duration
	// Shedding: a directive stands by which it turns newcomers away.
	Shedding bool
	// Newest: its pod is of the newest revision. While some are and others are
	// not there is a rollout, and the newest receive first: the others go next.
	Newest bool
}

// Active is a Failover that is not finished.
type Active struct {
	Name    string // of the Failover
	Server  string
	Reason  string
	Started time.Time
	// Pending clients are still expected at Targets; zero and nil: not known.
	Pending int
	Targets []Target
	// Pace is what was last adjusted: for Adjust alone.
	Pace Pace
}

// Target is a receiver and its part.
type Target struct {
	Server, Address string
	Weight          int
}

// Move is one decision: it becomes a Failover.
type Move struct {
	Server, Incarnation string
	Reason              string // an api FailoverReason
	Evidence            string
	Clients             int // sessions held when decided
	// Count limits how many are moved; 0: all, and the server accepts no more.
	Count     int
	Targets   []Target
	Rate      float64
	FirstWave int
	Detected  time.Time
	// AdviseOnly: record it and do nothing.
	AdviseOnly bool
}

// Decision is what to do now, why not more, and when to look again.
type Decision struct {
	Moves []Move
	// Readmit are servers that are out and may be let in again.
	Readmit []string
	// Restart are servers that are out, and whose process should be ended.
	Restart []string
	// Blocked says in words why something that would have been done is not.
	Blocked string
	// NoHeadroom: the others have no room for a server's clients, so that these stay.
	NoHeadroom bool
	// Shed are all servers that should turn newcomers away now: the others don't, or cease to.
	Shed []Shed
	// Memory is what the next decision must be given.
	Memory Memory
	// Next is when to look again even if nothing changes; zero: only then.
	Next time.Time
}

// Shed has one server turn newcomers away, and keep those it has.
type Shed struct {
	Server, Incarnation string
	// RetryAfter is the least time after which they may come back; at most twice
	// that, so that they don't all come at once.
	RetryAfter time.Duration
	Why        string
}
