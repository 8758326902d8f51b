package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/eclipse/paho.golang/paho"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Watch tells who is online in a Presence ("namespace/name"), then that this was
// all (a Change without a Client), and then every change, each once, whatever
// becomes of the servers in between: a client that went while no server told is
// told as gone after the next connection. An empty client stands for everybody.
// It needs the right to watch that Presence.
//
// It ends when ctx does, quietly; with ErrClosed when the client does; and with
// a *Refusal when a server refuses it. A slow reader delays no beats and no
// server: of what it has not read yet it is told the latest of each client. A
// watch remembers a revision for each client that it has told of.
func (c *Client) Watch(ctx context.Context, presence, client string) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		w, err := newWatch(presence, client)
		if err != nil {
			yield(Change{}, err)
			return
		}
		c.watches.add(w)
		defer c.unwatch(w)
		c.say(wanted{w})
		for {
			select {
			case <-w.more:
				for _, change := range w.unread() {
					if !yield(change, nil) {
						return
					}
				}
			case err := <-w.refused:
				yield(Change{}, fmt.Errorf("watch %s: %w", presence, err))
				return
			case <-ctx.Done():
				return
			case <-c.ctx.Done():
				yield(Change{}, fmt.Errorf("watch %s: %w", presence, ErrClosed))
				return
			}
		}
	}
}

// watch is one Watch under way.
type watch struct {
	filter  string
	client  string        // empty: everybody
	refused chan error    // cap 1
	more    chan struct{} // cap 1: there is something to read

	mu   sync.Mutex
	roll *roll
	// queue is what the reader has not read, at most one of each client.
	queue []Change
	place map[string]int // in queue, by client
}

func newWatch(presence, client string) (*watch, error) {
	namespace, name, err := wire.ParseUserName(presence)
	if err != nil {
		return nil, fmt.Errorf("watch: %q is not namespace/name", presence)
	}
	level := client
	if client == "" {
		level = "+"
	} else if !wire.ValidClientID(client) {
		return nil, fmt.Errorf("watch: %q is no client's name", client)
	}
	return &watch{
		filter: wire.PresenceTopic(namespace, name, level), client: client,
		refused: make(chan error, 1), more: make(chan struct{}, 1),
		roll: newRoll(), place: map[string]int{},
	}, nil
}

// begin takes that a server is asked to tell who is here.
func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.roll.begin()
}

// take takes a server's message.
func (w *watch) take(p *paho.Publish) {
	_, _, client, _ := wire.ParsePresenceTopic(p.Topic)
	var s wire.PresenceState
	if p.Properties != nil && p.Properties.User.Get(wire.PropWill) != "" || json.Unmarshal(p.Payload, &s) != nil {
		return // a will, which the client's state has too
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, change := range w.roll.take(client, s, p.Retain) {
		if at, ok := w.place[change.Client]; ok {
			w.queue[at] = change
			continue
		}
		w.place[change.Client] = len(w.queue)
		w.queue = append(w.queue, change)
	}
	if len(w.queue) > 0 {
		select {
		case w.more <- struct{}{}:
		default:
		}
	}
}

func (w *watch) unread() []Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queue
	w.queue = nil
	clear(w.place)
	return q
}

// matches tells whether a topic is one that the watch has asked for.
func (w *watch) matches(topic string) bool {
	namespace, presence, client, ok := wire.ParsePresenceTopic(topic)
	if !ok {
		return false
	}
	if w.client != "" {
		return topic == w.filter
	}
	return client != "+" && wire.PresenceTopic(namespace, presence, "+") == w.filter
}

// What a Watch asks the loop for.
type (
	wanted   struct{ watch *watch }
	unwanted struct{ filter string }
)

// watches are those under way.
type watches struct {
	mu  sync.Mutex
	set map[*watch]struct{}
}

func (w *watches) add(one *watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set == nil {
		w.set = map[*watch]struct{}{}
	}
	w.set[one] = struct{}{}
}

// remove tells whether it was the last one of its filter.
func (w *watches) remove(one *watch) (last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.set, one)
	for other := range w.set {
		if other.filter == one.filter {
			return false
		}
	}
	return true
}

func (w *watches) all() []*watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	var l []*watch
	for one := range w.set {
		l = append(l, one)
	}
	return l
}

// subscribe asks a server for what a watch wants. Others with the same filter
// are told the same anew.
func (c *Client) subscribe(s *session, w *watch) {
	for _, other := range c.watches.all() {
		if other.filter == w.filter {
			other.begin()
		}
	}
	err := s.subscribe(s.life, w.filter)
	if _, refused := errors.AsType[*Refusal](err); !refused && !errors.Is(err, paho.ErrInvalidArguments) {
		return // it is granted, or the connection is lost: the next one is asked
	}
	select {
	case w.refused <- err:
	default:
	}
}

// unwatch ends a watch.
func (c *Client) unwatch(w *watch) {
	if last := c.watches.remove(w); last {
		c.say(unwanted{w.filter})
	}
}

// published takes a publication of a server.
func (c *Client) published(p *paho.Publish) {
	for _, w := range c.watches.all() {
		if w.matches(p.Topic) {
			w.take(p)
		}
	}
}
