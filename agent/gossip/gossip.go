// Package gossip knows which agents are alive, from each other: memberlist, with
// nothing but liveness in it. It is one of the witnesses of a node's death, and
// carries no data: a member's meta is one byte, and there are no messages.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// DefaultPort is what memberlist's users know as the port of gossip.
	DefaultPort = 7946
	// DefaultInterval between two probes of memberlist's own. With a suspicion
	// of twice that (times log10 of the members beyond 10), a dead agent was
	// found after 1.6 s in the median and 2.5 s at worst, in pools of 3 to 40.
	DefaultInterval = 400 * time.Millisecond
	suspicionMult   = 2

	// streamTimeout bounds a join, and so how long Run takes to end.
	streamTimeout = time.Second
	// rejoinEvery is how often lost peers are tried again, ± half of it.
	rejoinEvery = 5 * time.Second
	// aloneEvery is the same for an agent that knows nobody yet.
	aloneEvery = 500 * time.Millisecond
	// rejoinMost is how many of them at once: one that answers brings the rest.
	rejoinMost = 3
	// goodbyeTime bounds how long a goodbye takes.
	goodbyeTime = time.Second
)

// Config is what a Gossip is made of.
type Config struct {
	// Node is this machine's name, and the member's.
	Node string
	// BindAddr is where to listen, UDP and TCP; empty: everywhere. BindPort 0
	// is DefaultPort.
	BindAddr string
	BindPort int
	// AdvertiseAddr is the IP address at which others reach this one; empty:
	// BindAddr, or else an address of a private interface. AdvertisePort 0 is
	// BindPort.
	AdvertiseAddr string
	AdvertisePort int
	// Key of 16, 24 or 32 bytes (AES-GCM), the same in the whole cluster; nil:
	// not encrypted. OlderKeys are understood too: see Keys.
	Key       []byte
	OlderKeys [][]byte
	// Interval between two probes; zero: DefaultInterval.
	Interval time.Duration

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c *Config) validate() error {
	if c.Node == "" {
		return errors.New("gossip: no node name")
	}
	if c.Key == nil && len(c.OlderKeys) > 0 {
		return errors.New("gossip: OlderKeys without a Key")
	}
	if err := c.keys().validate(); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	for what, a := range map[string]string{"bind": c.BindAddr, "advertised": c.AdvertiseAddr} {
		if a != "" && net.ParseIP(a) == nil {
			return fmt.Errorf("gossip: %s address %q is not an IP address", what, a)
		}
	}
	for _, port := range []int{c.BindPort, c.AdvertisePort} {
		if port < 0 || port > 65535 {
			return fmt.Errorf("gossip: port %d is not between 1 and 65535", port)
		}
	}
	if c.BindPort == 0 {
		c.BindPort = DefaultPort
	}
	if c.AdvertisePort == 0 {
		c.AdvertisePort = c.BindPort
	}
	if c.BindAddr == "" {
		c.BindAddr = "0.0.0.0"
	}
	if c.Interval < 0 {
		return fmt.Errorf("gossip: interval %v is negative", c.Interval)
	}
	if c.Interval == 0 {
		c.Interval = DefaultInterval
	}
	return nil
}

func (c *Config) keys() Keys {
	if c.Key == nil {
		return nil
	}
	return append(Keys{c.Key}, c.OlderKeys...)
}

// Peer is an agent that should be a member, as the Kubernetes API knows it.
type Peer struct {
	Node    string
	Address string // "ip:port"
}

// Gossip is this agent's membership.
type Gossip struct {
	cfg     Config
	members *members
	metrics *metrics
	ring    *memberlist.Keyring // nil: not encrypted
	list    atomic.Pointer[memberlist.Memberlist]

	mu    sync.Mutex
	peers []Peer
	fresh chan struct{} // cap 1: peers have changed

	silent bool // for tests: Run ends without a goodbye
}

// New checks cfg; nothing is bound before Run.
func New(cfg Config) (*Gossip, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	g := &Gossip{cfg: cfg, members: newMembers(), fresh: make(chan struct{}, 1)}
	var err error
	if g.ring, err = cfg.keys().keyring(); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	if g.metrics, err = newMetrics(cfg.Registerer, g); err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	return g, nil
}

