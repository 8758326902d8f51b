package wire

import "strings"

// TopicPresence begins the topics on which servers say who is here; what
// follows is "<namespace>/<presence>/<client>". Only servers publish there, but
// for a client's will, which is published as it is when the client goes Offline.
//
// A subscriber is first told who is online (RETAIN set), and with a filter that
// ends in "+" that this was all (EveryClient). After that comes every change,
// with its revision. A receiver takes what has RETAIN set as it is, and leaves
// out changes whose revision is not above the one that it knows of that client.
const TopicPresence = "$rollcall/presence/"

// EveryClient stands for a client in the topic of the message that ends the
// telling of who is here: everybody online has been named by then, and who was
// not, is offline. It cannot be a client's name.
const EveryClient = "$current"

// PropWill, in a PUBLISH on a presence topic: it is the client's will, and the
// value the revision at which the client went Offline.
const PropWill = "rollcall-will"

// MaxWill is the greatest length of a will's payload, in bytes.
const MaxWill = 256

// State is whether a client is here.
type State string

// The states that a presence topic tells.
const (
	StateOnline  State = "online"
	StateOffline State = "offline"
	// StateCurrent is EveryClient's.
	StateCurrent State = "current"
)

// PresenceState is the payload on a presence topic, as JSON: all that is known
// of one client at one revision.
type PresenceState struct {
	State State `json:"state"`
	// Revision of the client's record, the session's epoch; of EveryClient, up to
	// which everything has been told. Later changes have greater ones, unless
	// the store was rewound: then everything is told anew.
	Revision int64 `json:"revision"`
	// Server that the client is at, or was last: "namespace/name". It changes
	// when the client moves, which takes it offline at no time.
	Server string `json:"server,omitempty"`
	// Since is when it came online, or went offline (Unix milliseconds).
	Since int64 `json:"since,omitempty"`
	// LastSeen is when it last beat, where it is offline (Unix milliseconds); as
	// Since where it left on purpose.
	LastSeen int64 `json:"lastSeen,omitempty"`
	// Interval at which it beats, in milliseconds.
	Interval   int64             `json:"interval,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	// Will of a client that went Offline and had one.
	Will []byte `json:"will,omitzero"`
	// Online is how many clients are, in EveryClient's.
	Online int `json:"online,omitempty"`
}

// PresenceTopic is the topic of one client.
func PresenceTopic(namespace, presence, client string) string {
	return TopicPresence + namespace + "/" + presence + "/" + client
}

// ParsePresenceTopic takes a topic, or a filter, apart. The client is "+" in a
// filter for all of them, or EveryClient. False: it is not a presence topic.
func ParsePresenceTopic(topic string) (namespace, presence, client string, ok bool) {
	rest, ok := strings.CutPrefix(topic, TopicPresence)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return "", "", "", false
	}
	for _, part := range parts[:2] {
		if part == "" || strings.ContainsAny(part, "+#") {
			return "", "", "", false
		}
	}
	if c := parts[2]; c != "+" && c != EveryClient && !ValidClientID(c) {
		return "", "", "", false
	}
	return parts[0], parts[1], parts[2], true
}
