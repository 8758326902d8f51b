package report

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/internal/certificate"
)

const (
	// The sessions' heartbeat. With the grace of half a second that nodes have,
	// a server ends one 2 s after the last beat.
	beatInterval = 500 * time.Millisecond
	ackTimeout   = 500 * time.Millisecond
	misses       = 2

	// homelessFor is how long a session without a server is choosy.
	homelessFor = time.Second
)

// session is one of the two ordinary sessions that an agent reports through.
type session struct {
	client  *client.Client
	changed chan struct{} // cap 1: it has connected

	mu sync.Mutex
	// aim is where the last attempt went.
	aim string
	// seeking is since when it has looked for a server; zero: it has one.
	seeking time.Time
	// fresh: a server has taken the session since the last report through it.
	fresh bool
}

// newSession begins to connect. exclude is asked about addresses while the
// session is choosy.
func newSession(cfg Config, n int, exclude func(address string) bool) (*session, error) {
	s := &session{changed: make(chan struct{}, 1), seeking: time.Now()}
	dialer := net.Dialer{}
	c, err := client.New(client.Config{
		Servers:    cfg.Servers,
		Presence:   cfg.Presence,
		ClientID:   fmt.Sprintf("%s:%d", cfg.Node, n),
		Token:      cfg.Token,
		Interval:   beatInterval,
		AckTimeout: ackTimeout,
		Misses:     misses,
		Exclude: func(address string) bool {
			return !s.desperate(time.Now()) && exclude(address)
		},
		OnEvent: s.event,
		Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
			s.mu.Lock()
			s.aim = address
			s.mu.Unlock()
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if cfg.TLS == nil {
				return conn, nil
			}
			return certificate.Handshake(ctx, conn, address, cfg.TLS())
		},
		Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	s.client = c
	return s, nil
}

func (s *session) event(e client.Event) {
	s.mu.Lock()
	switch e.Kind {
	case client.Connected, client.Moved:
		s.seeking, s.fresh = time.Time{}, true
	}
	s.mu.Unlock()
	s.poke()
}

// poke wakes the session's sender.
func (s *session) poke() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// desperate tells whether the session has looked for a server for so long that
// any will do.
func (s *session) desperate(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seeking.IsZero() {
		s.seeking = now
	}
	return now.Sub(s.seeking) >= homelessFor
}

// server is the name of the server that holds the session, or that it is about
// to reach, so far as places knows that by its address; empty: none.
func (s *session) server(places []Place) string {
	address, name := s.client.Server()
	if name != "" {
		return name
	}
	if address == "" {
		s.mu.Lock()
		address = s.aim
		s.mu.Unlock()
	}
	for _, p := range places {
		if p.Address == address {
			return p.Server
		}
	}
	return ""
}

// takeFresh tells, once, that a server has taken the session.
func (s *session) takeFresh() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := s.fresh
	s.fresh = false
	return fresh
}

// move makes the session look for another server: a take-over, without the
// goodbye that would take the agent offline.
func (s *session) move() { s.client.Move() }
