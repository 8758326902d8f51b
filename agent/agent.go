// Package agent is the node agent: it gossips with its peers, probes the
// heartbeat servers and pings the agents that are assigned to it, and reports
// what it sees. It judges nothing: it is a witness.
//
// Who watches whom follows from the Kubernetes API alone, by verdict.Assign, so
// that agents and controller agree without talking.
package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/agent/gossip"
	"github.com/rollcall-dev/rollcall/agent/probe"
	"github.com/rollcall-dev/rollcall/agent/report"
	"github.com/rollcall-dev/rollcall/agent/stall"
	"github.com/rollcall-dev/rollcall/agent/suspicion"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// DefaultKubeletPort is where a kubelet listens.
const DefaultKubeletPort = 10250

// Cluster is what the Kubernetes API says, refreshed for ever by whoever
// implements it, and kept while the API is away. NewCluster makes one. Its
// methods don't block; what they return is not changed by anybody.
type Cluster interface {
	Nodes() []Node
	Agents() []Peer
	Servers() []Target
	// Changed receives, once for any number of changes, when one of the above
	// has changed. It has one reader.
	Changed() <-chan struct{}
}

// Node is a machine.
type Node struct {
	Name string
	// Zone is its failure domain; may be empty.
	Zone string
	// Address is its IP address; empty: not known.
	Address string
}

// Peer is the agent of a node.
type Peer struct {
	Node string
	// GossipAddress is "ip:port".
	GossipAddress string
}

// Target is a server that may have to be probed.
type Target struct {
	Name       string // "namespace/pod"
	Node, Zone string // where it runs
	Address    string // "ip:port"
	// AnswerTime and Window are the Presence's limits of overload; Observers is
	// how many agents probe it.
	AnswerTime, Window time.Duration
	Observers          int
	Presence           string // "namespace/name"
	// Question is how it is asked, where it is not a heartbeat server.
	Question string
	// Foreign: its Presence is not in the installation's namespace.
	Foreign bool
}

// GossipConfig is how this agent takes part in gossip.
type GossipConfig struct {
	// BindAddr is the IP address to listen on, empty: all; BindPort the port, UDP and
	// TCP, 0: gossip.DefaultPort.
	BindAddr string
	BindPort int
	// AdvertiseAddr is the IP address at which others reach this agent; empty:
	// BindAddr, or else an address of a private interface. AdvertisePort 0 is
	// BindPort.
	AdvertiseAddr string
	AdvertisePort int
	// Key has 16, 24 or 32 bytes and is the same in the whole cluster; nil: not
	// encrypted. OlderKeys are understood too.
	Key       []byte
	OlderKeys [][]byte
	// Interval between two of memberlist's own probes; zero: gossip.DefaultInterval.
	Interval time.Duration
}

// Config is what an Agent is made of. Node, Cluster, Presence, Logger and
// Registerer are required.
type Config struct {
	// Node is this machine's name; Zone its failure domain, empty: as Cluster
	// says when it begins.
	Node, Zone string
	// Boot orders the lives of this agent (Unix ns); zero: now.
	Boot int64
	// Cluster is what the Kubernetes API says.
	Cluster Cluster
	// Servers are addresses (host:port) of heartbeat servers to begin with;
	// empty: those that Cluster knows, as soon as it knows any.
	Servers []string
	// Presence is that of the nodes, "namespace/name", under which this agent has
	// its sessions. Its namespace is the installation's: the servers of its
	// Presences are the heartbeat servers.
	Presence string
	// Token returns this agent's credential, which must have the right to
	// report; it is asked at each connection. Nil: none.
	Token func(context.Context) (string, error)
	// TLS is how to speak it with servers, asked at each connection, so that
	// renewed certificates are used; nil: plain TCP.
	TLS    func() *tls.Config
	Gossip GossipConfig
	// Secret reads a Secret that a Presence has headers of probes from; nil: none can be.
	Secret GetSecret
	// KubeletPort is tried on a silent node, to tell a dead machine from a dead
	// agent; 0: DefaultKubeletPort.
	KubeletPort int

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c *Config) validate() error {
	switch {
	case c.Cluster == nil, c.Logger == nil, c.Registerer == nil:
		return errors.New("agent: Cluster, Logger and Registerer are needed")
	case c.KubeletPort < 0 || c.KubeletPort > 65535:
		return fmt.Errorf("agent: kubelet port %d is not between 1 and 65535", c.KubeletPort)
	case !wire.ValidClientID(probeID(c.Node, 0)):
		return fmt.Errorf("agent: node name %q makes no client id: %q", c.Node, probeID(c.Node, 0))
	}
	if _, _, err := wire.ParseUserName(c.Presence); err != nil {
		return fmt.Errorf("agent: Presence: %w", err)
	}
	if c.KubeletPort == 0 {
		c.KubeletPort = DefaultKubeletPort
	}
	if c.Boot == 0 {
		c.Boot = time.Now().UnixNano()
	}
	if c.Secret == nil {
		c.Secret = func(_ context.Context, name types.NamespacedName) (map[string][]byte, error) {
			return nil, apierrors.NewForbidden(corev1.Resource("secrets"), name.Name, errors.New("this agent reads no Secrets"))
		}
	}
	if c.Token == nil {
		c.Token = func(context.Context) (string, error) { return "", nil }
	}
	return nil
}

