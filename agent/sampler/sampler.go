// Package sampler reads what the kernel of this node says of the services' servers
// on it: whether their connections are accepted and read (internal/kernel), and how
// many there are, from inside each pod's network namespace; and what keeps them from
// running (internal/cgroup), from their pods' cgroups. What is news it reports
// to the heartbeat servers, as agents report their probes, in the name of
// wire.KernelObserver. It judges nothing, and changes nothing in any pod.
//
// It is a part of the severer's process, for that has the privileges.
package sampler

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/agent/report"
	"github.com/rollcall-dev/rollcall/agent/sever"
	"github.com/rollcall-dev/rollcall/agent/stall"
	"github.com/rollcall-dev/rollcall/internal/cgroup"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Config of a Sampler. TLS may be nil, and Zone, Namespaces and Cgroups empty; all else is needed.
type Config struct {
	// Node that it runs on, and Zone its failure domain.
	Node, Zone string
	// Cluster says which servers there are on Node.
	Cluster Cluster
	// Namespaces is the directory in which the node's container runtime binds the
	// network namespaces of pods; empty: /run/netns.
	Namespaces string
	// Cgroups is the directory in which the node's cgroups are mounted, of either version;
	// empty: what keeps servers from running is not looked at.
	Cgroups string
	// Presence is that of the nodes, "namespace/name", under which it reports, and
	// Servers are addresses of heartbeat servers, host:port, to find the first one by.
	Presence string
	Servers  []string
	// Token returns the credential, which must have the right to report and name
	// Node; it is asked at each connection.
	Token func(context.Context) (string, error)
	// TLS is how to speak it with heartbeat servers, asked at each connection; nil: plain TCP.
	TLS func() *tls.Config

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c *Config) validate() error {
	switch {
	case c.Node == "":
		return errors.New("sampler: Node is needed: the name of the node that it runs on")
	case c.Cluster == nil || c.Token == nil || c.Logger == nil || c.Registerer == nil:
		return errors.New("sampler: Cluster, Token, Logger and Registerer are needed")
	case len(c.Servers) == 0:
		return errors.New("sampler: Servers is needed: an address of the heartbeat servers, host:port")
	}
	if _, _, err := wire.ParseUserName(c.Presence); err != nil {
		return fmt.Errorf("sampler: Presence: %w", err)
	}
	if c.Namespaces == "" {
		c.Namespaces = "/run/netns"
	}
	return nil
}

// Cluster is what the Kubernetes API says, kept while that is away. Its methods
// don't block; what they return is not changed by anybody.
type Cluster interface {
	// Targets are the servers of this node, in the order of their names.
	Targets() []Target
	// Observers are the addresses of those who probe servers, whose connections are
	// not clients'.
	Observers() map[netip.Addr]bool
	// Moving tells whether any server of a Presence is losing its clients now.
	Moving(presence types.NamespacedName) bool
	// Doubted tells whether the controller last said that a server is Suspect, or worse.
	Doubted(server string) bool
	// Changed receives, once for any number of changes, when Targets have. It has one reader.
	Changed() <-chan struct{}
}

// Sampler looks at the servers of one node.
type Sampler struct {
	cfg      Config
	board    *report.Board
	reporter *report.Reporter
	enter    func(ctx context.Context, addresses []netip.Addr) (namespace, error)
	cgroups  fs.FS // nil: there are none to be seen
	stall    stall.Watch
	looks    prometheus.Counter
	servers  *prometheus.GaugeVec
	strained *prometheus.GaugeVec

	mu   sync.Mutex
	said map[string]wire.Observation // of the servers that are watched, the last one
}

// words that a server may have in the metrics.
var words = []wire.Band{wire.BandOK, wire.BandQueueFull, wire.BandUnread, wire.BandClosed, wire.BandBlind}

// New checks cfg; nothing is entered or connected before Run.
func New(cfg Config) (*Sampler, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Sampler{
		cfg: cfg, board: report.NewBoard(), said: map[string]wire.Observation{},
		enter: func(ctx context.Context, addresses []netip.Addr) (namespace, error) {
			conn, err := sever.Enter(ctx, cfg.Namespaces, addresses)
			if err != nil {
				return nil, err
			}
			return conn, nil
		},
		looks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_kernel_looks_total", Help: "Looks at the sockets of servers on this node.",
		}),
		servers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rollcall_kernel_servers", Help: "Servers on this node, by what their kernel says of them; blind: it can't be asked.",
		}, []string{"word"}),
		strained: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rollcall_kernel_strained_servers", Help: "Servers on this node that are kept from running most of the time, by what keeps them.",
		}, []string{"kind"}),
	}
	for _, word := range words {
		s.servers.WithLabelValues(string(word))
	}
	for _, kind := range cgroup.Kinds {
		s.strained.WithLabelValues(string(kind))
	}
	stalls := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "rollcall_kernel_stalls_total",
		Help: "How often a look at a server of this node was not taken when it was due; what is said does not count for a while then.",
	}, func() float64 { return float64(s.stall.Count()) })
	for _, c := range []prometheus.Collector{s.looks, s.servers, s.strained, stalls} {
		if err := cfg.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("sampler: %w", err)
		}
	}
	var err error
	s.reporter, err = report.New(report.Config{
		Node: wire.KernelObserver(cfg.Node), Zone: func() string { return cfg.Zone }, Boot: time.Now().UnixNano(),
		Presence: cfg.Presence, Servers: cfg.Servers, Token: cfg.Token, TLS: cfg.TLS,
		Board: s.board, Places: func() []report.Place { return nil },
		Logger: cfg.Logger, Registerer: cfg.Registerer,
	})
	if err != nil {
		return nil, fmt.Errorf("sampler: %w", err)
	}
	return s, nil
}

