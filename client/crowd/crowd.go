// Package crowd runs many clients in one process, for demos, tests and
// measurements. Each is an ordinary client of package client; what the crowd
// adds is a pace at which they start, counts, and one stream of events.
package crowd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/rollcall-dev/rollcall/client"
)

// Defaults of Config.
const (
	DefaultPrefix     = "crowd"
	DefaultInterval   = 5 * time.Second
	DefaultAckTimeout = time.Second
	DefaultMisses     = 1
	DefaultStartRate  = 500
)

const (
	// spareFiles are left to the rest of the process.
	spareFiles = 64
	// closing is how many clients leave at a time at the end.
	closing = 128
)

// Config is what a Crowd is made of. Count, Servers and Presence are required.
type Config struct {
	// Count of clients. Each needs an open file.
	Count int
	// Prefix of the client ids: "<prefix>-0", "<prefix>-1" and so on. Empty:
	// DefaultPrefix.
	Prefix string

	// Servers, Presence, Token, Password, Jitter and Dialer are each client's
	// own; see client.Config.
	Servers  []string
	Presence string
	Token    func(context.Context) (string, error)
	Password string
	Jitter   float64
	Dialer   func(ctx context.Context, network, address string) (net.Conn, error)
	// Interval, AckTimeout and Misses too, with defaults of their own.
	Interval, AckTimeout time.Duration
	Misses               int

	// StartRate is how many clients start per second. Zero: DefaultStartRate.
	StartRate float64
	// Events gets a Line of JSON for each event of each client. Nil: nobody.
	Events io.Writer
	// OnLine is called with each event, after it was counted and written, never
	// concurrently. Nil: nobody.
	OnLine func(Line)
	// Registerer gets the clients' metrics. Nil: none.
	Registerer prometheus.Registerer
	// Logger gets what concerns the crowd, not each client's own messages.
	// Nil: silent.
	Logger *slog.Logger
}

// Line is one event of one client.
type Line struct {
	At     time.Time   `json:"at"`
	Client string      `json:"client"`
	Kind   client.Kind `json:"kind"`
	// From is the server before, To the new one (Connected, Moved): by name, or by
	// address where it told no name. Late: To is the late one. Offline: no To.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Reason is why the server before was left: late, broken or directed.
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Snapshot is the state of a crowd.
type Snapshot struct {
	// Count of clients wanted, Started so far.
	Count, Started int
	// Connected by server (name, or address where it told no name); those that
	// no server holds at the moment are missing.
	Connected map[string]int
	// Moves counts arrivals at another server than before; MovesBy the same by
	// the reason for which that one was left.
	Moves   int
	MovesBy map[string]int
	// Late counts late answers, Offline moments from which on a client could be
	// taken for gone. A client that never connected had one such moment.
	Late, Offline int
}

// Crowd is many clients. Make it with New.
type Crowd struct {
	cfg Config

	mu      sync.Mutex
	clients []*client.Client
	counts  Snapshot

	out  sync.Mutex // held while a line is written and OnLine runs
	lost error      // writing to Events failed
}

// New returns a crowd that Run starts. The error holds every fault of the Config.
func New(cfg Config) (*Crowd, error) {
	cfg.Prefix = cmp.Or(cfg.Prefix, DefaultPrefix)
	cfg.Interval = cmp.Or(cfg.Interval, DefaultInterval)
	cfg.AckTimeout = cmp.Or(cfg.AckTimeout, DefaultAckTimeout)
	cfg.Misses = cmp.Or(cfg.Misses, DefaultMisses)
	cfg.StartRate = cmp.Or(cfg.StartRate, DefaultStartRate)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("crowd config: %w", err)
	}
	return &Crowd{cfg: cfg, counts: Snapshot{Count: cfg.Count, MovesBy: map[string]int{}}}, nil
}

