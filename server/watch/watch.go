// Package watch tells subscribers who is here: for each Presence that somebody
// watches, one watch of the store, however many subscribers there are. A
// subscriber is told who is online, listed from the store for it alone, and then
// every change since that listing, from a log of the last changes that all share.
// So memory is bounded for each Presence that is watched (Config.Log), and does not
// grow with clients.
//
// It knows neither MQTT nor who may watch: a Sink is where messages go.
package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// Store is what a Hub needs of store.Store.
type Store interface {
	FollowPresence(ctx context.Context, namespace, presence string, f func(store.PresenceChanges))
	ListPresence(ctx context.Context, namespace, presence string, each func(store.KeyedSession) error) (int64, error)
	ReadSessions(ctx context.Context, keys []store.SessionKey) ([]store.SessionResult, error)
}

// Config is what a Hub is made of. Store and Logger are needed.
type Config struct {
	Store Store
	// Log is how many changes of a Presence are kept for subscribers that are
	// behind; who is behind further gets ErrBehind. 0: 16384.
	Log int
	// Subscribers is how many a Presence may have, and Listeners how many of them
	// may watch all of its clients; 0: 1024 and 64.
	Subscribers, Listeners int
	// Settle is how long after the store was rewound everything is told anew:
	// until then the servers write again who is here. 0: 30 s.
	Settle time.Duration
	Logger *slog.Logger
}

func (c *Config) validate() error {
	switch {
	case c.Store == nil, c.Logger == nil:
		return errors.New("watch: Store and Logger are needed")
	case c.Log < 0, c.Subscribers < 0, c.Listeners < 0, c.Settle < 0:
		return errors.New("watch: Log, Subscribers, Listeners and Settle must not be negative")
	}
	c.Log = cmp.Or(c.Log, 1<<14)
	c.Subscribers, c.Listeners = cmp.Or(c.Subscribers, 1024), cmp.Or(c.Listeners, 64)
	c.Settle = cmp.Or(c.Settle, 30*time.Second)
	return nil
}

const (
	// atOnce is how many listings of all clients of a Presence may be under way.
	atOnce = 4
	// takenWithin is how long a subscriber may take to take one, besides what the
	// store takes: others wait for it.
	takenWithin = 50 * time.Second
	// tryEvery is how often the store is asked again where it can't tell.
	tryEvery = time.Second
)

var (
	// ErrFull: the Presence has as many subscribers as it may.
	ErrFull = errors.New("as many watch this Presence here as may")
	// ErrBehind: the subscriber takes what it is sent more slowly than it happens.
	ErrBehind = errors.New("the subscriber is too far behind")
)

// Hub is a server's watches. Safe for concurrent use.
type Hub struct {
	cfg     Config
	listing chan struct{} // holds one for every listing under way

	mu    sync.Mutex
	feeds map[presence]*feed
}

type presence struct{ namespace, name string }

// New makes a Hub.
func New(cfg Config) (*Hub, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Hub{cfg: cfg, listing: make(chan struct{}, atOnce), feeds: map[presence]*feed{}}, nil
}

// Topic is what is watched: one client of a Presence, or all: "".
type Topic struct{ Namespace, Presence, Client string }

// Place is a subscriber's place at a Presence: Leave gives it back.
type Place struct {
	hub   *Hub
	feed  *feed
	topic Topic
	once  sync.Once
}

// Join takes a place, or fails with ErrFull.
func (h *Hub) Join(t Topic) (*Place, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := presence{t.Namespace, t.Presence}
	f := h.feeds[of]
	if f == nil {
		f = newFeed(h.cfg.Log)
		h.feeds[of] = f
	}
	if f.subscribers >= h.cfg.Subscribers || t.Client == "" && f.listeners >= h.cfg.Listeners {
		return nil, fmt.Errorf("%s/%s: %w", t.Namespace, t.Presence, ErrFull)
	}
	f.subscribers++
	if t.Client == "" {
		f.listeners++
	}
	if f.subscribers == 1 {
		ctx, cancel := context.WithCancel(context.Background())
		f.end = cancel
		f.done.Go(func() { h.cfg.Store.FollowPresence(ctx, of.namespace, of.name, f.take) })
	}
	return &Place{hub: h, feed: f, topic: t}, nil
}

// Leave gives the place back. With the last one goes the watch of the store.
func (p *Place) Leave() {
	p.once.Do(func() {
		h, f := p.hub, p.feed
		h.mu.Lock()
		f.subscribers--
		if p.topic.Client == "" {
			f.listeners--
		}
		last := f.subscribers == 0
		if last {
			delete(h.feeds, presence{p.topic.Namespace, p.topic.Presence})
		}
		h.mu.Unlock()
		if last {
			f.end()
			f.done.Wait()
		}
	})
}

// Subscribers is how many places are taken.
func (h *Hub) Subscribers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, f := range h.feeds {
		n += f.subscribers
	}
	return n
}
