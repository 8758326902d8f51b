package verdict

import "time"

// Reasons of verdicts.
const (
	// Servers.

	// ReasonAnswering: observers get answers in time, and nothing speaks against it.
	ReasonAnswering = "Answering"
	// ReasonFlapping: it answers, and has failed so often that it is not let in
	// again yet.
	ReasonFlapping = "Flapping"
	// ReasonNotAnswering: the kernel acknowledges, the program does not answer.
	ReasonNotAnswering = "NotAnswering"
	// ReasonAnswersLate: answers come later than the policy's AnswerTime.
	ReasonAnswersLate = "AnswersLate"
	// ReasonRefused: connections are refused or reset: the process is gone.
	ReasonRefused = "Refused"
	// ReasonUnreachable: not even the kernel answers, and the record's lease or
	// the machine is gone too.
	ReasonUnreachable = "Unreachable"
	// ReasonFewWitnesses: something speaks against the member, and it is not
	// enough for a verdict.
	ReasonFewWitnesses = "FewWitnesses"
	// ReasonNeverAnswered: this incarnation has not answered yet, so that
	// silence is not overload.
	ReasonNeverAnswered = "NeverAnswered"
	// ReasonNobodyWatches: no observer or reporter counts at the moment.
	ReasonNobodyWatches = "NobodyWatches"
	// ReasonPathLossy: whoever counts loses packets on the path, and abstains.
	ReasonPathLossy = "PathLossy"
	// ReasonUnasked: whoever counts lacks something to ask it with, and abstains.
	ReasonUnasked = "Unasked"
	// ReasonRecovering: real answers come again, not for long enough yet.
	ReasonRecovering = "Recovering"
	// ReasonNotRecovered: the evidence is no longer enough for the bad state
	// that the member is in, nor enough to say that it is well.
	ReasonNotRecovered = "NotRecovered"
	// ReasonStarting, ReasonTerminating, ReasonExempt: something speaks against
	// a server that is never acted on.
	ReasonStarting    = "Starting"
	ReasonTerminating = "Terminating"
	ReasonExempt      = "Paused"

	// Nodes.

	// ReasonBeating: beats arrive.
	ReasonBeating = "Beating"
	// ReasonGossiping: its gossip is alive, and of its beats nothing is known.
	ReasonGossiping = "Gossiping"
	// ReasonNothingAnswers: neither beats, nor gossip, nor pings, nor TCP.
	ReasonNothingAnswers = "NothingAnswers"
	// ReasonMachineAnswers: the agent is silent, and the machine answers TCP.
	ReasonMachineAnswers = "MachineAnswers"
	// ReasonGossipLost: beats arrive, gossip does not.
	ReasonGossipLost = "GossipLost"
	// ReasonBeatsLost: beats stopped, and nobody holds the node dead.
	ReasonBeatsLost = "BeatsLost"
	// ReasonDeleted: the Node object is gone.
	ReasonDeleted = "Deleted"
	// ReasonGoodbye: the agent, or the client, left on purpose.
	ReasonGoodbye = "Goodbye"

	// Clients, and Goodbye and Beating.

	// ReasonMissed: a beat is late.
	ReasonMissed = "Missed"
	// ReasonServerLost: the server that the client was on is gone.
	ReasonServerLost = "ServerLost"
	// ReasonLeaseEnded: no beat came within the lease.
	ReasonLeaseEnded = "LeaseEnded"
)

// Reasons of a Brake: those of the API's Frozen condition.
const (
	BrakePaused        = "Paused"
	BrakeStoreAway     = "StoreAway"
	BrakeWarmingUp     = "WarmingUp"
	BrakeTooManyLost   = "TooManyLost"
	BrakeTooFewHealthy = "TooFewHealthy"
)

// Thresholds that are no policy.
const (
	// HungAfter is the age of the oldest unanswered, acknowledged ping at which
	// an observer calls a server hung: seven pings of 200 ms.
	HungAfter = 1400 * time.Millisecond
	// DefaultAnswerTime and DefaultRecovery stand in for a policy's zero, and
	// DefaultObservers too: they are the API's defaults.
	DefaultAnswerTime = 500 * time.Millisecond
	DefaultRecovery   = 5 * time.Second
	DefaultObservers  = 3
	// NodeRecovery is how long a node that was Dead must show life without a
	// break before it is trusted again.
	NodeRecovery = 5 * time.Second
	// StoreAwayLimit is how long the store may be silent before nothing is
	// done, and how long nothing is done after it is back: its servers' lease
	// TTL, within which every record that still has an owner is kept alive again.
	StoreAwayLimit = 5 * time.Second
	// LostShare of the members, in percent, may be lost at once, or one.
	LostShare = 15
	// ThawAfter is how long too many must no longer be lost, and enough be
	// healthy, before anything is done again. It makes a window of the losses:
	// two within 10 s count together even when the first recovers.
	ThawAfter = 10 * time.Second
	// AuthorWindow is how long an agent that has (re)started must have been heard
	// of before its words count: the longest time that a band rests on, which is
	// the 3 s without a retransmission that hung asks for.
	AuthorWindow = 3 * time.Second
	// LeftLateMin is the least number of clients whose word counts, and
	// LeftLateShare the least share of the server's sessions, in percent.
	LeftLateMin   = 3
	LeftLateShare = 1
)
