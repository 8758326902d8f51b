package explain

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Judgement is what is held of a server, and why. All times are the
// controller's own clock, as is At, so that differences between them hold
// whatever the reader's clock says.
type Judgement struct {
	// Server is "namespace/pod", Presence "namespace/name" and Mode its
	// failover mode.
	Server   string `json:"server"`
	Presence string `json:"presence"`
	Mode     string `json:"mode"`
	// At is when this was judged, Controller by whom, and Leading whether that
	// replica leads: what others hold decides nothing.
	At         time.Time `json:"at"`
	Controller string    `json:"controller"`
	Leading    bool      `json:"leading"`

	State   string    `json:"state"`
	Since   time.Time `json:"since"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	// Detected is when the first evidence of the present trouble was seen.
	Detected time.Time `json:"detected,omitzero"`
	// Recovering is since when a server that was bad has been answering again.
	Recovering time.Time `json:"recovering,omitzero"`
	// Proven: the evidence at hand is enough for the bad state by itself.
	Proven bool `json:"proven,omitempty"`
	// Witnesses are what the verdict rests on.
	Witnesses []string `json:"witnesses,omitempty"`
	// Exempt says why nothing is ever done about this server at the moment:
	// Starting, Terminating or Paused; empty: it is not exempt.
	Exempt string `json:"exempt,omitempty"`
	// Frozen is the brake; absent: it doesn't hold.
	Frozen *Frozen `json:"frozen,omitempty"`

	Evidence Evidence `json:"evidence"`
	// Changes says in sentences what would change the verdict.
	Changes []string `json:"changes,omitempty"`
}

// Frozen says why nothing is done, whatever the verdicts.
type Frozen struct {
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Since   time.Time `json:"since,omitzero"`
}

// Evidence is what the verdict was found from.
type Evidence struct {
	// Observers are those assigned to the server.
	Observers []Observer `json:"observers"`
	// Incarnation of the server's process, as its record says.
	Incarnation string `json:"incarnation,omitempty"`
	// Record is whether the server's record in etcd lives: live, gone, or unknown.
	Record string `json:"record"`
	// Node is its machine, and NodeState the verdict on that.
	Node      string `json:"node,omitempty"`
	NodeState string `json:"nodeState,omitempty"`
	Zone      string `json:"zone,omitempty"`
	// QueueDelay is how late its work is, by its own word; zero: no word.
	QueueDelay metav1.Duration `json:"queueDelay"`
	// LeftLate counts the clients that arrived elsewhere within the last seconds
	// because answers were late, LeftLateLimit from how many on that counts.
	LeftLate      int `json:"leftLate"`
	LeftLateLimit int `json:"leftLateLimit"`
	// Sessions it held when it was last seen well; 0: not known.
	Sessions int `json:"sessions"`
	// AnswerTime and Recovery are the policy's.
	AnswerTime metav1.Duration `json:"answerTime"`
	Recovery   metav1.Duration `json:"recovery"`
}

// Observer is one assigned observer and its last word.
type Observer struct {
	Name string `json:"name"`
	Zone string `json:"zone,omitempty"`
	// Says is its band: ok, slow, hung, lossy, refused, unreachable; empty: nothing.
	Says  string    `json:"says,omitempty"`
	Since time.Time `json:"since,omitzero"`
	// Ignored says why its word doesn't count; empty: it does.
	Ignored string `json:"ignored,omitempty"`
	// Answer is the server's median answer time to it; zero: none.
	Answer metav1.Duration `json:"answer"`
	Detail string          `json:"detail,omitempty"`
}

// Sessions are where a client is.
type Sessions struct {
	Client     string    `json:"client"`
	Controller string    `json:"controller"`
	Sessions   []Session `json:"sessions"`
}

// Session is one client on one server, or where it was last.
type Session struct {
	Presence string `json:"presence"`
	Server   string `json:"server"`
	// Online is what the record says. That a beat is late is known to the
	// server alone, which writes no beats down.
	Online bool `json:"online"`
	// ServerState is the verdict on the server; empty: it is not judged. A client
	// is Orphaned while it is Online on a server that is Overloaded or Dead.
	ServerState string `json:"serverState,omitempty"`
	// Since is when it came online there, or went offline.
	Since time.Time `json:"since"`
	// LastSeen is given of clients that are offline.
	LastSeen time.Time `json:"lastSeen,omitzero"`
	// Interval is the one that the client declared.
	Interval metav1.Duration `json:"interval"`
}

// Of words an Explanation.
func Of(x Explanation) Judgement {
	x = withDefaults(x)
	v, e := x.Verdict, x.Evidence
	j := Judgement{
		Server: e.Name, Presence: x.Presence, Mode: x.Mode, At: x.World.Now,
		State: string(v.State), Since: v.Since, Reason: v.Reason, Message: v.Message,
		Detected: v.Detected, Recovering: v.Recovering, Proven: v.Proven, Witnesses: v.Witnesses,
		Exempt: exempt(&e),
		Evidence: Evidence{
			Observers: make([]Observer, 0, len(e.Assigned)), Incarnation: e.Incarnation,
			Record: record(e.Lease), Node: e.Node, NodeState: string(e.NodeState), Zone: e.Zone,
			QueueDelay: metav1.Duration{Duration: queueDelay(&e)},
			LeftLate:   e.LeftLate, LeftLateLimit: leftLateLimit(&e), Sessions: e.Sessions,
			AnswerTime: metav1.Duration{Duration: x.Policy.AnswerTime}, Recovery: metav1.Duration{Duration: x.Policy.Recovery},
		},
		Changes: changes(x),
	}
	if x.Brake.Frozen {
		j.Frozen = &Frozen{Reason: x.Brake.Reason, Message: x.Brake.Message, Since: x.Brake.Since}
	}
	for _, a := range e.Assigned {
		o := wordOf(a.Name, &e)
		said := Observer{Name: a.Name, Zone: a.Zone, Ignored: ignored(o, &e)}
		if o != nil {
			said.Says, said.Since, said.Detail = o.Band, o.Seen, o.Detail
			said.Answer.Duration = o.Answer
		}
		j.Evidence.Observers = append(j.Evidence.Observers, said)
	}
	return j
}

func withDefaults(x Explanation) Explanation {
	if x.Policy.AnswerTime <= 0 {
		x.Policy.AnswerTime = verdict.DefaultAnswerTime
	}
	if x.Policy.Recovery <= 0 {
		x.Policy.Recovery = verdict.DefaultRecovery
	}
	return x
}

// wordOf is the last word of an observer, whether or not it counts.
func wordOf(name string, e *verdict.ServerEvidence) *verdict.Observation {
	for i := range e.Observations {
		if e.Observations[i].Observer.Name == name {
			return &e.Observations[i]
		}
	}
	return nil
}

// ignored says why the judge doesn't count a word, by internal/verdict's rules.
func ignored(o *verdict.Observation, e *verdict.ServerEvidence) string {
	switch {
	case o == nil:
		return "it has said nothing"
	case !o.Online:
		return "the agent is not online, or the part that stands in for one is gone"
	case !o.Healthy:
		return "its own health is poor"
	case o.Incarnation != "" && e.Incarnation != "" && o.Incarnation != e.Incarnation:
		return "it speaks of another process"
	}
	switch wire.Band(o.Band) {
	case wire.BandOK, wire.BandSlow, wire.BandHung, wire.BandRefused, wire.BandUnreachable:
		return ""
	case wire.BandLossy:
		return "it abstains: the path loses packets"
	case wire.BandUnasked:
		return "it abstains: " + o.Detail
	}
	return "its word is not understood"
}

func exempt(e *verdict.ServerEvidence) string {
	switch {
	case e.Terminating:
		return verdict.ReasonTerminating
	case e.Starting:
		return verdict.ReasonStarting
	case e.Paused:
		return verdict.ReasonExempt
	}
	return ""
}

func record(l verdict.Lease) string {
	if l == verdict.LeaseUnknown {
		return "unknown"
	}
	return string(l)
}

// queueDelay is the greatest that the server told anybody.
func queueDelay(e *verdict.ServerEvidence) time.Duration {
	d := e.QueueDelay
	for i := range e.Observations {
		if o := &e.Observations[i]; ignored(o, e) == "" {
			d = max(d, o.QueueDelay)
		}
	}
	return d
}

// leftLateLimit is how many clients must have left for their word to count.
func leftLateLimit(e *verdict.ServerEvidence) int {
	return max(verdict.LeftLateMin, (e.Sessions*verdict.LeftLateShare+99)/100)
}