// Agent is one node's.
type Agent struct {
	cfg       Config
	stall     stall.Watch
	board     *report.Board
	gossip    *gossip.Gossip
	suspicion *suspicion.Reporter
	reporter  *report.Reporter

	// phase is when in each probe.Interval it asks servers, and looks at itself.
	phase   time.Duration
	places  atomic.Pointer[[]report.Place]
	probers *probe.Group // of follow
	secrets *secrets
}

// New checks cfg; nothing is bound or connected before Run.
func New(cfg Config) (*Agent, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	a := &Agent{cfg: cfg, board: report.NewBoard(), phase: rand.N(probe.Interval)}
	a.places.Store(&[]report.Place{})
	metrics, err := probe.NewMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if a.secrets, err = newSecrets(cfg.Secret, cfg.Registerer, cfg.Logger); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.probers = probe.NewGroup(probe.GroupConfig{
		Prober: probe.Config{
			ClientID: func(n int) string { return probeID(cfg.Node, n) },
			User:     cfg.Presence, Token: cfg.Token, TLS: cfg.TLS,
			Phase: a.phase, Stall: &a.stall, Logger: cfg.Logger, Metrics: metrics,
		},
		Observe: func(t probe.Target, o wire.Observation) { a.board.Observe(t.Server, t.Limits.AnswerTime, o) },
		Forget:  a.board.Forget,
		Way:     func(t probe.Target) (probe.Way, error) { return way(t, a.secrets) },
		Phase:   func(server string, every time.Duration) time.Duration { return phaseOf(cfg.Node, server, every) },
	})
	err = cfg.Registerer.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "rollcall_agent_stalls_total",
		Help: "How often a loop of this agent did not run when it should have.",
	}, func() float64 { return float64(a.stall.Count()) }))
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.gossip, err = gossip.New(gossip.Config{
		Node:     cfg.Node,
		BindAddr: cfg.Gossip.BindAddr, BindPort: cfg.Gossip.BindPort,
		AdvertiseAddr: cfg.Gossip.AdvertiseAddr, AdvertisePort: cfg.Gossip.AdvertisePort,
		Key: cfg.Gossip.Key, OlderKeys: cfg.Gossip.OlderKeys, Interval: cfg.Gossip.Interval,
		Logger: cfg.Logger, Registerer: cfg.Registerer,
	})
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.suspicion = suspicion.New(suspicion.Config{
		Gossip: a.gossip, Port: cfg.KubeletPort,
		Observe: a.board.Suspect, Forget: a.board.Absolve,
		Stall: &a.stall, Logger: cfg.Logger,
	})
	a.reporter, err = report.New(report.Config{
		Node: cfg.Node, Zone: a.zone, Boot: cfg.Boot,
		Presence: cfg.Presence, Servers: cfg.Servers, Token: cfg.Token, TLS: cfg.TLS,
		Board: a.board, Places: func() []report.Place { return *a.places.Load() },
		Logger: cfg.Logger, Registerer: cfg.Registerer,
	})
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return a, nil
}

// Run is an agent until ctx ends, and then says goodbye to peers and servers.
func (a *Agent) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.gossip.Run(ctx) })
	group.Go(func() error { return a.suspicion.Run(ctx) })
	group.Go(func() error { return a.reporter.Run(ctx) })
	group.Go(func() error { return a.watchHealth(ctx) })
	group.Go(func() error { return a.follow(ctx) })
	group.Go(func() error { return a.secrets.run(ctx) })
	return group.Wait()
}

// SetGossipKeys exchanges the keys of gossip while it runs: see gossip.Keys.
func (a *Agent) SetGossipKeys(keys gossip.Keys) (changed bool, err error) {
	return a.gossip.SetKeys(keys)
}

// Ready is nil when the agent knows the cluster and can report.
func (a *Agent) Ready() error {
	if len(a.cfg.Cluster.Nodes()) == 0 {
		return errors.New("no node is known yet: has the Kubernetes API answered?")
	}
	if a.reporter.Connected() == 0 {
		return errors.New("no heartbeat server holds a session of this agent")
	}
	return nil
}

// zone is this agent's failure domain.
func (a *Agent) zone() string {
	if a.cfg.Zone != "" {
		return a.cfg.Zone
	}
	for _, n := range a.cfg.Cluster.Nodes() {
		if n.Name == a.cfg.Node {
			return n.Zone
		}
	}
	return ""
}

// probeID is the client id of the nth probe session. Two at once differ.
func probeID(node string, n int) string { return fmt.Sprintf("probe:%s:%d", node, n%10) }
