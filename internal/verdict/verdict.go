// Package verdict turns evidence into verdicts. It is pure: evidence, policy,
// the previous verdicts and now go in; verdicts, and when to look again, come
// out. No clock, no randomness, no I/O and no logging, so that every judgement
// can be simulated, replayed and explained.
//
// Where the rules leave a choice, it is the one that does less:
//
//   - A bad state stands until the member has recovered, but only evidence that
//     is at hand makes it Proven, and nothing is done on one that isn't.
//   - Zones are the failure domains. Where all who are assigned are of one zone,
//     or of none, their machines are: two observers on one machine are one witness.
//   - Unreachable needs more than observers (the lease or the machine gone), and
//     nobody whom the server, or its kernel, still answers. Refused is certain,
//     but from one domain alone it needs a second kind of evidence too.
//   - A lease that is gone corroborates one observer's accusation only where no
//     majority is well answered, and means nothing while the store is away, or
//     has been back for less than StoreAwayLimit.
//   - A word on another incarnation counts for nothing, be that older or newer.
//   - A word counts only AuthorWindow after its author's present life was first
//     heard of. All times are the judge's own: no other clock is believed.
//   - What a server's own kernel says corroborates one observer, as a second kind of
//     evidence, and proves nothing alone.
//   - That its pod is kept from running (throttled, say) does so likewise, where no
//     majority is answered in half the time allowed; and where it answers it is no sign
//     at all: it may use what it has. What most servers suffer is the load's doing, and
//     speaks against none of them.
//   - Clients that say their connection broke corroborate a refusal from one
//     domain, and nothing else.
//   - A server that fails again and again is suppressed for a while (penalty.go):
//     that changes no state, only whether it is let in again.
//   - A server is never Overloaded before its incarnation has answered somebody.
//     A judge that warms up, and meets a server for the first time, grants that.
//   - A Suspect server is healthy, for the brake, while a majority gets answers.
//     Servers that start or terminate are neither lost nor healthy; exempt ones
//     count like all others.
//   - A node is not Dead while anybody hears its gossip or its machine, nor
//     where no server that is Alive can tell that its beats stopped.
package verdict

