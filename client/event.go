package client

import (
	"sync"
	"time"
)

// Kind is what an Event says.
type Kind string

// The kinds of an Event.
const (
	// Connected: a server has taken the client, for the first time or the
	// same one again.
	Connected Kind = "Connected"
	// Late: an answer is overdue. Not yet a reason to leave, unless Misses is 1.
	Late Kind = "Late"
	// Moved: another server than before has taken the client.
	Moved Kind = "Moved"
	// Offline: no server holds the client, and 1.5 × the declared interval has
	// passed since its last beat, so that others may take it for gone; or no
	// server took it to begin with. The client goes on trying: Connected or
	// Moved end it. Close is not told.
	Offline Kind = "Offline"
)

// ReasonNetwork is an Event's Reason after Client.NetworkChanged: the server was
// not at fault.
const ReasonNetwork = "network"

// ReasonNeeded is an Event's Reason where a client that beats by datagrams needed a
// connection, to publish or to watch: the server was not at fault.
const ReasonNeeded = "needed"

// ReasonRefused is an Event's Reason where a server that is well has ended the
// session: the credentials, or the client's clock (signed beats), or its silence.
const ReasonRefused = "refused"

// Event is one change of a Client's state.
type Event struct {
	Kind Kind
	// At is when the client decided so, by its own clock.
	At time.Time
	// Address of the server that this is about; empty when there is none.
	Address string
	// Server is its name, "namespace/pod"; empty when it told none.
	Server string
	// Previous is the server before (Connected, Moved), by name, or by address
	// where it told no name; empty at first.
	Previous string
	// Reason in one word: why the server before was left (Connected, Moved,
	// Offline: "late", "broken", "directed", ReasonNetwork, ReasonNeeded or
	// ReasonRefused), or "late" (Late).
	// Empty at first. A server whose kernel has not acknowledged the beats was
	// left because it was "broken": it may be the way to it.
	Reason string
	// Err is the error behind Reason, or behind the last failed attempt
	// (Offline). Nil when there is none.
	Err error
}

// emitter calls a function with events, in order and one at a time, on a
// goroutine that lives only while there are any.
type emitter struct {
	f  func(Event)
	wg *sync.WaitGroup

	mu      sync.Mutex
	queue   []Event
	running bool // a goroutine is draining queue
}

func (e *emitter) emit(ev Event) {
	if e.f == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, ev)
	if !e.running {
		e.running = true
		e.wg.Go(e.drain)
	}
}

func (e *emitter) drain() {
	for {
		e.mu.Lock()
		if len(e.queue) == 0 {
			e.queue, e.running = nil, false
			e.mu.Unlock()
			return
		}
		ev := e.queue[0]
		e.queue = e.queue[1:]
		e.mu.Unlock()
		e.f(ev)
	}
}
