package client

import (
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// maxGone is how many clients that are offline a roll remembers, to tell doubles.
const maxGone = 4096

// Change is what a Watch tells of one client.
type Change struct {
	// Client is whose; empty: everybody who is online has been told by now, again
	// after each connection to another server. (Not of a Watch of one client: of
	// that the first Change says whether it is online.)
	Client string
	// Online tells whether the client is here.
	Online bool
	// Revision grows with each change of the client: its session's epoch, which
	// orders the changes of all clients of one installation, and can be a fencing
	// token. Of nobody's, up to which everything has been told.
	Revision int64
	// Server that the client is at, or was last, "namespace/pod".
	Server string
	// Since is when it came online, or went offline; LastSeen when it last beat,
	// where it is offline. Both by the servers' clocks, and zero where they don't say.
	Since, LastSeen time.Time
	// Interval at which it beats; zero where the servers don't say.
	Interval   time.Duration
	Attributes map[string]string
	// Will that it left, where it is offline and had one.
	Will []byte
}

// roll is who a Watch has told is here: it makes each change be told once,
// whatever servers repeat, and misses none between two of them.
type roll struct {
	known map[string]known
	gone  int // of those, offline
	// named, while a server tells who is here, are those told so far; nil: it
	// does not.
	named map[string]bool
}

type known struct {
	revision int64
	online   bool
}

func newRoll() *roll { return &roll{known: map[string]known{}} }

// begin takes that a server is about to tell who is here.
func (r *roll) begin() { r.named = map[string]bool{} }

// take takes what a server tells of a client, and returns what is new of it.
// retained: it is as of now, and may be older than what is known, where the
// store was rewound.
func (r *roll) take(client string, s wire.PresenceState, retained bool) []Change {
	if s.State == wire.StateCurrent {
		return r.complete(s)
	}
	if s.State != wire.StateOnline && s.State != wire.StateOffline {
		return nil // of a later version
	}
	if retained {
		if r.named == nil { // a server tells anew by itself where it has missed something
			r.begin()
		}
		r.named[client] = true
	}
	online := s.State == wire.StateOnline
	if k, ok := r.known[client]; ok {
		same := online == k.online && (s.Revision == k.revision || !online && retained)
		if same || !retained && s.Revision <= k.revision {
			return nil
		}
	}
	r.learn(client, known{s.Revision, online})
	return []Change{change(client, s)}
}

// complete ends the telling of who is here: who was here and was not named is gone.
func (r *roll) complete(s wire.PresenceState) []Change {
	var out []Change
	for client, k := range r.known {
		if k.online && !r.named[client] {
			out = append(out, Change{Client: client, Revision: s.Revision})
			r.learn(client, known{s.Revision, false})
		}
	}
	r.named = nil
	return append(out, Change{Revision: s.Revision})
}

func (r *roll) learn(client string, k known) {
	if was, ok := r.known[client]; ok && !was.online {
		r.gone--
	}
	if !k.online {
		if r.gone++; r.gone > maxGone {
			for c, other := range r.known {
				if !other.online {
					delete(r.known, c)
				}
			}
			r.gone = 1
		}
	}
	r.known[client] = k
}

func change(client string, s wire.PresenceState) Change {
	return Change{
		Client: client, Online: s.State == wire.StateOnline, Revision: s.Revision, Server: s.Server,
		Since: moment(s.Since), LastSeen: moment(s.LastSeen),
		Interval: time.Duration(s.Interval) * time.Millisecond, Attributes: s.Attributes, Will: s.Will,
	}
}

// moment is Unix milliseconds as a time; 0: none.
func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
