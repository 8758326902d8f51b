// Package evidence keeps what is known of servers, observers and nodes: what
// the store's watches say, stamped with this process's own clock when it
// changed, and the last known records of servers whose lease is gone. It judges
// nothing; internal/verdict does.
package evidence

import (
	"maps"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// The sources that must each have given a first snapshot before anything is judged.
type source uint16

const (
	fromServers source = 1 << iota
	fromObservations
	fromSuspicions
	fromBeats
	fromDirectives
	fromPause
	fromAssignments
	fromDue
	fromPenalties
	allSources = 1<<iota - 1
)

// Book is the evidence. Its methods may be called from any goroutine.
type Book struct {
	now     func() time.Time
	changed chan struct{}

	mu           sync.Mutex
	filled       source
	filledAt     time.Time // when the last first snapshot came; zero: not all yet
	servers      map[string]*server
	origins      map[string]*origin // by incarnation
	observations map[string]map[string]observation
	words        map[string]map[string]word
	beats        map[string]map[string]beat
	crew         int               // how often a node was added to beats, or taken away
	authors      map[string]author // of observations and words, by node
	directives   map[string]store.Directive
	assignments  map[string]store.Assignment
	due          map[string]store.Due
	penalties    map[string]store.Penalty
	pause        *store.Pause
}

// New makes an empty Book. now is the clock that evidence is stamped with.
func New(now func() time.Time) *Book {
	return &Book{
		now:          now,
		changed:      make(chan struct{}, 1),
		servers:      map[string]*server{},
		origins:      map[string]*origin{},
		observations: map[string]map[string]observation{},
		words:        map[string]map[string]word{},
		beats:        map[string]map[string]beat{},
		authors:      map[string]author{},
		directives:   map[string]store.Directive{},
		assignments:  map[string]store.Assignment{},
		due:          map[string]store.Due{},
		penalties:    map[string]store.Penalty{},
	}
}

// Now is the time by the clock that evidence is stamped with.
func (b *Book) Now() time.Time { return b.now() }

// Changed has an element whenever something changed since it was last received.
func (b *Book) Changed() <-chan struct{} { return b.changed }

// Touch makes Changed fire, for what changed elsewhere.
func (b *Book) Touch() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// Filled is when the last source's first snapshot came; zero: not all have.
func (b *Book) Filled() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.filledAt
}

// Paused is the stop switch; nil: it is not pulled.
func (b *Book) Paused() *store.Pause {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pause
}

// Directives are those that stand, by server.
func (b *Book) Directives() map[string]store.Directive {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.directives)
}

// Directive is the one that stands for a server.
func (b *Book) Directive(server string) (store.Directive, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ok := b.directives[server]
	return d, ok
}

// arrived notes that a source has given a snapshot. The caller holds mu.
func (b *Book) arrived(s source, reset bool) {
	if !reset || b.filled&s != 0 {
		return
	}
	b.filled |= s
	if b.filled == allSources {
		b.filledAt = b.now()
	}
}

// UpdateObservations takes a change of what observers say of servers.
func (b *Book) UpdateObservations(u store.Update[store.ObservationKey, store.Observation]) {
	b.mu.Lock()
	defer b.Touch()
	defer b.mu.Unlock()
	now := b.now()
	if u.Reset {
		for server, by := range b.observations {
			for observer := range by {
				if _, ok := u.Put[store.ObservationKey{Server: server, Observer: observer}]; !ok {
					forget(b.observations, server, observer)
				}
			}
		}
	}
	for k, o := range u.Put {
		old, known := b.observations[k.Server][k.Observer]
		seen := now
		if known && old.Band == o.Band && old.Incarnation == o.Incarnation {
			seen = old.seen
		}
		b.heard(k.Observer, o.Boot, now, u.Reset && b.filled&fromObservations == 0)
		remember(b.observations, k.Server, k.Observer, observation{Observation: o, seen: seen})
	}
	for _, k := range u.Deleted {
		forget(b.observations, k.Server, k.Observer)
	}
	b.arrived(fromObservations, u.Reset)
}

