// Package wire names what Rollcall adds to MQTT: topics, user properties and
// the payloads of its own publications. It holds no I/O; packets themselves are
// internal/mqtt's.
package wire

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Topics.
const (
	// TopicBeat carries a beat with data, from any client.
	TopicBeat = "$rollcall/beat"
	// TopicReport carries a Report, from agents only (the right to report).
	TopicReport = "$rollcall/report"
)

// User properties (MQTT 5).
const (
	// PropServers, in CONNACK and DISCONNECT: where else to go, as ServerList
	// formats it, best first.
	PropServers = "rollcall-servers"
	// PropRetryAfter, in CONNACK and DISCONNECT: come back after so many
	// milliseconds, not before.
	PropRetryAfter = "rollcall-retry-after"
	// PropLeft, in CONNECT: the address of the server that the client has just
	// left and why, "ADDRESS REASON" with one of the Left reasons.
	PropLeft = "rollcall-left"
	// PropProbe, in CONNECT: "1" makes this session a probe, which is not
	// counted, recorded, drained, refused or severed. Needs the right to report.
	PropProbe = "rollcall-probe"
	// PropServer, in CONNACK: the "namespace/name" of the server.
	PropServer = "rollcall-server"
	// PropIncarnation, in CONNACK: the incarnation of the server.
	PropIncarnation = "rollcall-incarnation"
	// PropQueueDelay, in the PUBACK of a beat: the server's worst queue delay
	// of the last second, in microseconds.
	PropQueueDelay = "rollcall-queue-delay"
	// PropSessions, in the PUBACK of a beat: how many sessions the server holds.
	PropSessions = "rollcall-sessions"
)

// Why a client left its last server (PropLeft).
const (
	LeftLate     = "late"     // answers were late: the client's own time-out
	LeftBroken   = "broken"   // the connection broke, or was reset
	LeftDirected = "directed" // the server said so (0x9C)
)

// MaxClientID is the greatest length of a client id, in bytes.
const MaxClientID = 128

var clientID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

// ValidClientID tells whether a client id can be a member's name.
func ValidClientID(id string) bool { return clientID.MatchString(id) }

// ParseUserName splits an MQTT user name, "namespace/presence".
func ParseUserName(s string) (namespace, presence string, err error) {
	namespace, presence, ok := strings.Cut(s, "/")
	if !ok || namespace == "" || presence == "" || strings.Contains(presence, "/") {
		return "", "", fmt.Errorf("user name %q is not namespace/presence", s)
	}
	return namespace, presence, nil
}

// ServerHint is one entry of a server list: where, and how loaded (sessions as
// a share of capacity, in percent, 0 to 100).
type ServerHint struct {
	Address string
	Load    int
}

// FormatServers writes a server list: "10.0.0.1:1883=42,10.0.0.2:1883=57".
func FormatServers(l []ServerHint) string {
	var b strings.Builder
	for i, s := range l {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s=%d", s.Address, s.Load)
	}
	return b.String()
}

// ParseServers reads a server list; entries that it can't read are left out, so
// that a newer server's list still helps an older client.
func ParseServers(s string) []ServerHint {
	var l []ServerHint
	for e := range strings.SplitSeq(s, ",") {
		address, load, ok := strings.Cut(e, "=")
		n, err := strconv.Atoi(load)
		if !ok || err != nil || address == "" {
			continue
		}
		l = append(l, ServerHint{Address: address, Load: min(max(n, 0), 100)})
	}
	return l
}

// Band is what a probe says of a server.
type Band string

// The bands of a probe.
const (
	BandOK Band = "ok"
	// BandSlow: answers came, later than the limit, for the whole window.
	BandSlow Band = "slow"
	// BandHung: the oldest unanswered ping is HungAfter old, the kernel there
	// has acknowledged it, and nothing was retransmitted for a while.
	BandHung Band = "hung"
	// BandLossy: unanswered too, but the path loses packets: says nothing of the server.
	BandLossy Band = "lossy"
	// BandRefused: the connection is refused or reset: no process.
	BandRefused Band = "refused"
	// BandUnreachable: nothing answers, not even the kernel.
	BandUnreachable Band = "unreachable"
	// BandUnasked: it is connected to and not asked, for want of something that its
	// Presence names; Detail says of what. Says nothing of the server.
	BandUnasked Band = "unasked"
)

