package store

import (
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Server is a heartbeat server's own record, under a lease of ServerTTL.
// The key carries its "namespace/name".
type Server struct {
	// Incarnation is one life of the process: pod UID and start.
	Incarnation string `json:"incarnation"`
	// Address is where clients reach this very server, host:port.
	Address string `json:"address"`
	// Beats is where they reach it by HTTP, host:port; empty: nowhere.
	Beats string `json:"beats,omitempty"`
	Zone  string `json:"zone,omitempty"`
	Node  string `json:"node,omitempty"`
	// Capacity is how many sessions it is meant to hold; Load is sessions over capacity.
	Capacity int `json:"capacity"`
	// Sessions counts live sessions, probes excluded, by Presence "namespace/name".
	Sessions map[string]int `json:"sessions,omitempty"`
	// Late counts those that have missed a beat, by Presence.
	Late map[string]int `json:"late,omitempty"`
	// QueueDelay is the load band of the work path: the worst queue delay of the
	// last second, rounded up to a power of two, in milliseconds.
	QueueDelay int `json:"queueDelay,omitempty"`
	// SchedulerDelay is the same of how long goroutines wait for a processor: what 99 of a
	// hundred of the last second took at most.
	SchedulerDelay int `json:"schedulerDelay,omitempty"`
	// Takeovers counts sessions that came from another incarnation, by that
	// incarnation, since this process began (the newest 64 origins).
	Takeovers map[string]Takeovers `json:"takeovers,omitempty"`
	// Drain is how far the current directive is, if there is one.
	Drain *DrainProgress `json:"drain,omitempty"`
	// Leaving: it is about to end, and takes nobody any more.
	Leaving bool `json:"leaving,omitempty"`
	// Ended counts sessions of clients that have gone offline here since this process
	// began: with a goodbye, or by silence. Agents' are not among them.
	Ended int `json:"ended,omitempty"`
	// Advised are the longest intervals that connections survive, in milliseconds, by
	// Presence and kind of network, as clients have told this server.
	Advised map[string]map[string]int64 `json:"advised,omitempty"`
	// Observes is the Boot under which it observes other servers, where it is
	// assigned to; 0: it cannot.
	Observes int64 `json:"observes,omitempty"`
}

// Total is the number of live sessions of all Presences.
func (s Server) Total() int {
	n := 0
	for _, c := range s.Sessions {
		n += c
	}
	return n
}

// Takeovers counts arrivals from one origin by what made them leave it.
type Takeovers struct {
	Directive int `json:"directive,omitempty"`
	// Late: its answers were late. Broken: the connection broke, which may be
	// the client's own network's doing.
	Late    int `json:"late,omitempty"`
	Broken  int `json:"broken,omitempty"`
	Severed int `json:"severed,omitempty"` // the kernel reset it, or the client doesn't say
}

// OwnTimeout is the number of those that left by themselves.
func (t Takeovers) OwnTimeout() int { return t.Late + t.Broken }

// Total is the number of arrivals from this origin.
func (t Takeovers) Total() int { return t.Directive + t.Late + t.Broken + t.Severed }

// each makes Takeovers of each of its counts and the same of others.
func (t Takeovers) each(others Takeovers, f func(mine, other int) int) Takeovers {
	return Takeovers{
		Directive: f(t.Directive, others.Directive), Late: f(t.Late, others.Late),
		Broken: f(t.Broken, others.Broken), Severed: f(t.Severed, others.Severed),
	}
}

// Plus is the sum of both.
func (t Takeovers) Plus(o Takeovers) Takeovers {
	return t.each(o, func(a, b int) int { return a + b })
}

// Since is how far each count has grown beyond what it was; what shrank has not.
func (t Takeovers) Since(was Takeovers) Takeovers {
	return t.each(was, func(a, b int) int { return max(0, a-b) })
}

// DrainProgress is what a server reports of a directive it follows.
type DrainProgress struct {
	Failover string `json:"failover"`
	// Told counts clients that were told to go.
	Told int  `json:"told"`
	Done bool `json:"done,omitempty"`
}

// SessionKey names a session: one client of one Presence.
type SessionKey struct{ Namespace, Presence, Client string }

// Session is a client's record. Its key's modification revision is the
// session's epoch, together with Incarnation.
type Session struct {
	Server      string `json:"server"` // "namespace/name"
	Incarnation string `json:"incarnation"`
	Principal   string `json:"principal,omitempty"`
	// Offline records are tombstones: the client left or was silent too long.
	Offline bool `json:"offline,omitempty"`
	// Since is when it came online here, or went offline (Unix milliseconds).
	Since int64 `json:"since"`
	// LastSeen is set on tombstones (Unix milliseconds).
	LastSeen int64 `json:"lastSeen,omitempty"`
	// Interval that the client declared, in milliseconds.
	Interval   int64             `json:"interval"`
	Attributes map[string]string `json:"attributes,omitempty"`
	// Will is published on the client's presence topic when it goes offline; nil:
	// none. A member that leaves on purpose takes it back.
	Will []byte `json:"will,omitzero"`
}

// Observation is what one observer says of one server, as last reported.
// The key carries the server and the observer.
type Observation struct {
	wire.Observation
	Node   string `json:"node"`
	Zone   string `json:"zone,omitempty"`
	Boot   int64  `json:"boot"`
	Seq    int64  `json:"seq"`
	Health int    `json:"health,omitempty"`
}

// Suspicion is what one designated reporter says of one node.
// The key carries the node and the reporter.
type Suspicion struct {
	wire.Suspicion
	Zone   string `json:"zone,omitempty"`
	Boot   int64  `json:"boot"`
	Seq    int64  `json:"seq"`
	Health int    `json:"health,omitempty"`
}

// Directive tells one incarnation of a server to move clients. It stands until
// it is deleted; while a drain stands, the server refuses new sessions.
type Directive struct {
	Failover    string `json:"failover"` // "namespace/name"
	Incarnation string `json:"incarnation"`
	// Drain moves everyone and refuses arrivals. Otherwise Count clients are
	// moved and arrivals are welcome, unless Refuse.
	Drain bool `json:"drain,omitempty"`
	// Refuse turns newcomers away, to come back after RetryAfter milliseconds at
	// least, and twice that at most; those who are here stay. It has no Failover:
	// nobody is moved.
	Refuse     bool     `json:"refuse,omitempty"`
	RetryAfter int      `json:"retryAfter,omitempty"`
	Count      int      `json:"count,omitempty"`
	Targets    []Target `json:"targets"`
	// Rate is clients per second, after a first wave of FirstWave at once.
	Rate      float64 `json:"rate"`
	FirstWave int     `json:"firstWave,omitempty"`
	// Term is the leader's that wrote it: a later term wins.
	Term int64 `json:"term"`
}

// Target is one receiver of a directive.
type Target struct {
	Server  string `json:"server"`
	Address string `json:"address"`
	Weight  int    `json:"weight"`
}

// Pause is the stop switch: nothing is moved while it exists.
type Pause struct {
	By    string    `json:"by"`
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since"`
}