// Run looks, and reports, until ctx ends.
func (s *Sampler) Run(ctx context.Context) error {
	if _, err := os.ReadDir(s.cfg.Namespaces); err != nil {
		s.cfg.Logger.Warn("Network namespaces of pods can't be seen, so nothing is known of connections on this node",
			"directory", s.cfg.Namespaces, "err", err)
	}
	if s.cfg.Cgroups != "" {
		s.cgroups = os.DirFS(s.cfg.Cgroups)
		if err := cgroup.Mounted(s.cgroups); err != nil {
			s.cgroups = nil
			s.cfg.Logger.Warn("Cgroups of pods can't be seen, so nothing is known of servers that are throttled on this node, or wait for memory",
				"directory", s.cfg.Cgroups, "err", err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.reporter.Run(ctx) })
	group.Go(func() error { return s.follow(ctx) })
	return group.Wait()
}

// follow watches those servers that there are.
func (s *Sampler) follow(ctx context.Context) error {
	type running struct {
		target Target
		stop   context.CancelFunc
		done   chan struct{}
	}
	now := map[string]running{}
	end := func(server string) {
		r := now[server]
		r.stop()
		<-r.done
		delete(now, server)
	}
	defer func() {
		for server := range now {
			end(server)
		}
	}()
	for {
		wanted := map[string]bool{}
		for _, t := range s.cfg.Cluster.Targets() {
			wanted[t.Server] = true
			if r, there := now[t.Server]; there {
				if r.target.equal(t) {
					continue
				}
				end(t.Server)
			}
			watching, stop := context.WithCancel(ctx)
			r := running{target: t, stop: stop, done: make(chan struct{})}
			now[t.Server] = r
			w := s.watch(t)
			go func() {
				defer close(r.done)
				w.run(watching)
			}()
		}
		for server := range now {
			if !wanted[server] {
				end(server)
				s.forget(server)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.cfg.Cluster.Changed():
		}
	}
}

func (s *Sampler) watch(t Target) *watch {
	w := &watch{
		target: t, enter: s.enter, spared: s.cfg.Cluster.Observers,
		moving:  func() bool { return s.cfg.Cluster.Moving(t.Presence) },
		doubted: func() bool { return s.cfg.Cluster.Doubted(t.Server) }, log: s.cfg.Logger, looks: s.looks.Inc, woke: s.woke,
		tell: func(o wire.Observation) { s.tell(t.Server, o) },
	}
	if s.cgroups != nil {
		w.open = func(t Target) (cgroups, error) {
			pod, err := cgroup.Open(s.cgroups, string(t.UID), t.Containers)
			if err != nil {
				return nil, err
			}
			return pod, nil
		}
	}
	return w
}

// woke says, before anything is looked at, whether what is said counts: not for a
// while after this process was held up. As long as any server is watched it is
// called often enough for that while to end.
func (s *Sampler) woke(due, now time.Time) {
	s.mu.Lock() // so that what is noticed last is said last
	defer s.mu.Unlock()
	s.stall.Check(due, now)
	s.board.SetHealth(s.stall.Health(now))
}

func (s *Sampler) tell(server string, o wire.Observation) {
	s.board.Observe(server, 0, o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, known := s.said[server]; known {
		s.count(was, -1)
	}
	s.count(o, 1)
	s.said[server] = o
}

func (s *Sampler) forget(server string) {
	s.board.Forget(server)
	s.mu.Lock()
	defer s.mu.Unlock()
	if was, known := s.said[server]; known {
		s.count(was, -1)
		delete(s.said, server)
	}
}

// count counts what is said of a server by one more, or one less.
func (s *Sampler) count(o wire.Observation, by float64) {
	s.servers.WithLabelValues(string(o.Band)).Add(by)
	if o.Strain.Kind != "" {
		s.strained.WithLabelValues(o.Strain.Kind).Add(by)
	}
}
