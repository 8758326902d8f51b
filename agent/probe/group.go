package probe

import (
	"context"
	"errors"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Target is a server to probe.
type Target struct {
	// Server is the name, "namespace/pod", and Address where it listens.
	Server, Address string
	// Limits of the server's Presence.
	Limits Limits
	// Question is how it is asked, for GroupConfig.Way; empty: as a heartbeat server.
	Question string
	// Observers is how many ask it; matters with a Question.
	Observers int
	// Foreign: it belongs to others, who must not see the credential of Config.Token.
	Foreign bool
}

// Group keeps a prober on each of some servers. It belongs to one goroutine.
type Group struct {
	cfg     GroupConfig
	running map[string]*running
}

// GroupConfig is what a Group is made of; Way and Phase are needed where
// services of any kind are probed, the rest always.
type GroupConfig struct {
	// Prober is what all have in common: Server, Address, Limits and Observe are
	// filled in.
	Prober Config
	// Observe is called as a Prober's is, concurrently for different servers;
	// Forget when a server is not probed any more.
	Observe func(Target, wire.Observation)
	Forget  func(server string)
	// Way makes of a target's Question what asks it, Phase says when in each turn.
	Way   func(Target) (Way, error)
	Phase func(server string, every time.Duration) time.Duration
}

// running is a prober at work.
type running struct {
	target Target
	stop   context.CancelFunc
	done   chan struct{}
}

// NewGroup makes a Group that probes nobody.
func NewGroup(cfg GroupConfig) *Group {
	return &Group{cfg: cfg, running: map[string]*running{}}
}

// Probe begins and ends probers, so that there is one for each of the targets
// until ctx ends, or Close is called.
func (g *Group) Probe(ctx context.Context, targets []Target) {
	wanted := make(map[string]Target, len(targets))
	for _, t := range targets {
		wanted[t.Server] = t
	}
	for name, r := range g.running {
		if wanted[name] != r.target {
			r.end()
			delete(g.running, name)
			g.cfg.Forget(name)
		}
	}
	for name, t := range wanted {
		if g.running[name] == nil {
			g.begin(ctx, t)
		}
	}
}

func (g *Group) begin(ctx context.Context, t Target) {
	p, err := g.prober(t)
	if err != nil {
		g.cfg.Prober.Logger.Error("Server cannot be probed", "server", t.Server, "error", err)
		return
	}
	ctx, stop := context.WithCancel(ctx)
	r := &running{target: t, stop: stop, done: make(chan struct{})}
	g.running[t.Server] = r
	go func() {
		defer close(r.done)
		if err := p.Run(ctx); err != nil {
			g.cfg.Prober.Logger.Error("Prober ended", "server", t.Server, "error", err)
		}
	}()
}

// prober for a heartbeat server, or for a service.
func (g *Group) prober(t Target) (interface {
	Run(ctx context.Context) error
}, error) {
	cfg := g.cfg.Prober
	observe := func(o wire.Observation) { g.cfg.Observe(t, o) }
	if t.Question == "" {
		cfg.Server, cfg.Address, cfg.Limits, cfg.Observe = t.Server, t.Address, t.Limits, observe
		if t.Foreign {
			cfg.Token, cfg.TLS = func(context.Context) (string, error) { return "", nil }, nil
		}
		return New(cfg)
	}
	if g.cfg.Way == nil || g.cfg.Phase == nil {
		return nil, errors.New("only heartbeat servers are probed from here")
	}
	w, err := g.cfg.Way(t)
	if err != nil {
		return nil, err
	}
	every := ServiceEvery(t.Observers)
	return NewService(ServiceConfig{
		Server: t.Server, Address: t.Address, Limits: t.Limits, Way: w,
		Every: every, Phase: g.cfg.Phase(t.Server, every),
		Observe: observe, Stall: cfg.Stall, Logger: cfg.Logger, Metrics: cfg.Metrics,
	})
}

// Close ends all probers, and forgets nothing.
func (g *Group) Close() {
	for _, r := range g.running {
		r.stop()
	}
	for _, r := range g.running {
		<-r.done
	}
	clear(g.running)
}

func (r *running) end() {
	r.stop()
	<-r.done
}
