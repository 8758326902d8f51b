// Package plan turns verdicts and load into moves: which servers' clients, to
// which servers, how many and how fast. It is pure, like internal/verdict.
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
	// QueueDelay is the server's own word on its work path.
	QueueDelay time.Duration
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
	// Blocked says in words why something that would have been done is not.
	Blocked string
	// NoHeadroom: the others have no room for a server's clients, so that these stay.
	NoHeadroom bool
	// Next is when to look again even if nothing changes; zero: only then.
	Next time.Time
}
