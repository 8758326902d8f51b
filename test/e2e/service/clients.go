package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxJitter bounds how long a client waits before it comes back, by chance.
	maxJitter = time.Second
	// dialWithin is net/http's own patience with a connection.
	dialWithin = 30 * time.Second
)

// ClientsConfig is a crowd of clients of one service.
type ClientsConfig struct {
	Speech Speech
	// Address of the service, as host:port.
	Address string
	// Count of clients, of whom PerSecond come each second to begin with.
	Count, PerSecond int
	// Every is between two questions of one client, where the answer came sooner.
	Every time.Duration
	// Units of work that an answer over HTTP costs; 0: the usual ones.
	Units int
	// Control tells what they have seen, at /clients.
	Control net.Listener
}

func (c *ClientsConfig) validate() error {
	switch {
	case c.Address == "" || c.Control == nil:
		return errors.New("address and control must both be given")
	case c.Count <= 0 || c.PerSecond <= 0 || c.Every <= 0:
		return fmt.Errorf("count is %d, perSecond %d and every %s: all must be above 0", c.Count, c.PerSecond, c.Every)
	case c.Units < 0 || c.Units > 0 && c.Speech != HTTP:
		return fmt.Errorf("units is %d: it must be from 0 on, and 0 but for %s", c.Units, HTTP)
	}
	return c.Speech.validate()
}

// speaker is a client of some protocol, conversation what it has with one server.
type speaker interface {
	open(ctx context.Context) (conversation, error)
	close()
}

type conversation interface {
	// ask returns which pod answered.
	ask(ctx context.Context) (pod string, err error)
	end()
}

// Use uses a service until ctx ends, and closes the control listener.
func Use(ctx context.Context, c ClientsConfig) error {
	if err := c.validate(); err != nil {
		return err
	}
	if c.Units == 0 {
		c.Units = usual
	}
	records, speakers := make([]*record, c.Count), make([]speaker, c.Count)
	for i := range records {
		records[i] = newRecord(i)
		var err error
		if speakers[i], err = c.speaker(&lines{dialer: net.Dialer{Timeout: dialWithin}, record: records[i]}); err != nil {
			return err
		}
	}
	return together(ctx, func(ctx context.Context) error { return serveHTTP(ctx, c.Control, told(records)) }, func(ctx context.Context) error {
		var all sync.WaitGroup
		for i, r := range records {
			all.Go(func() {
				if pause(ctx, time.Duration(i)*time.Second/time.Duration(c.PerSecond)) == nil {
					r.use(ctx, speakers[i], c.Every)
				}
			})
		}
		all.Wait()
		return nil
	})
}

func (c *ClientsConfig) speaker(l *lines) (speaker, error) {
	switch c.Speech {
	case GRPC:
		return newTalker(l, c.Address)
	case WebSocket:
		return newChatter(l, c.Address), nil
	default:
		return newGetter(l, c.Address, c.Units), nil
	}
}

// told is what all have seen.
func told(records []*record) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /clients", func(rw http.ResponseWriter, _ *http.Request) {
		all := make([]Client, len(records))
		for i, r := range records {
			all[i] = r.snapshot()
		}
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(all)
	})
	return mux
}

// use has one conversation after the other until ctx ends.
func (r *record) use(ctx context.Context, s speaker, every time.Duration) {
	defer s.close()
	for {
		err := r.converse(ctx, s, every)
		if ctx.Err() != nil {
			return
		}
		r.fails(time.Now(), err)
		if pause(ctx, rand.N(maxJitter)) != nil {
			return
		}
	}
}

// converse asks until something fails.
func (r *record) converse(ctx context.Context, s speaker, every time.Duration) error {
	r.asks(time.Now())
	c, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	for {
		began := time.Now()
		r.asks(began)
		pod, err := c.ask(ctx)
		if err != nil {
			return err
		}
		r.answered(time.Now(), pod)
		if err := pause(ctx, every-time.Since(began)); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
