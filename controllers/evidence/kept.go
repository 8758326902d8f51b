package evidence

import (
	"maps"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// merge takes a change of what is held by server; changed makes what is kept of a record.
func merge[V any](held map[string]V, u store.Update[string, V], changed func(V) V) {
	if u.Reset {
		maps.DeleteFunc(held, func(server string, _ V) bool { _, ok := u.Put[server]; return !ok })
	}
	for server, v := range u.Put {
		held[server] = changed(v)
	}
	for _, server := range u.Deleted {
		delete(held, server)
	}
}

func asItIs[V any](v V) V { return v }

// UpdateDirectives takes a change of the directives.
func (b *Book) UpdateDirectives(u store.Update[string, store.Directive]) {
	b.mu.Lock()
	defer b.Touch()
	defer b.mu.Unlock()
	merge(b.directives, u, asItIs)
	b.arrived(fromDirectives, u.Reset)
}

// UpdateAssignments takes a change of who stands in for agents.
func (b *Book) UpdateAssignments(u store.Update[string, store.Assignment]) {
	b.mu.Lock()
	defer b.Touch()
	defer b.mu.Unlock()
	merge(b.assignments, u, asItIs)
	b.arrived(fromAssignments, u.Reset)
}

// UpdateDue takes a change of what is due to servers that were let in again. An
// earlier leader's clock may be ahead: nothing is from after it was heard of.
func (b *Book) UpdateDue(u store.Update[string, store.Due]) {
	b.mu.Lock()
	defer b.Touch()
	defer b.mu.Unlock()
	now := b.now()
	merge(b.due, u, func(d store.Due) store.Due {
		d.At = earlier(d.At, now)
		return d
	})
	b.arrived(fromDue, u.Reset)
}

// UpdatePenalties takes a change of the servers' penalties; likewise.
func (b *Book) UpdatePenalties(u store.Update[string, store.Penalty]) {
	b.mu.Lock()
	defer b.Touch()
	defer b.mu.Unlock()
	now := b.now()
	merge(b.penalties, u, func(p store.Penalty) store.Penalty {
		if ahead := p.At.Sub(now); ahead > 0 {
			p.At = now
			if !p.Suppressed.IsZero() {
				p.Suppressed = p.Suppressed.Add(-ahead)
			}
		}
		return p
	})
	b.arrived(fromPenalties, u.Reset)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Assignments are those that stand, by the server observed.
func (b *Book) Assignments() map[string]store.Assignment {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.assignments)
}

// Due is what is due to servers, by server.
func (b *Book) Due() map[string]store.Due {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.due)
}

// Penalties are what leaders have kept of servers' failures, by server.
func (b *Book) Penalties() map[string]store.Penalty {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.penalties)
}

// speaks tells whether the author of a word on a server is there: an agent that is
// online, or a stand-in, in the life in which it was assigned to that server.
// The caller holds mu.
func (b *Book) speaks(who verdict.Observer, server string, boot int64) bool {
	if who.Agent() {
		return b.online(who.Name)
	}
	for _, s := range b.assignments[server].StandIns {
		if s.Name != who.Name || s.Boot != boot {
			continue
		}
		name, isServer := store.ObservingServer(s.Name)
		if !isServer {
			return true // a controller: whether it leads, the judge knows
		}
		own := b.servers[name]
		return own != nil && own.live && own.record.Observes == boot
	}
	return false
}
