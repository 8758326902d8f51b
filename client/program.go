package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/rollcall-dev/rollcall/client/adaptive"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// What a program can tell its client. None of these waits for a server.

// NetworkChanged says that the machine is on another network: what was connected
// over the old one is lost, whether or not it looks so. The client connects anew
// at once, to the same server first, and beats. The network's name is
// Config.Heartbeat's; see adaptive.Connected. Empty: unknown.
func (c *Client) NetworkChanged(network string) {
	if len(network) > adaptive.MaxNetworkName {
		network = ""
	}
	c.say(changed{network})
}

// Foreground says that a person looks at the program: the client beats at once, and
// then at Config.Interval, or the Heartbeat's shortest.
func (c *Client) Foreground() { c.say(seen{true}) }

// Background ends Foreground. A client begins in the foreground, with a
// Heartbeat in the background.
func (c *Client) Background() { c.say(seen{false}) }

// Wake says that the machine has slept, or that a screen was turned on: the
// client beats at once, answers that were due meanwhile are not late, and a
// client without a server looks for one at once.
func (c *Client) Wake() { c.say(woken{}) }

// Move asks for another server than the present one, which is then avoided for
// Config.AvoidFor.
func (c *Client) Move() { c.say(sentAway{}) }

func (c *Client) say(event any) {
	select {
	case c.inbox <- news{nil, event}:
	case <-c.ctx.Done():
	}
}

// Heartbeat returns what Config.Heartbeat knows, for Config.HeartbeatState of a
// later process. It may be called after Close.
func (c *Client) Heartbeat() adaptive.State {
	answer := make(chan adaptive.State, 1)
	select {
	case c.inbox <- news{nil, asked(answer)}:
		return <-answer
	case <-c.ctx.Done():
	}
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heartbeat
}

// SetAttributes replaces the attributes that the member is described with, and
// returns when a server has taken them, or ctx ends; either way later servers
// are told them too. A server writes changes every 10 s at most, the last one in
// any case.
func (c *Client) SetAttributes(ctx context.Context, attributes map[string]string) error {
	if err := wire.CheckAttributes(attributes); err != nil {
		return err
	}
	attributes = maps.Clone(attributes)
	if attributes == nil {
		attributes = map[string]string{}
	}
	c.mu.Lock()
	c.attributes = attributes
	c.version++
	c.mu.Unlock()
	return c.Publish(ctx, wire.TopicBeat, description(attributes))
}

// description is the payload of a beat with attributes.
func description(attributes map[string]string) []byte {
	payload, _ := json.Marshal(struct { // maps of strings can always be marshalled
		Attributes map[string]string `json:"attributes"`
	}{attributes})
	return payload
}

// adopted tells a server that has just taken the client what it must know: what
// the client watches, who it is, and what the last server may not have passed on.
func (l *loop) adopted(s *session) {
	for _, w := range l.watches.all() {
		l.wg.Go(func() { l.subscribe(s, w) })
	}
	again := l.recent.take(l.lostAt)
	if attributes, _ := l.described(); attributes == nil && len(again) == 0 {
		return
	}
	release := l.hold()
	l.wg.Go(func() {
		defer release()
		l.describe(s)
		for _, p := range again {
			if err := s.publish(s.life, p.topic, p.payload); err != nil {
				l.cfg.Logger.Debug("Publication was not repeated", "client", l.cfg.ClientID, "topic", p.topic, "error", err)
				continue
			}
			l.metrics.resent.Inc()
			l.recent.add(l.cfg.Clock.Now(), p.topic, p.payload)
		}
	})
}

// describe tells a server the attributes, until they are what they were before
// they were sent: SetAttributes may have come in between.
func (c *Client) describe(s *session) {
	for told := uint64(0); s.life.Err() == nil; {
		attributes, version := c.described()
		if attributes == nil || version == told {
			return
		}
		if err := s.publish(s.life, wire.TopicBeat, description(attributes)); err != nil {
			c.cfg.Logger.Debug("Attributes were not told", "client", c.cfg.ClientID, "error", err)
			return
		}
		told = version
	}
}

func (c *Client) described() (attributes map[string]string, version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.attributes, c.version
}

// declare tells the server another interval.
func (l *loop) declare(s *session, d declare) {
	l.metrics.changes.Inc()
	err := s.publish(s.life, wire.TopicKeepAlive, fmt.Appendf(nil, "%d", d.seconds))
	// A shorter one is kept though it is refused (its signature was late, say): to beat
	// more often than the server knows does no harm, and asking again might never end.
	if _, refused := errors.AsType[*Refusal](err); refused && d.seconds > d.held {
		l.hear(s, declined{d.held})
	}
}