// UpdateSuspicions takes a change of what reporters say of nodes.
func (b *Book) UpdateSuspicions(u store.Update[store.SuspicionKey, store.Suspicion]) {
	b.mu.Lock()
	defer b.Touch()
	defer b.mu.Unlock()
	now := b.now()
	if u.Reset {
		for node, by := range b.words {
			for reporter := range by {
				if _, ok := u.Put[store.SuspicionKey{Node: node, Reporter: reporter}]; !ok {
					forget(b.words, node, reporter)
				}
			}
		}
	}
	for k, s := range u.Put {
		old, known := b.words[k.Node][k.Reporter]
		seen := now
		if known && old.Word == s.Word {
			seen = old.seen
		}
		b.heard(k.Reporter, s.Boot, now, u.Reset && b.filled&fromSuspicions == 0)
		remember(b.words, k.Node, k.Reporter, word{Suspicion: s, seen: seen})
	}
	for _, k := range u.Deleted {
		forget(b.words, k.Node, k.Reporter)
	}
	b.arrived(fromSuspicions, u.Reset)
}

// UpdatePause takes a change of the stop switch.
func (b *Book) UpdatePause(u store.Update[string, store.Pause]) {
	b.mu.Lock()
	defer b.Touch()
	defer b.mu.Unlock()
	if u.Reset || len(u.Deleted) > 0 {
		b.pause = nil
	}
	for _, p := range u.Put {
		b.pause = &p
	}
	b.arrived(fromPause, u.Reset)
}

// author is one life of an agent.
type author struct {
	boot int64
	// since is when it was first heard of here; zero: before this process's memory.
	since time.Time
}

// heard notes which life of an author a word is of. first: it is part of a
// source's first snapshot, so that nobody knows since when. The caller holds mu.
func (b *Book) heard(who string, boot int64, now time.Time, first bool) {
	a, known := b.authors[who]
	if known && a.boot == boot {
		return
	}
	a = author{boot: boot}
	if !first {
		a.since = now
	}
	b.authors[who] = a
}

// observation is what one observer says of one server.
type observation struct {
	store.Observation
	// seen is when this band of this incarnation was first seen here.
	seen time.Time
}

// word is what one reporter says of one node.
type word struct {
	store.Suspicion
	seen time.Time
}

// Observations of a server by those who are assigned to it. What others say
// counts for nothing, so it isn't given.
func (b *Book) Observations(server string, assigned []verdict.Observer) []verdict.Observation {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []verdict.Observation
	for _, o := range assigned {
		said, ok := b.observations[server][o.Name]
		if !ok {
			continue
		}
		all = append(all, verdict.Observation{
			Observer:    o,
			Band:        string(said.Band),
			Seen:        said.seen,
			Booted:      b.authors[o.Name].since,
			Incarnation: said.Incarnation,
			Answered:    said.Answered,
			Healthy:     said.Health == 0,
			Online:      b.speaks(o, server, said.Boot),
			Answer:      time.Duration(said.Answer) * time.Microsecond,
			QueueDelay:  time.Duration(said.QueueDelay) * time.Microsecond,
			Detail:      said.Detail,
		})
	}
	return all
}

// Kernel is what the kernel of a node says of a server there, of one incarnation, by
// its pod's UID.
func (b *Book) Kernel(server, node, incarnation string) verdict.Kernel {
	b.mu.Lock()
	defer b.mu.Unlock()
	by := wire.KernelObserver(node)
	said, ok := b.observations[server][by]
	if !ok || said.Incarnation != incarnation {
		return verdict.Kernel{Connections: -1}
	}
	k := verdict.Kernel{
		Band: string(said.Band), Seen: said.seen, Booted: b.authors[by].since, Healthy: said.Health == 0, Online: b.online(by),
		Connections: -1, Detail: said.Detail, Strain: said.Strain.Kind, StrainDetail: said.Strain.Detail,
	}
	if said.Connections != nil {
		k.Connections = *said.Connections
	}
	return k
}

// Words of a node's designated reporters. One that is not online and has said
// nothing gives a word that says so.
func (b *Book) Words(node string, reporters []verdict.Observer) []verdict.Word {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []verdict.Word
	for _, r := range reporters {
		said, ok := b.words[node][r.Name]
		online := b.online(r.Name)
		switch {
		case ok:
			all = append(all, verdict.Word{
				Reporter: r, Says: string(said.Word), Seen: said.seen, Booted: b.authors[r.Name].since,
				Healthy: said.Health == 0, Online: online, Detail: said.Detail,
			})
		case !online:
			all = append(all, verdict.Word{Reporter: r})
		}
	}
	return all
}

func remember[V any](m map[string]map[string]V, outer, inner string, v V) {
	if m[outer] == nil {
		m[outer] = map[string]V{}
	}
	m[outer][inner] = v
}

func forget[V any](m map[string]map[string]V, outer, inner string) {
	delete(m[outer], inner)
	if len(m[outer]) == 0 {
		delete(m, outer)
	}
}
