package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// What happens to a core.
type (
	// started: begin to look for a server.
	started struct{}
	// ticked: time has passed. path matters while an answer is waited for.
	ticked struct{ path path }
	// accepted: the server that was dialled has taken the client.
	accepted struct {
		id              int
		address, server string
		keepAlive       uint16 // seconds, imposed by the server; 0: as declared
		guidance        guidance
	}
	// rejected: it has not.
	rejected struct {
		id       int
		address  string
		err      error
		ours     bool // the fault is not the server's: no credential, say
		guidance guidance
	}
	// heard: a packet came from the server. at is when the beat was sent that it
	// answers; zero: it is the oldest.
	heard struct {
		pong bool
		at   time.Time
	}
	// forgotten: the server has no session of the client any more.
	forgotten struct{}
	// spoke: a publication that counts as a beat was sent.
	spoke struct{}
	// declined: the server has refused a declaration.
	declined struct{ held uint16 }
	// broke: reading or writing failed.
	broke struct{ err error }
	// dismissed: the server has sent a DISCONNECT.
	dismissed struct {
		refusal  *Refusal
		guidance guidance
	}
	// changed: the program says that its network is another one.
	changed struct{ network string }
	// seen: the program says that a person looks at it, or does no more.
	seen struct{ foreground bool }
	// woken: the program says that its machine has slept.
	woken struct{}
	// placed: the program says where it is.
	placed struct{ Place }
	// sent away: the program wants another server.
	sentAway struct{}
)

// What a core asks for.
type (
	// dial asks for a connection to address; accepted or rejected follows.
	dial struct {
		id        int
		address   string
		timeout   time.Duration // for TCP and CONNACK together
		left      string        // wire.PropLeft; empty: none
		keepAlive uint16        // to ask for, in seconds
	}
	// adopt asks to keep the connection that was accepted last, and discard to
	// close it without a DISCONNECT.
	adopt   struct{}
	discard struct{}
	// giveUp asks to end every attempt that is under way.
	giveUp struct{}
	// ping asks for a PINGREQ.
	ping struct{}
	// report asks to tell the server which silences the connection survived.
	report struct{ outcomes []wire.Outcomes }
	// declare asks to tell the server another interval; declined may follow.
	declare struct{ seconds, held uint16 }
	// fit asks to set the kernel's timers for a silence of at most interval.
	fit struct{ interval time.Duration }
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
	dialling              // attempts are under way
	online                // a server holds the client
)

const (
	// maxAttempts is how many attempts may be under way, and attemptEvery how
	// long one is alone, as Mars has them.
	maxAttempts  = 3
	attemptEvery = 2500 * time.Millisecond
	// maxDetours is how often a round may end at the server that was left, by
	// way of a shared address, before that server is taken again.
	maxDetours = 3
	// rivals is how long after attempts in parallel another session of ours may
	// have been taken for a takeover.
	rivals = 10 * time.Second
)

// core decides what a client does: step takes what happened and returns what
// to do about it, in order; wake is when to tell it the time next.
type core struct {
	cfg    Config // settled
	rnd    *rand.Rand
	phase  phase
	routes routes
	rhythm rhythm
	beats  beats
	tally  tally

	attempts map[int]string // under way: addresses by id
	attempt  int            // the last id
	nextAt   time.Time      // when to begin another one; zero: not before one fails
	detours  int            // in this round
	rivalFor time.Time      // until when a takeover is probably by ourselves

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
	return &core{
		cfg: cfg, rnd: rnd, routes: newRoutes(cfg.Servers, cfg.AvoidFor, cfg.Exclude),
		rhythm: newRhythm(cfg), tally: tally{on: cfg.Place.Network != ""}, attempts: map[int]string{},
	}
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
		return c.tick(now, e.path)
	case accepted:
		return c.arrive(now, e)
	case rejected:
		return c.reject(now, e)
	case changed:
		return c.change(now, e.network)
	case placed:
		c.tally = tally{on: e.Network != ""}
	}
	if c.phase == online {
		return c.present(now, event)
	}
	switch e := event.(type) {
	case seen:
		c.rhythm.see(now, e.foreground)
	case woken:
		if c.phase == waiting {
			c.newRound()
			return c.seek(now)
		}
	}
	return nil
}

