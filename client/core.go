package client

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// What happens to a core.
type (
	// started: begin to look for a server.
	started struct{}
	// ticked: time has passed.
	ticked struct{}
	// accepted: the server that was dialled has taken the client.
	accepted struct {
		address, server string
		keepAlive       uint16 // seconds, imposed by the server; 0: as declared
		guidance        guidance
	}
	// rejected: it has not.
	rejected struct {
		address  string
		err      error
		ours     bool // the fault is not the server's: no credential, say
		guidance guidance
	}
	// heard: a packet came from the server.
	heard struct{ pong bool }
	// broke: reading or writing failed.
	broke struct{ err error }
	// dismissed: the server has sent a DISCONNECT.
	dismissed struct {
		refusal  *Refusal
		guidance guidance
	}
)

// What a core asks for.
type (
	// dial asks for a connection to address; accepted or rejected follows.
	dial struct {
		address string
		timeout time.Duration // for TCP and CONNACK together
		left    string        // wire.PropLeft; empty: none
	}
	// ping asks for a PINGREQ.
	ping struct{}
	// hangUp asks to close the connection, without a DISCONNECT: the member is
	// not leaving, and its old server, if it lives, must not say so.
	hangUp struct{}
	// tell asks to tell the caller.
	tell struct{ event Event }
)

type phase int

const (
	resting  phase = iota // not started
	waiting               // for the next round, at retryAt
	dialling              // an attempt is under way
	online                // a server holds the client
)

// core decides what a client does: step takes what happened and returns what
// to do about it, in order; wake is when to tell it the time next.
type core struct {
	cfg    Config // settled
	rnd    *rand.Rand
	phase  phase
	routes routes
	beats  beats

	rounds  int       // rounds since the client last held on to a server
	retryAt time.Time // the next round, while waiting

	// The server that holds the client, or else held it last.
	address, server string
	since           time.Time // it took the client
	keepAlive       time.Duration

	// Why that server was left: what the next one is told, and the error behind
	// it. Empty while online and at first.
	reason    string
	cause     error
	lastErr   error     // the last thing that went wrong since
	offlineAt time.Time // when to tell Offline; zero: told, or never online
	offline   bool      // told
}

func newCore(cfg Config, rnd *rand.Rand) *core {
	return &core{cfg: cfg, rnd: rnd, routes: newRoutes(cfg.Servers, cfg.AvoidFor, cfg.Exclude)}
}

// step takes an event that happened now. An event that doesn't fit the phase
// (late news of a connection that was given up) changes nothing.
func (c *core) step(now time.Time, event any) []any {
	switch e := event.(type) {
	case started:
		if c.phase == resting {
			return c.seek(now)
		}
	case ticked:
		return c.tick(now)
	case accepted:
		if c.phase == dialling {
			return c.arrive(now, e)
		}
	case rejected:
		if c.phase == dialling {
			return c.reject(now, e)
		}
	case heard:
		if c.phase == online {
			c.beats.heard(now, e.pong)
		}
	case broke:
		if c.phase == online {
			return c.leave(now, wire.LeftBroken, e.err)
		}
	case dismissed:
		if c.phase == online {
			return c.dismiss(now, e)
		}
	}
	return nil
}

// wake is when step wants to be told that time has passed; zero: not before
// something else happens.
func (c *core) wake() time.Time {
	var at time.Time
	switch c.phase {
	case online:
		return c.beats.wake()
	case waiting:
		at = c.retryAt
	}
	if !c.offlineAt.IsZero() && (at.IsZero() || c.offlineAt.Before(at)) {
		at = c.offlineAt
	}
	return at
}

func (c *core) tick(now time.Time) []any {
	if c.phase == online {
		switch c.beats.tick(now, c.rnd) {
		case beat:
			return []any{ping{}}
		case late:
			return []any{c.event(now, Late, wire.LeftLate, ErrLate), ping{}}
		case leave:
			return append([]any{c.event(now, Late, wire.LeftLate, ErrLate)}, c.leave(now, wire.LeftLate, ErrLate)...)
		}
		return nil
	}
	var out []any
	if !c.offlineAt.IsZero() && !now.Before(c.offlineAt) {
		out = c.tellOffline(now)
	}
	if c.phase == waiting && !now.Before(c.retryAt) {
		c.routes.round()
		out = append(out, c.seek(now)...)
	}
	return out
}

// seek tries the next address of this round, or ends the round.
func (c *core) seek(now time.Time) []any {
	address, ok := c.routes.next(now, c.rnd)
	if !ok {
		return c.endRound(now)
	}
	c.phase = dialling
	d := dial{address: address, timeout: max(2*c.cfg.AckTimeout, time.Second)}
	if c.reason != "" {
		d.left = c.address + " " + c.reason
	}
	return []any{d}
}