import (
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// State of a member. Servers are Alive, Suspect, Overloaded, Dead or Unknown;
// nodes Alive, Suspect, Dead, AgentDown, Isolated, Silent, Left or Unknown;
// clients Online, Late, Orphaned or Offline.
type State string

// The states.
const (
	Unknown    State = "Unknown"
	Alive      State = "Alive"
	Suspect    State = "Suspect"
	Overloaded State = "Overloaded"
	Dead       State = "Dead"
	AgentDown  State = "AgentDown"
	Isolated   State = "Isolated"
	Silent     State = "Silent"
	Left       State = "Left"
	Online     State = "Online"
	Late       State = "Late"
	Orphaned   State = "Orphaned"
	Offline    State = "Offline"
)

// Verdict on one member.
type Verdict struct {
	State State
	// Since is when the state was entered.
	Since time.Time
	// Detected is when the first evidence of the present trouble was seen;
	// zero while all is well.
	Detected time.Time
	// Reason is a documented CamelCase constant.
	Reason string
	// Message is the verdict in words, with the evidence that decided it.
	Message string
	// Recovering is since when a server that was Overloaded or Dead has had
	// real answers without a break; zero: not recovering.
	Recovering time.Time
	// Witnesses are the independent sources that the verdict rests on.
	Witnesses []string
	// Proven: the evidence at hand is by itself enough for the bad state. False
	// where a bad state only stands until the member has recovered: nothing is
	// done anew on that. Always false in other states.
	Proven bool

	// The judge's memory: hand it back untouched in the next judgement.

	// Incarnation that the verdict speaks of, and Answered whether that one has
	// ever been seen to answer: a server is never Overloaded from birth.
	Incarnation string
	Answered    bool
	// Held is the bad state of a server that is exempt, and therefore is called Suspect.
	Held State
	// Penalty is what a server's failures had added up to at PenaltyAt, when the
	// last one began; it decays from then on. See penalty.go.
	Penalty   float64
	PenaltyAt time.Time
	// Suppressed is until when a server that fails too often is not let in again
	// once it is out, however well it answers; zero: it does not fail too often.
	Suppressed time.Time
}

// Bad tells whether the state is one that calls for action on a server or node.
func (s State) Bad() bool { return s == Overloaded || s == Dead }

// MayServe tells whether a server may well be serving clients: somebody speaks
// for it, and nothing proves that it is in trouble.
func (v Verdict) MayServe() bool {
	return (v.State == Alive || v.State == Suspect) && !v.Held.Bad()
}

// Lease says what etcd says of a server's record.
type Lease string

// What a lease may be.
const (
	LeaseUnknown Lease = "" // never seen, or the store is away
	LeaseLive    Lease = "live"
	LeaseGone    Lease = "gone"
)

// Observer is one agent (its node's name) assigned to a server, or a designated
// reporter of a node; or, where too few agents can observe a server, another
// server or the controller.
type Observer struct {
	Name, Zone string
	// Node is the machine it runs on; empty: Name, as for agents.
	Node string
}

// machine is what it runs on.
func (o Observer) machine() string {
	if o.Node == "" {
		return o.Name
	}
	return o.Node
}

// Agent tells whether it is a node's agent, and not another part that stands in
// for one.
func (o Observer) Agent() bool { return o.machine() == o.Name }

// Candidate is somebody who could observe.
type Candidate struct{ Observer }

// Observation is the last word of one observer on one server.
type Observation struct {
	Observer Observer
	Band     string // a wire.Band
	// Seen is when this band was first seen here, by the judge's own clock.
	Seen time.Time
	// Booted is when the present life of its author was first heard of here, by
	// the judge's own clock; zero: before anyone's memory. Its words count from
	// AuthorWindow after that.
	Booted time.Time
	// Incarnation that the observer spoke to last; empty: none yet.
	Incarnation string
	// Answered: the observer has had an answer in time from it before; of a
	// Service only.
	Answered bool
	// Healthy is false when the observer's own health is poor: it does not count.
	Healthy bool
	// Online is false when the observer itself is not: it does not count.
	Online bool
	// Answer is the median answer time, QueueDelay the server's own word; zero: none.
	Answer, QueueDelay time.Duration
	Detail             string
}

// Kernel is what a server's own kernel says of it; the zero value: nobody has asked it.
type Kernel struct {
	// Band is a wire.Band of kernels.
	Band string
	// Seen and Booted are as of an Observation, of the part that asks the kernel; so
	// are Healthy and Online.
	Seen, Booted    time.Time
	Healthy, Online bool
	// Connections of clients; below 0: not counted.
	Connections int
	Detail      string
	// Strain is what keeps the server's pod from running, of a wire.Strain; empty:
	// nothing, or nobody can tell. StrainDetail words it, after "its pod was".
	Strain, StrainDetail string
}

// counts tells whether what the kernel says does.
func (k Kernel) counts(now time.Time) bool { return k.Online && k.Healthy && !young(now, k.Booted) }

// hung tells whether the kernel says that the server does nothing, and counts.
func (k Kernel) hung(now time.Time) bool {
	return k.counts(now) && (k.Band == string(wire.BandQueueFull) || k.Band == string(wire.BandUnread))
}

// strained tells whether its pod is kept from running, and that counts.
func (k Kernel) strained(now time.Time) bool { return k.counts(now) && k.Strain != "" }

// ServerEvidence is all that is known of one server at one moment.
type ServerEvidence struct {
	Name        string // "namespace/pod"
	Incarnation string
	// Registered is when this incarnation was first heard of here, by the judge's
	// own clock; zero: before anyone's memory. What an observer has said since
	// before that, who has not spoken to it, counts from AuthorWindow after it.
	Registered time.Time
	Zone, Node string
	// Starting pods have never been Ready since they were made; Terminating
	// ones have been deleted; Paused ones are exempt by annotation. None of
	// them is ever acted on.
	Starting, Terminating, Paused bool
	// Service: it is not one of Rollcall's own servers: it has no record, and may be
	// asked what it never answers. Only an observer that it has answered before
	// makes lateness of its silence.
	Service bool
	// Assigned are the observers that should be watching.
	Assigned     []Observer
	Observations []Observation
	Lease        Lease
	// NodeState is the verdict on the machine.
	NodeState State
	// LeftLate counts clients that arrived elsewhere within the last window
	// and said that this server's answers were late (the clients' word).
	LeftLate int
	// LeftBroken counts those that said that their connection to it broke. That
	// alone says nothing: a client's network may have.
	LeftBroken int
	// Sessions that the server held when last seen well; 0: not known. The
	// clients' word must come from at least 1 % of them.
	Sessions int
	// QueueDelay is the server's own word on its work path, from its record;
	// zero: none. Observations may carry a newer one: the greater counts.
	QueueDelay time.Duration
	// Kernel is what the kernel of its machine says.
	Kernel Kernel
	// Past is what an earlier judge remembers; zero: nothing.
	Past Past
}

// Past is what an earlier judge has remembered of a server's failures. A judge
// takes it while it warms up; from then on it has a memory of its own.
type Past struct {
	Incarnation string
	// Penalty is the sum At the last failure, and Suppressed as of a Verdict. Both
	// times are not after the judge's own present, but for Suppressed.
	Penalty    float64
	At         time.Time
	Suppressed time.Time
}

// ServerPolicy bounds when a server counts as overloaded.
type ServerPolicy struct {
	// AnswerTime is the longest time in which a healthy server answers; zero: DefaultAnswerTime.
	AnswerTime time.Duration
	// Recovery is how long real answers must come before a server is trusted
	// again; zero: DefaultRecovery.
	Recovery time.Duration
	// Observers is how many should be assigned to each server; 0: DefaultObservers.
	Observers int
	// MinHealthy is the number of healthy servers below which nothing is done,
	// given how many there are; nil: half of them, rounded up.
	MinHealthy func(total int) int
}

// NodeEvidence is all that is known of one node at one moment.
type NodeEvidence struct {
	Name, Zone string
	// Beats is the state of the agent's sessions, one per report server.
	Beats []Beats
	// Reporters are the designated reporters, and Words what they say. A
	// reporter without a Word is taken to be live, and to have said nothing; for
	// one that is known to be gone, give a Word with Online false and no Says.
	Reporters []Observer
	Words     []Word
	// Deleted: the Node object is gone. Goodbye: the agent disconnected on purpose.
	Deleted, Goodbye bool
}

// Beats is one session of an agent.
type Beats struct {
	Online bool
	// Seen is when this was first seen here.
	Seen time.Time
	// ServerState is the verdict on the server that says so: what a server that
	// is not Alive says of beats counts for nothing, but that a session has ended
	// at one that is Suspect (see beats).
	ServerState State
}

// Word is what one designated reporter's gossip says of one node.
type Word struct {
	Reporter        Observer
	Says            string // a wire.NodeWord
	Seen            time.Time
	Booted          time.Time // as of an Observation
	Healthy, Online bool
	Detail          string
}

// World is what the judge knows of its own footing. In doubt it abstains.
type World struct {
	Now time.Time
	// Started is when this judge began to lead; Warm is false until its
	// caches are filled and a window has passed.
	Started time.Time
	Warm    bool
	// StoreAway is how long the store has not answered; StoreBack is when it
	// last came back from more than StoreAwayLimit.
	StoreAway time.Duration
	StoreBack time.Time
	// Paused is the stop switch.
	Paused bool
	// Apart: gossip goes by the nodes' network and beats by the pods', so that
	// where only one of them is lost the network that failed is known.
	Apart bool
}

// Brake says whether anything may be done at all.
type Brake struct {
	Frozen  bool
	Reason  string // a reason of the API's Frozen condition
	Message string
	// Since is when Frozen last changed; zero: never frozen.
	Since time.Time

	// The judge's memory: hand it back untouched in the next judgement.

	// Lasting is the reason that outlives its cause: TooManyLost or
	// TooFewHealthy. Clear is since when that cause is gone; zero: it is not.
	Lasting string
	Clear   time.Time
	// Settled: enough have been healthy once, or some were lost, so that having
	// too few is a loss and not a population that is only beginning.
	Settled bool
}

// Judgement is the result for one population.
type Judgement struct {
	Verdicts map[string]Verdict
	Brake    Brake
	// FewObservers names servers that too few agents can observe, whoever else does.
	FewObservers []string
	// Next is when to look again even if nothing changes; zero: only then.
	Next time.Time
}