// present takes what concerns the session.
func (c *core) present(now time.Time, event any) []any {
	switch e := event.(type) {
	case heard:
		if !e.at.IsZero() && !c.beats.passOver(e.at) {
			return nil
		}
		c.beats.heard(now, e.pong, c.rnd)
		return c.redeclare(now)
	case spoke:
		c.beats.spoke(now, c.rnd, false)
	case declined:
		c.rhythm.refused(now, e.held)
		c.beats.retime(c.rnd)
		return c.redeclare(now)
	case broke:
		c.beats.broke(now, false)
		return c.leave(now, wire.LeftBroken, e.err)
	case dismissed:
		c.beats.broke(now, true)
		return c.dismiss(now, e)
	case sentAway:
		c.beats.broke(now, true)
		return c.leave(now, wire.LeftBroken, ErrMoved)
	case forgotten:
		c.beats.broke(now, true)
		return c.forgotten(now)
	case summoned:
		c.beats.broke(now, true)
		return c.comeBack(now, ReasonNeeded, nil)
	case woken:
		c.beats.again(now, c.rnd)
		return []any{ping{}}
	case seen:
		c.rhythm.see(now, e.foreground)
		if e.foreground {
			c.beats.again(now, c.rnd)
			return append([]any{ping{}}, c.redeclare(now)...)
		}
		c.beats.retime(c.rnd)
		return c.redeclare(now)
	}
	return nil
}

// redeclare tells the server when another interval is used than it knows of.
func (c *core) redeclare(now time.Time) []any {
	s, ok := c.rhythm.declare()
	if !ok {
		return nil
	}
	held := c.rhythm.declared
	c.rhythm.declared = s
	c.keepAlive = time.Duration(s) * time.Second
	c.beats.spoke(now, c.rnd, false)
	return []any{declare{s, held}, fit{c.keepAlive}}
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
	case dialling:
		at = c.nextAt
	}
	if !c.offlineAt.IsZero() && (at.IsZero() || c.offlineAt.Before(at)) {
		at = c.offlineAt
	}
	return at
}

// expects tells whether an answer is late, so that the kernel's word matters.
func (c *core) expects(now time.Time) bool {
	return c.phase == online && !c.beats.deadline.IsZero() && !now.Before(c.beats.deadline)
}

func (c *core) tick(now time.Time, p path) []any {
	if c.phase == online {
		switch c.beats.tick(now, c.rnd, p) {
		case beat:
			out := []any{ping{}}
			if c.tally.due(now) {
				out = append(out, report{c.tally.take(now)})
			}
			return out
		case late:
			return []any{c.event(now, Late, wire.LeftLate, ErrLate), ping{}}
		case leave:
			told := c.event(now, Late, wire.LeftLate, ErrLate)
			if p == unacknowledged {
				// The way, or the machine: the next server must not take it for a
				// server that answers late.
				return append([]any{told}, c.leave(now, wire.LeftBroken, fmt.Errorf("%w, and the other end has not acknowledged the beats", ErrLate))...)
			}
			return append([]any{told}, c.leave(now, wire.LeftLate, ErrLate)...)
		}
		return nil
	}
	var out []any
	if !c.offlineAt.IsZero() && !now.Before(c.offlineAt) {
		out = c.tellOffline(now)
	}
	switch {
	case c.phase == waiting && !now.Before(c.retryAt):
		c.newRound()
		out = append(out, c.seek(now)...)
	case c.phase == dialling && !c.nextAt.IsZero() && !now.Before(c.nextAt):
		out = append(out, c.seek(now)...)
	}
	return out
}

func (c *core) newRound() {
	c.routes.round()
	c.detours = 0
}

