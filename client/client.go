package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/eclipse/paho.golang/paho"

	"github.com/rollcall-dev/rollcall/client/adaptive"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Client is a member's presence. Its methods may be called concurrently.
type Client struct {
	cfg     Config // settled
	events  emitter
	metrics metrics
	needs   atomic.Int64 // of a connection, where there may be none
	inbox   chan news
	watches watches
	recent  recent

	ctx    context.Context // ends when Close begins
	cancel context.CancelFunc
	wg     sync.WaitGroup // everything that the client has started

	mu      sync.Mutex
	current *session      // nil: no server holds the client
	lastErr error         // of the last failed attempt; nil while connected
	changed chan struct{} // closed, and replaced, when one of the above changes
	byeErr  error         // of the DISCONNECT at Close
	// heartbeat is the state of the Heartbeat when the loop ended.
	heartbeat adaptive.State
	// attributes are what each server is told first, version counts their
	// changes from 1.
	attributes map[string]string
	version    uint64
	place      Place
}

// New returns a client that connects in the background. The error holds every
// fault of the Config.
func New(cfg Config) (*Client, error) {
	cfg = cfg.settle()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("client config: %w", err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("client config: Registerer: %w", err)
	}
	c := &Client{cfg: cfg, metrics: m, inbox: make(chan news), changed: make(chan struct{}), attributes: cfg.Attributes, version: 1, place: cfg.Place}
	c.recent.keep = cfg.Resend
	c.events = emitter{f: cfg.OnEvent, wg: &c.wg}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.wg.Go(c.loop)
	return c, nil
}

// Dial returns a client that a server has taken. It gives up when ctx ends,
// and when a server refuses for a reason that any server would have
// (ErrCredentials, for one); ctx has no part in what happens after.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	for {
		s, changed, lastErr := c.state()
		var refusal *Refusal
		if s != nil {
			return c, nil
		}
		if errors.As(lastErr, &refusal) && refusal.hopeless() {
			return nil, errors.Join(lastErr, c.Close())
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("no server has taken the client: %w", errors.Join(ctx.Err(), lastErr, c.Close()))
		}
	}
}

// Server returns the address of the server that holds the client, and its name
// where it told one; empty when none does.
func (c *Client) Server() (address, server string) {
	s, _, _ := c.state()
	if s == nil {
		return "", ""
	}
	return s.address, s.server
}

// Publish sends payload to topic with QoS 1, and returns when a server has
// acknowledged it. It waits for a connection, and sends again when the
// connection is lost meanwhile: at least once. It gives up when ctx ends, and
// with a *Refusal when a server refuses it.
func (c *Client) Publish(ctx context.Context, topic string, payload []byte) error {
	defer c.need()()
	for {
		s, changed, _ := c.state()
		if s != nil && !s.hushed.Load() {
			if topic == wire.TopicBeat {
				c.hear(s, spoke{})
			}
			err := s.publish(ctx, topic, payload)
			var refusal *Refusal
			switch {
			case err == nil:
				c.recent.add(c.cfg.Clock.Now(), topic, payload)
				return nil
			case ctx.Err() != nil, errors.As(err, &refusal), errors.Is(err, paho.ErrInvalidArguments):
				return publishError(topic, err)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return publishError(topic, ctx.Err())
		case <-c.ctx.Done():
			return publishError(topic, ErrClosed)
		}
	}
}

func publishError(topic string, err error) error {
	return fmt.Errorf("publish to %s: %w", topic, err)
}

// Close leaves: the server is told (DISCONNECT), and takes the member offline
// at once. It returns when everything that the client started has ended,
// OnEvent included. An error means that no server could be told: the member is
// offline when its lease ends. Later calls do nothing.
func (c *Client) Close() error {
	c.cancel()
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.byeErr
	c.byeErr = nil
	if err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

func (c *Client) state() (current *session, changed <-chan struct{}, lastErr error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current, c.changed, c.lastErr
}

func (c *Client) setState(s *session, lastErr error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current, c.lastErr = s, lastErr
	close(c.changed)
	c.changed = make(chan struct{})
}
