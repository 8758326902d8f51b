package probe

import (
	"context"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Target is a server to probe.
type Target struct {
	// Server is the name, "namespace/pod", and Address where it listens.
	Server, Address string
	// Limits of the server's Presence.
	Limits Limits
}

// Group keeps a prober on each of some servers. It belongs to one goroutine.
type Group struct {
	cfg     GroupConfig
	running map[string]*running
}

// GroupConfig is what a Group is made of; every field is needed.
type GroupConfig struct {
	// Prober is what all have in common: Server, Address, Limits and Observe are
	// filled in.
	Prober Config
	// Observe is called as a Prober's is, concurrently for different servers;
	// Forget when a server is not probed any more.
	Observe func(Target, wire.Observation)
	Forget  func(server string)
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
	cfg := g.cfg.Prober
	cfg.Server, cfg.Address, cfg.Limits = t.Server, t.Address, t.Limits
	cfg.Observe = func(o wire.Observation) { g.cfg.Observe(t, o) }
	p, err := New(cfg)
	if err != nil {
		cfg.Logger.Error("Server cannot be probed", "server", t.Server, "error", err)
		return
	}
	ctx, stop := context.WithCancel(ctx)
	r := &running{target: t, stop: stop, done: make(chan struct{})}
	g.running[t.Server] = r
	go func() {
		defer close(r.done)
		if err := p.Run(ctx); err != nil {
			cfg.Logger.Error("Prober ended", "server", t.Server, "error", err)
		}
	}()
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