func (c *core) endRound(now time.Time) []any {
	c.pause(now, backoff(c.rnd, c.cfg.MinBackoff, c.cfg.MaxBackoff, c.rounds))
	if c.address == "" {
		return c.tellOffline(now)
	}
	return nil
}

// pause waits for the next round.
func (c *core) pause(now time.Time, d time.Duration) {
	c.rounds++
	c.phase = waiting
	c.retryAt = c.routes.resume(now).Add(d)
}

func (c *core) arrive(now time.Time, e accepted) []any {
	kind, previous, reason, cause := Connected, c.name(), c.reason, c.cause
	if c.address != "" && !c.same(e) {
		kind = Moved
	}
	c.phase, c.address, c.server, c.since = online, e.address, e.server, now
	c.reason, c.cause, c.lastErr, c.offlineAt, c.offline = "", nil, nil, time.Time{}, false
	c.routes.arrived(now, e.address)
	c.routes.learn(now, e.address, e.guidance)

	c.beats = beats{interval: c.cfg.Interval, jitter: c.cfg.Jitter, ackTimeout: c.cfg.AckTimeout, misses: c.cfg.Misses}
	declared := c.cfg.keepAlive()
	c.keepAlive = time.Duration(declared) * time.Second
	if e.keepAlive != 0 && e.keepAlive != declared {
		c.keepAlive = time.Duration(e.keepAlive) * time.Second
		c.beats.interval = time.Duration(float64(c.keepAlive) / (1 + c.cfg.Jitter))
	}
	c.beats.begin(now, c.rnd)

	told := c.event(now, kind, reason, cause)
	told.event.Previous = previous
	return []any{told, ping{}}
}

// same tells whether a server is the one before: by name where both told one.
func (c *core) same(e accepted) bool {
	if c.server != "" && e.server != "" {
		return c.server == e.server
	}
	return c.address == e.address
}

func (c *core) reject(now time.Time, e rejected) []any {
	c.lastErr = e.err
	if e.ours {
		return c.endRound(now)
	}
	c.routes.learn(now, e.address, e.guidance)
	var refusal *Refusal
	switch is := errors.As(e.err, &refusal); {
	case is && refusal.hopeless():
		// Near MaxBackoff, jittered: not one of a storm, not one of a herd.
		c.routes.failed(now, e.address)
		c.pause(now, c.cfg.MaxBackoff-backoff(c.rnd, c.cfg.MaxBackoff/2, c.cfg.MaxBackoff/2, 0))
		if c.address == "" {
			return c.tellOffline(now)
		}
		return nil
	case is && refusal.busy():
		c.routes.busy(now, e.address)
	default:
		c.routes.failed(now, e.address)
	}
	return c.seek(now)
}

func (c *core) dismiss(now time.Time, e dismissed) []any {
	c.routes.refs = nil
	c.routes.learn(now, c.address, e.guidance)
	reason := wire.LeftBroken
	if e.refusal.directed() {
		reason = wire.LeftDirected
		c.routes.vouched(e.guidance.references)
	}
	return c.leave(now, reason, e.refusal)
}

// contestedRounds makes the wait after a take-over up to MinBackoff × 2^5
// (1.6 s by default), and longer when it happens again soon.
const contestedRounds = 5

func (c *core) leave(now time.Time, reason string, err error) []any {
	c.reason, c.cause, c.lastErr = reason, err, err
	c.offlineAt = c.beats.last.Add(c.keepAlive + c.keepAlive/2)
	c.routes.left(now, c.address)
	c.routes.round()
	out := []any{hangUp{}}
	// A server that held the client for a while ends a bad series; one that
	// takes it and drops it at once does not.
	if now.Sub(c.since) >= c.cfg.MaxBackoff {
		c.rounds = 0
	}
	// Somebody else has our id, or the credentials are void: to come back at
	// once would only be the next round of the fight.
	var refusal *Refusal
	if errors.As(err, &refusal) && (refusal.Code == packets.DisconnectSessionTakenOver || refusal.hopeless()) {
		c.rounds = max(c.rounds, contestedRounds)
	}
	if c.rounds == 0 {
		c.rounds = 1
		return append(out, c.seek(now)...)
	}
	c.pause(now, backoff(c.rnd, c.cfg.MinBackoff, c.cfg.MaxBackoff, c.rounds))
	return out
}

func (c *core) tellOffline(now time.Time) []any {
	c.offlineAt = time.Time{}
	if c.offline {
		return nil
	}
	c.offline = true
	told := c.event(now, Offline, c.reason, c.lastErr)
	told.event.Address, told.event.Server, told.event.Previous = "", "", c.name()
	return []any{told}
}

func (c *core) event(now time.Time, k Kind, reason string, err error) tell {
	return tell{Event{Kind: k, At: now, Address: c.address, Server: c.server, Reason: reason, Err: err}}
}

// name of the server that holds the client, or held it last.
func (c *core) name() string {
	if c.server != "" {
		return c.server
	}
	return c.address
}
