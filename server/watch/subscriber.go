package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Message is one thing that a subscriber is told.
type Message struct {
	// Client that it is about, or wire.EveryClient.
	Client string
	// Payload is a wire.PresenceState, or a will as it is.
	Payload []byte
	// Current: this is how things are, not a change of them.
	Current bool
	// Will is the revision at which the client whose will this is went offline;
	// 0: it is no will.
	Will int64
}

// Sink takes messages. Send may wait until there is room; Flush says that
// nothing follows for now. Their errors end Follow.
type Sink interface {
	Send(ctx context.Context, m Message) error
	Flush(ctx context.Context) error
}

var errGap = errors.New("changes may have been missed")

// Follow tells a sink who is here, unless current is false, and then every
// change, until the context ends or the sink fails. After a gap it begins again
// with who is here.
func (p *Place) Follow(ctx context.Context, current bool, sink Sink) error {
	at, err := p.feed.now(ctx)
	if err != nil {
		return err
	}
	known := int64(0) // the revision up to which the sink knows everything
	for {
		if current {
			if known, err = p.tell(ctx, sink); err != nil {
				return err
			}
		}
		err = p.changes(ctx, at, known, sink)
		if !errors.Is(err, errGap) {
			return err
		}
		current = true
		history := at.history
		if at, err = p.feed.now(ctx); err != nil {
			return err
		}
		if at.history != history {
			if err := p.settle(ctx); err != nil {
				return err
			}
		}
	}
}

// settle waits until the servers have written again who is here.
func (p *Place) settle(ctx context.Context) error {
	p.hub.cfg.Logger.Warn("The store has lost history, subscribers are told anew who is here in a while",
		"presence", p.topic.Namespace+"/"+p.topic.Presence, "after", p.hub.cfg.Settle)
	return pause(ctx, p.hub.cfg.Settle)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// changes tells what happens from at on, but for what is known already.
func (p *Place) changes(ctx context.Context, at position, known int64, sink Sink) error {
	for {
		changes, next, more, err := p.feed.after(at)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if c.Session == nil || c.Revision <= known || p.topic.Client != "" && c.Key.Client != p.topic.Client {
				continue // a tombstone has had its time: nothing has changed
			}
			if err := send(ctx, sink, c.Key.Client, stateOf(c.Session, c.Revision), false); err != nil {
				return err
			}
			if c.Session.Offline && c.Session.Will != nil {
				if err := sink.Send(ctx, Message{Client: c.Key.Client, Payload: c.Session.Will, Will: c.Revision}); err != nil {
					return err
				}
			}
		}
		at = next
		if len(changes) > 0 {
			continue
		}
		if err := sink.Flush(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
	}
}

// tell tells who is here, and as of which revision.
func (p *Place) tell(ctx context.Context, sink Sink) (int64, error) {
	if p.topic.Client != "" {
		return p.tellOne(ctx, sink)
	}
	for {
		revision, err := p.tellAll(ctx, sink)
		var of *sinkError
		switch {
		case err == nil, ctx.Err() != nil:
			return revision, err
		case errors.As(err, &of):
			return 0, of.error
		}
		p.hub.cfg.Logger.Warn("Who is here could not be listed for a subscriber, will try again",
			"presence", p.topic.Namespace+"/"+p.topic.Presence, "error", err)
		if err := pause(ctx, tryEvery); err != nil {
			return 0, err
		}
	}
}

// sinkError is a sink's, and not the store's.
type sinkError struct{ error }

func (p *Place) tellAll(ctx context.Context, sink Sink) (int64, error) {
	select {
	case p.hub.listing <- struct{}{}:
		defer func() { <-p.hub.listing }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	online, waited := 0, time.Duration(0)
	revision, err := p.hub.cfg.Store.ListPresence(ctx, p.topic.Namespace, p.topic.Presence, func(k store.KeyedSession) error {
		if k.Session.Offline {
			return nil
		}
		online++
		begun := time.Now()
		err := send(ctx, sink, k.Key.Client, stateOf(k.Session, k.Revision), true)
		if waited += time.Since(begun); err == nil && waited > takenWithin {
			err = ErrBehind
		}
		if err != nil {
			return &sinkError{err}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	all := wire.PresenceState{State: wire.StateCurrent, Revision: revision, Online: online}
	if err := send(ctx, sink, wire.EveryClient, all, true); err != nil {
		return 0, &sinkError{err}
	}
	return revision, nil
}

func (p *Place) tellOne(ctx context.Context, sink Sink) (int64, error) {
	key := store.SessionKey{Namespace: p.topic.Namespace, Presence: p.topic.Presence, Client: p.topic.Client}
	found, err := p.hub.cfg.Store.ReadSessions(ctx, []store.SessionKey{key})
	if err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	r := found[0]
	state := wire.PresenceState{State: wire.StateOffline, Revision: r.AsOf}
	if r.Current != nil && r.Current.Incarnation != "" {
		state = stateOf(r.Current, r.Revision)
	}
	return r.AsOf, send(ctx, sink, key.Client, state, true)
}

func send(ctx context.Context, sink Sink, client string, state wire.PresenceState, current bool) error {
	payload, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return sink.Send(ctx, Message{Client: client, Payload: payload, Current: current})
}

func stateOf(s *store.Session, revision int64) wire.PresenceState {
	state := wire.PresenceState{
		State: wire.StateOnline, Revision: revision, Server: s.Server, Since: s.Since,
		Interval: s.Interval, Attributes: s.Attributes,
	}
	if s.Offline {
		state.State, state.LastSeen, state.Will = wire.StateOffline, s.LastSeen, s.Will
	}
	return state
}