// Run is a member until ctx ends, and then says goodbye. It fails when the port
// is taken.
func (g *Gossip) Run(ctx context.Context) error {
	if len(g.cfg.Key) == 0 {
		g.cfg.Logger.Warn("Gossip is not encrypted: anybody who reaches the port can forge it", "port", g.cfg.BindPort)
	}
	list, err := memberlist.Create(g.memberlistConfig())
	if err != nil {
		return fmt.Errorf("listen for gossip on %s:%d: %w", g.cfg.BindAddr, g.cfg.BindPort, err)
	}
	g.list.Store(list)
	defer g.leave(list)

	// memberlist forgets the dead, and partitions that outlast its memory never
	// heal by themselves: the peers that the API names are joined for ever.
	for {
		g.join(ctx, list)
		wait := rejoinEvery
		if g.Alive() == 0 {
			wait = aloneEvery
		}
		select {
		case <-ctx.Done():
			return nil
		case <-g.fresh:
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

func (g *Gossip) memberlistConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = g.cfg.Node
	c.BindAddr, c.BindPort = g.cfg.BindAddr, g.cfg.BindPort
	c.AdvertiseAddr, c.AdvertisePort = g.cfg.AdvertiseAddr, g.cfg.AdvertisePort
	c.Keyring = g.ring
	c.ProbeInterval = g.cfg.Interval
	// Those who are asked to probe in our place answer "no" after ProbeTimeout
	// too. What doesn't arrive within ProbeInterval counts against our own
	// health: both, and the way, must fit into it.
	c.ProbeTimeout = g.cfg.Interval * 3 / 8
	c.SuspicionMult = suspicionMult
	c.TCPTimeout = streamTimeout
	// An agent that comes back with another address must not be refused
	// because of its own past.
	c.DeadNodeReclaimTime = time.Second
	c.EnableCompression = false // messages are tens of bytes
	c.Events, c.Delegate, c.Ping = g.members, g.members, g.members
	c.Logger = log.New(&logWriter{g.cfg.Logger}, "", 0)
	return c
}

// SetPeers tells who should be a member; Run joins those who aren't.
func (g *Gossip) SetPeers(peers []Peer) {
	g.mu.Lock()
	changed := !slices.Equal(g.peers, peers)
	g.peers = slices.Clone(peers)
	g.mu.Unlock()
	if !changed {
		return
	}
	g.members.retain(peers)
	select {
	case g.fresh <- struct{}{}:
	default:
	}
}

// join tries some of the peers that are not members.
func (g *Gossip) join(ctx context.Context, list *memberlist.Memberlist) {
	g.mu.Lock()
	missing := slices.DeleteFunc(slices.Clone(g.peers), func(p Peer) bool {
		m, ok := g.members.get(p.Node)
		return p.Node == g.cfg.Node || ok && m.State == Alive
	})
	g.mu.Unlock()
	rand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
	for _, p := range missing[:min(len(missing), rejoinMost)] {
		if ctx.Err() != nil {
			return
		}
		if _, err := list.Join([]string{p.Address}); err != nil {
			g.metrics.joins.WithLabelValues("failed").Inc()
			g.cfg.Logger.Debug("Peer was not joined", "node", p.Node, "address", p.Address, "error", err)
			continue
		}
		g.metrics.joins.WithLabelValues("joined").Inc()
		return // it knows the others
	}
}

// leave says goodbye, by a meta that says so, and goes. memberlist's own Leave
// is not used: those who are told can't tell it from a death, and its message
// replaces this one wherever it overtakes it.
func (g *Gossip) leave(list *memberlist.Memberlist) {
	g.list.Store(nil)
	if !g.silent {
		g.members.leaving.Store(true)
		if err := list.UpdateNode(goodbyeTime); err != nil {
			g.cfg.Logger.Debug("Goodbye was not told to all", "error", err)
		}
	}
	if err := list.Shutdown(); err != nil {
		g.cfg.Logger.Warn("Gossip was not shut down", "error", err)
	}
}

// ErrNotRunning is what Ping returns before Run and after it.
var ErrNotRunning = errors.New("gossip is not running")

// Ping asks an agent directly, by UDP, whether it runs; it waits for three
// eighths of Interval. An empty address is the member's own. It may be called
// concurrently.
func (g *Gossip) Ping(node, address string) (time.Duration, error) {
	list := g.list.Load()
	if list == nil {
		return 0, ErrNotRunning
	}
	if m, ok := g.members.get(node); ok && (address == "" || m.State == Alive) {
		address = m.Address
	}
	addr, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return 0, fmt.Errorf("ping %s: %w", node, err)
	}
	took, err := list.Ping(node, addr)
	if err != nil {
		g.metrics.pings.WithLabelValues("unanswered").Inc()
		return 0, fmt.Errorf("ping %s at %s: %w", node, address, err)
	}
	g.metrics.pings.WithLabelValues("answered").Inc()
	return took, nil
}

// Member is what gossip says of a node, and whether it ever spoke of it.
func (g *Gossip) Member(node string) (Member, bool) { return g.members.get(node) }

// Alive is how many other members are alive.
func (g *Gossip) Alive() int { return g.members.alive(g.cfg.Node) }

// Changed receives (once for any number of changes) when a member has come,
// gone, said goodbye, or answered a question of memberlist's own. It has one reader.
func (g *Gossip) Changed() <-chan struct{} { return g.members.changed }

// Health is memberlist's own health score: 0 is well.
func (g *Gossip) Health() int {
	if list := g.list.Load(); list != nil {
		return list.GetHealthScore()
	}
	return 0
}
