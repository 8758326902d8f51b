package evidence

import (
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// beat is one of an agent's two sessions.
type beat struct {
	online bool
	// seen is when online last changed, here.
	seen time.Time
	// server ("namespace/name") that says so, and its incarnation.
	server, incarnation string
}

// agentOf is the node in the client id of an agent's session, "<node>:<number>".
func agentOf(client string) string {
	if i := strings.LastIndexByte(client, ':'); i >= 0 {
		return client[:i]
	}
	return client
}

// UpdateBeats takes a change of the agents' sessions.
func (b *Book) UpdateBeats(u store.Update[store.SessionKey, store.Session]) {
	b.mu.Lock()
	defer b.Touch()
	defer b.mu.Unlock()
	now := b.now()
	if u.Reset {
		here := map[string]bool{}
		for k := range u.Put {
			here[k.Client] = true
		}
		for node, sessions := range b.beats {
			for client := range sessions {
				if !here[client] {
					b.leave(node, client)
				}
			}
		}
	}
	for k, s := range u.Put {
		node := agentOf(k.Client)
		old, known := b.beats[node][k.Client]
		seen := now
		if known && old.online == !s.Offline {
			seen = old.seen
		}
		if b.beats[node] == nil {
			b.crew++
		}
		remember(b.beats, node, k.Client, beat{online: !s.Offline, seen: seen, server: s.Server, incarnation: s.Incarnation})
	}
	for _, k := range u.Deleted {
		b.leave(agentOf(k.Client), k.Client)
	}
	b.arrived(fromBeats, u.Reset)
}

// leave forgets a session of an agent. The caller holds mu.
func (b *Book) leave(node, client string) {
	if _, known := b.beats[node][client]; !known {
		return
	}
	forget(b.beats, node, client)
	if b.beats[node] == nil {
		b.crew++
	}
}

// Beats of a node's agent; state gives the verdict on a server.
func (b *Book) Beats(node string, state func(server string) verdict.State) []verdict.Beats {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]verdict.Beats, 0, len(b.beats[node]))
	for _, s := range b.beats[node] {
		all = append(all, verdict.Beats{Online: s.online, Seen: s.seen, ServerState: state(s.server)})
	}
	return all
}

// Crew is a number that changes whenever Agents does.
func (b *Book) Crew() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.crew
}

// Agents are the nodes whose agent has ever had a session that is still on record.
func (b *Book) Agents() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]bool, len(b.beats))
	for node := range b.beats {
		all[node] = true
	}
	return all
}

// deserted is how long a session counts after the server that held it was lost:
// an agent that lives has come to another by then.
const deserted = 2 * time.Second

// online tells whether a node's agent has a session, on a server that can tell.
// Else who died together with both its servers would stay online for ever, and
// its last word would count. The caller holds mu.
func (b *Book) online(node string) bool {
	for _, s := range b.beats[node] {
		if lost := b.lost(s); s.online && (lost.IsZero() || b.now().Sub(lost) < deserted) {
			return true
		}
	}
	return false
}

// lost is since when the server that holds a session is gone; zero: it is there,
// or nothing is known of it. The caller holds mu.
func (b *Book) lost(s beat) time.Time {
	holder := b.servers[s.server]
	switch {
	case holder == nil:
		return time.Time{}
	case holder.record.Incarnation != s.incarnation:
		return holder.former[s.incarnation]
	case holder.live:
		return time.Time{}
	}
	return holder.changed
}