func (c Config) validate() error {
	var faults []error
	fault := func(field, format string, args ...any) {
		faults = append(faults, fmt.Errorf(field+": "+format, args...))
	}
	if c.Count < 1 {
		fault("Count", "%d is less than 1", c.Count)
	}
	if !(c.StartRate > 0) {
		fault("StartRate", "%v is not above 0", c.StartRate)
	}
	if limit, known := openFiles(); known && c.Count > 0 && uint64(c.Count)+spareFiles > limit {
		fault("Count", "%d clients need %d open files, and this process may have %d (see ulimit -n)",
			c.Count, uint64(c.Count)+spareFiles, limit)
	}
	faults = append(faults, c.client(max(c.Count-1, 0)).Validate())
	return errors.Join(faults...)
}

// client is the Config of client n.
func (c Config) client(n int) client.Config {
	return client.Config{
		Servers: c.Servers, Presence: c.Presence, ClientID: fmt.Sprintf("%s-%d", c.Prefix, n),
		Token: c.Token, Password: c.Password, Dialer: c.Dialer,
		Interval: c.Interval, Jitter: c.Jitter, AckTimeout: c.AckTimeout, Misses: c.Misses,
		Registerer: c.Registerer,
	}
}

// Run starts the clients, keeps them until ctx ends, and then has all of them
// leave. It may be called once.
func (c *Crowd) Run(ctx context.Context) error {
	pace := rate.NewLimiter(rate.Limit(c.cfg.StartRate), max(1, int(c.cfg.StartRate/20)))
	for n := range c.cfg.Count {
		if pace.Wait(ctx) != nil {
			break
		}
		cfg := c.cfg.client(n)
		cfg.OnEvent = func(e client.Event) { c.take(cfg.ClientID, e) }
		cl, err := client.New(cfg)
		if err != nil {
			c.leave()
			return err
		}
		c.mu.Lock()
		c.clients = append(c.clients, cl)
		c.mu.Unlock()
	}
	if ctx.Err() == nil {
		c.cfg.Logger.Info("Crowd started", "clients", c.cfg.Count)
	}
	<-ctx.Done()
	c.leave()
	c.out.Lock()
	defer c.out.Unlock()
	return c.lost
}

// leave closes every client.
func (c *Crowd) leave() {
	c.mu.Lock()
	clients := c.clients
	c.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(closing)
	for _, cl := range clients {
		// A goodbye that failed is of no interest: the server is gone.
		g.Go(func() error { _ = cl.Close(); return nil })
	}
	_ = g.Wait()
}

// take counts and writes one event of one client.
func (c *Crowd) take(id string, e client.Event) {
	to := cmp.Or(e.Server, e.Address)
	line := Line{At: e.At, Client: id, Kind: e.Kind, From: e.Previous, To: to, Reason: e.Reason}
	if e.Err != nil {
		line.Error = e.Err.Error()
	}
	c.count(e)
	c.out.Lock()
	defer c.out.Unlock()
	if c.cfg.Events != nil && c.lost == nil {
		if err := json.NewEncoder(c.cfg.Events).Encode(line); err != nil {
			c.lost = fmt.Errorf("write events: %w", err)
			c.cfg.Logger.Error("Events are lost from here on", "error", err)
		}
	}
	if c.cfg.OnLine != nil {
		c.cfg.OnLine(line)
	}
}

func (c *Crowd) count(e client.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch e.Kind {
	case client.Moved:
		c.counts.Moves++
		c.counts.MovesBy[e.Reason]++
	case client.Late:
		c.counts.Late++
	case client.Offline:
		c.counts.Offline++
	}
}

// Snapshot returns the state of the crowd.
func (c *Crowd) Snapshot() Snapshot {
	c.mu.Lock()
	s, clients := c.counts, c.clients
	s.MovesBy = maps.Clone(s.MovesBy)
	c.mu.Unlock()
	s.Started, s.Connected = len(clients), map[string]int{}
	for _, cl := range clients {
		if address, server := cl.Server(); address != "" {
			s.Connected[cmp.Or(server, address)]++
		}
	}
	return s
}