// seek begins an attempt at the next address of this round, or ends the round
// when there is none and nothing is under way.
func (c *core) seek(now time.Time) []any {
	c.nextAt = time.Time{}
	if len(c.attempts) >= maxAttempts {
		return nil
	}
	address, ok := c.routes.next(now, c.rnd)
	if !ok {
		if len(c.attempts) > 0 {
			return nil
		}
		return c.endRound(now)
	}
	every := min(attemptEvery, max(2*c.cfg.AckTimeout, time.Second))
	c.phase = dialling
	c.attempt++
	c.attempts[c.attempt] = address
	if len(c.attempts) < maxAttempts {
		c.nextAt = now.Add(every)
	}
	d := dial{id: c.attempt, address: address, timeout: maxAttempts * every, keepAlive: c.rhythm.ask()}
	if accuses(c.reason) {
		d.left = c.address + " " + c.reason
	}
	return []any{d}
}

// accuses tells whether the next server is to hear why the last one was left.
func accuses(reason string) bool {
	return reason != "" && reason != ReasonNetwork && reason != ReasonNeeded && reason != ReasonRefused
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

// abandon ends every attempt that is under way.
func (c *core) abandon() []any {
	if len(c.attempts) == 0 {
		return nil
	}
	clear(c.attempts)
	return []any{giveUp{}}
}

func (c *core) arrive(now time.Time, e accepted) []any {
	if _, ok := c.attempts[e.id]; !ok {
		return []any{discard{}}
	}
	delete(c.attempts, e.id)
	if c.detours < maxDetours && c.routes.avoids(now, e.address, e.server) {
		// A shared address has led back to the server that was left.
		c.detours++
		c.routes.learn(now, e.address, e.guidance)
		c.routes.again(e.address)
		return append([]any{discard{}}, c.seek(now)...)
	}
	out := []any{adopt{}}
	if given := c.abandon(); given != nil {
		c.rivalFor = now.Add(rivals)
		out = append(out, given...)
	}

	kind, previous, reason, cause := Connected, c.name(), c.reason, c.cause
	if c.address != "" && !c.same(e) {
		kind = Moved
	}
	c.phase, c.address, c.server, c.since = online, e.address, e.server, now
	c.reason, c.cause, c.lastErr, c.offlineAt, c.offline = "", nil, nil, time.Time{}, false
	c.routes.arrived(now, e.address, e.server)
	c.routes.learn(now, e.address, e.guidance)

	c.rhythm.connected(now, e.keepAlive)
	c.beats = beats{
		rhythm: &c.rhythm, tally: &c.tally, misses: c.cfg.Misses,
		trip: roundTrip{floor: c.cfg.MinAckTimeout, ceiling: c.cfg.AckTimeout},
	}
	c.beats.begin(now, c.rnd)
	c.keepAlive = time.Duration(c.rhythm.declared) * time.Second

	told := c.event(now, kind, reason, cause)
	told.event.Previous = previous
	out = append(out, told, ping{}, fit{c.keepAlive})
	return append(out, c.redeclare(now)...)
}

// same tells whether a server is the one before: by name where both told one.
func (c *core) same(e accepted) bool {
	if c.server != "" && e.server != "" {
		return c.server == e.server
	}
	return c.address == e.address
}

func (c *core) reject(now time.Time, e rejected) []any {
	if _, ok := c.attempts[e.id]; !ok {
		return nil
	}
	delete(c.attempts, e.id)
	c.lastErr = e.err
	if e.ours {
		return append(c.abandon(), c.endRound(now)...)
	}
	c.routes.learn(now, e.address, e.guidance)
	var refusal *Refusal
	switch is := errors.As(e.err, &refusal); {
	case is && refusal.hopeless():
		// Near MaxBackoff, jittered: not one of a storm, not one of a herd.
		c.routes.failed(now, e.address)
		out := c.abandon()
		c.pause(now, c.cfg.MaxBackoff-backoff(c.rnd, c.cfg.MaxBackoff/2, c.cfg.MaxBackoff/2, 0))
		if c.address == "" {
			out = append(out, c.tellOffline(now)...)
		}
		return out
	case is && refusal.busy():
		c.routes.busy(now, e.address)
	default:
		c.routes.failed(now, e.address)
	}
	return c.seek(now)
}

// event makes a tell of what concerns the server that holds the client, or held
// it last.
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
