package client

import (
	"errors"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// How a core leaves a server.

func (c *core) dismiss(now time.Time, e dismissed) []any {
	if e.refusal.Code == packets.DisconnectSessionTakenOver && now.Before(c.rivalFor) {
		return c.comeBack(now, wire.LeftBroken, e.refusal) // another attempt of ours was late
	}
	c.routes.refs = nil
	slot := time.Duration(0)
	if e.refusal.directed() {
		// A time to go, not a time to come back to this one.
		slot, e.guidance.retryAfter = min(e.guidance.retryAfter, maxRetryAfter), 0
	}
	c.routes.learn(now, c.address, e.guidance)
	switch {
	case e.refusal.personal():
		return c.leave(now, ReasonRefused, e.refusal)
	case !e.refusal.directed():
		return c.leave(now, wire.LeftBroken, e.refusal)
	}
	c.routes.vouched(e.guidance.references)
	if slot > 0 {
		c.depart(now, wire.LeftDirected, e.refusal)
		c.phase, c.retryAt = waiting, now.Add(slot)
		return []any{hangUp{}}
	}
	return c.leave(now, wire.LeftDirected, e.refusal)
}

// contestedRounds makes the wait after a take-over up to MinBackoff × 2^5
// (1.6 s by default), and longer when it happens again soon.
const contestedRounds = 5

func (c *core) leave(now time.Time, reason string, err error) []any {
	c.depart(now, reason, err)
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

// gone takes note that no server holds the client any more.
func (c *core) gone(now time.Time, reason string, err error) {
	c.reason, c.cause, c.lastErr = reason, err, err
	c.offlineAt = c.beats.last.Add(c.keepAlive + c.keepAlive/2)
	c.newRound()
}

// depart leaves the server for another one.
func (c *core) depart(now time.Time, reason string, err error) {
	c.gone(now, reason, err)
	c.routes.left(now, c.address, c.server)
}

// comeBack leaves a connection, and not its server, which is tried first.
func (c *core) comeBack(now time.Time, reason string, err error) []any {
	c.gone(now, reason, err)
	c.routes.refs = []string{c.address}
	return append([]any{hangUp{}}, c.seek(now)...)
}

// forgotten takes that the server holds the client no more: its lease has ended, or
// somebody took the session over. Who was held for a while comes back at once; who
// was not may be one of two that share an id.
func (c *core) forgotten(now time.Time) []any {
	if now.Sub(c.since) >= c.cfg.MaxBackoff {
		return c.comeBack(now, wire.LeftBroken, ErrForgotten)
	}
	c.rounds = max(c.rounds, contestedRounds)
	return c.leave(now, wire.LeftBroken, ErrForgotten)
}

// change takes that the network is another one: what was connected over the old
// one is lost, and what failed there may work here.
func (c *core) change(now time.Time, network string) []any {
	c.rhythm.moved(now, network)
	switch c.phase {
	case online:
		return c.comeBack(now, ReasonNetwork, ErrNetworkChanged)
	case dialling, waiting:
		out := c.abandon()
		c.routes.forgive()
		c.newRound()
		c.rounds = 0
		return append(out, c.seek(now)...)
	}
	return nil
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