// The bands of a server's own kernel, as the severer on its node reads it
// (KernelObserver); BandOK is one of them: the server reads what arrives, or is idle.
const (
	// BandQueueFull: nobody else may wait to be accepted, and nobody who does was, for the whole window.
	BandQueueFull Band = "queueFull"
	// BandUnread: what has arrived waits to be read, and nothing is.
	BandUnread Band = "unread"
	// BandClosed: nothing listens on the port.
	BandClosed Band = "closed"
	// BandBlind: the kernel can't be asked; Detail says why.
	BandBlind Band = "blind"
)

// kernelPrefix begins the names of those who speak for kernels: no node's name has a colon.
const kernelPrefix = "kernel:"

// KernelObserver is the name under which a node's severer reports what the kernel
// there says of servers on it.
func KernelObserver(node string) string { return kernelPrefix + node }

// Report is the payload of TopicReport: everything that an agent holds to be
// the case, so that a later one replaces an earlier one whole.
type Report struct {
	// Node is the agent's own node; Zone its failure domain.
	Node string `json:"node"`
	Zone string `json:"zone,omitempty"`
	// Boot and Seq order reports: Boot is the agent's start (Unix ns), Seq counts from 1.
	Boot int64 `json:"boot"`
	Seq  int64 `json:"seq"`
	// Health is memberlist's health score (0 is well) or worse, when the
	// agent's own timers are late: an observer with Health > 0 does not count.
	Health       int                    `json:"health,omitempty"`
	Observations map[string]Observation `json:"observations,omitempty"` // by server, "namespace/name"
	Suspicions   map[string]Suspicion   `json:"suspicions,omitempty"`   // by node
}

// Observation is what one observer's probes say of one server.
type Observation struct {
	Band Band `json:"band"`
	// Since is when the band was entered, by the observer's clock: for people,
	// never for judgement.
	Since time.Time `json:"since"`
	// Address is what was probed.
	Address string `json:"address,omitempty"`
	// Answered: it has answered this observer in time before; only of services that
	// are not Rollcall's own, which may be asked what they never answer.
	Answered bool `json:"answered,omitempty"`
	// Incarnation that answered last, where one did.
	Incarnation string `json:"incarnation,omitempty"`
	// Answer is the median answer time of the last window, in microseconds.
	Answer int64 `json:"answer,omitempty"`
	// QueueDelay is the server's own word on its work path, in microseconds; 0: no word.
	QueueDelay int64 `json:"queueDelay,omitempty"`
	// Connections of clients, as a kernel counts them; nil: nobody has.
	Connections *int `json:"connections,omitempty"`
	// Strain is what the server's processes wait for, as a KernelObserver reads in the
	// cgroups of its pod; the zero value: nothing, or nobody can tell.
	Strain Strain `json:"strain,omitzero"`
	// Detail in words: "oldest unanswered ping 1.42s old, acknowledged by the kernel".
	Detail string `json:"detail,omitempty"`
}

// Strain of a server: it is kept from running, for most of a time, by something other
// than its work. That says nothing of whether it answers.
type Strain struct {
	// Kind is what keeps it from running: "throttled", "processors", "memory".
	Kind string `json:"kind"`
	// Detail in words, after "its pod was": "throttled 93 % of the last 2s, by its CPU limit".
	Detail string `json:"detail,omitempty"`
}

// Crosses tells whether a time that was told rises to a limit, or falls far below it:
// only then is it news, so that one which flutters about the limit is told once.
func Crosses[T ~int64](told, now, limit T) bool {
	if told >= limit {
		return now < limit/2
	}
	return now >= limit
}

// NodeWord is what a designated reporter's gossip says of a node.
type NodeWord string

// What a reporter may say of a node.
const (
	NodeAlive   NodeWord = "alive"
	NodeSuspect NodeWord = "suspect"
	// NodeDead: gossip and direct pings unanswered, and nothing at its address answers TCP.
	NodeDead NodeWord = "dead"
	// NodeAgentDown: gossip unanswered, but the machine answers TCP (accept or reset).
	NodeAgentDown NodeWord = "agentDown"
	// NodeLeft: it said goodbye.
	NodeLeft NodeWord = "left"
)

// Suspicion is what one designated reporter says of one node.
type Suspicion struct {
	Word   NodeWord  `json:"word"`
	Since  time.Time `json:"since"`
	Detail string    `json:"detail,omitempty"`
}
