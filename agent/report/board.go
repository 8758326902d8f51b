// Package report tells the heartbeat servers what an agent sees: everything it
// holds to be the case, whole, at once when something changes, through two
// ordinary sessions on two servers; and nothing while nothing changes.
package report

import (
	"maps"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Board is what the agent holds to be the case. Its methods may be called
// concurrently and never block.
type Board struct {
	changed chan struct{} // cap 1

	mu     sync.Mutex
	health int
	// observations are as they were when they last were news. That is what is
	// reported, so that whoever writes them only compares.
	observations map[string]wire.Observation
	suspicions   map[string]wire.Suspicion
	// about are the servers of which something has changed since Take.
	about map[string]bool
	// news: something has changed since Take.
	news bool
}

// NewBoard returns an empty board.
func NewBoard() *Board {
	return &Board{
		changed:      make(chan struct{}, 1),
		observations: map[string]wire.Observation{},
		suspicions:   map[string]wire.Suspicion{},
		about:        map[string]bool{},
	}
}

// Observe puts up what a probe sees of a server. limit is the server's answer
// time, by which its queue delay is measured.
func (b *Board) Observe(server string, limit time.Duration, o wire.Observation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, known := b.observations[server]; known && !differ(old, o, limit) {
		return
	}
	b.observations[server] = o
	b.about[server] = true
	b.tell()
}

// Forget takes down a server that is not observed any more.
func (b *Board) Forget(server string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.observations[server]; known {
		delete(b.observations, server)
		b.tell()
	}
}

// Suspect puts up a word on a node.
func (b *Board) Suspect(node string, s wire.Suspicion) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.suspicions[node]
	b.suspicions[node] = s
	if old.Word != s.Word {
		b.tell()
	}
}

// Absolve takes down a node that is not reported on any more.
func (b *Board) Absolve(node string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.suspicions[node]; known {
		delete(b.suspicions, node)
		b.tell()
	}
}

// SetHealth puts up the agent's own health, 0 is well. How ill it is is no
// change; whether it is, is.
func (b *Board) SetHealth(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.health
	b.health = n
	if (was > 0) != (n > 0) {
		b.tell()
	}
}

// Band is the last band of a server; empty: none.
func (b *Board) Band(server string) wire.Band {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.observations[server].Band
}

// Changed has an element when there may be something to Take.
func (b *Board) Changed() <-chan struct{} { return b.changed }

func (b *Board) tell() {
	b.news = true
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// Take fills r with all that the board holds, and returns the servers of which
// something has changed since the last time; ok is false when nothing has.
func (b *Board) Take(r *wire.Report) (about map[string]bool, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.news {
		return nil, false
	}
	r.Health = b.health
	r.Observations = maps.Clone(b.observations)
	r.Suspicions = maps.Clone(b.suspicions)
	about, b.about, b.news = b.about, map[string]bool{}, false
	return about, true
}

// differ tells whether an observation says something new: not when times have only
// moved. Of connections whoever counts them says what is worth telling. But an answer
// that takes half the limit is news (the server is sent nobody then), and so is a queue
// that is later than the limit; and that it is over is, when it takes half of that. Who
// can't ask tells why, and that is news when it is another reason: people read it.
func differ(a, b wire.Observation, limit time.Duration) bool {
	l := limit.Microseconds()
	return a.Band != b.Band || a.Address != b.Address || a.Incarnation != b.Incarnation || a.Strain.Kind != b.Strain.Kind ||
		(b.Band == wire.BandBlind || b.Band == wire.BandUnasked) && a.Detail != b.Detail ||
		(a.Connections == nil) != (b.Connections == nil) || a.Connections != nil && *a.Connections != *b.Connections ||
		wire.Crosses(a.Answer, b.Answer, l/2) || wire.Crosses(a.QueueDelay, b.QueueDelay, l)
}
