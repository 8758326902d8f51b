// Package sever ends connections of servers that can't tell their clients to go:
// of a pod on its own node that a Failover names, on the port that it names, at
// the Failover's pace, from inside the pod's network namespace by the kernel,
// which resets them whatever the process is doing. It decides nothing: the
// controller asks, in the Failover's status, and goes on asking for as long as
// it means it. It ends no session: those last until their lease does.
//
// It is a part of its own because it needs privileges that an agent must not have.
package sever

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/sockets"
)

// Config of the severer.
type Config struct {
	// RestConfig reaches the API server.
	RestConfig *rest.Config
	// Node that it runs on: other nodes' pods are none of its business.
	Node string
	// Namespace is the installation's, where the observers' pods are.
	Namespace string
	// Namespaces is the directory in which the node's container runtime binds the
	// network namespaces of pods; empty: /run/netns.
	Namespaces string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c *Config) validate() error {
	switch {
	case c.RestConfig == nil:
		return errors.New("sever: RestConfig is needed")
	case c.Node == "":
		return errors.New("sever: Node is needed: the name of the node that it runs on")
	case c.Namespace == "":
		return errors.New("sever: Namespace is needed: the installation's")
	case c.Logger == nil || c.Registerer == nil:
		return errors.New("sever: Logger and Registerer are needed")
	}
	if c.Namespaces == "" {
		c.Namespaces = "/run/netns"
	}
	return nil
}

// namespace is a pod's network namespace.
type namespace interface {
	List(ctx context.Context, q sockets.Query, each func(sockets.Socket) error) error
	Destroy(ctx context.Context, s sockets.Socket) error
	Close() error
}

// cluster is what the severer asks of Kubernetes, and tells it.
type cluster interface {
	// target looks a pod up, as it is now. A refusal says why nothing may be done about it.
	target(ctx context.Context, server types.NamespacedName, order *v1alpha1.SeverOrder) (target, error)
	report(ctx context.Context, fo *v1alpha1.Failover, s v1alpha1.Severed, c saying) error
	// ended tells people.
	ended(fo *v1alpha1.Failover, connections int)
}

// target is a pod whose connections may be ended.
type target struct {
	addresses []netip.Addr
	port      uint16
	// spared are the addresses of those who observe servers: agents, and the
	// other parts that stand in for them.
	spared map[netip.Addr]bool
}

// Severer follows the Failovers that ask for it.
type Severer struct {
	cfg     Config
	kube    *kube // nil in tests
	cluster cluster
	enter   func(ctx context.Context, addresses []netip.Addr) (namespace, error)
	metrics *metrics

	mu   sync.Mutex
	ctx  context.Context // of Run; nil: it has not begun, or has ended
	jobs map[types.NamespacedName]*job
	wg   sync.WaitGroup
}

// New makes a severer; nothing is asked before Run.
func New(cfg Config) (*Severer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	k, err := newKube(cfg)
	if err != nil {
		return nil, err
	}
	s, err := newSeverer(cfg, k, func(ctx context.Context, addresses []netip.Addr) (namespace, error) {
		conn, err := Enter(ctx, cfg.Namespaces, addresses)
		if err != nil {
			return nil, err
		}
		return conn, nil
	})
	if err != nil {
		return nil, err
	}
	s.kube = k
	return s, nil
}

func newSeverer(cfg Config, c cluster, enter func(context.Context, []netip.Addr) (namespace, error)) (*Severer, error) {
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("sever: %w", err)
	}
	return &Severer{cfg: cfg, cluster: c, enter: enter, metrics: m, jobs: map[types.NamespacedName]*job{}}, nil
}

// Enter finds the one network namespace of the node that has all of a pod's addresses.
func Enter(ctx context.Context, dir string, addresses []netip.Addr) (*sockets.Conn, error) {
	ns, err := sockets.FindNamespace(ctx, dir, addresses)
	if err != nil {
		return nil, err
	}
	conn, err := sockets.Open(ns)
	if err := errors.Join(err, ns.Close()); err != nil { // the open socket keeps it
		return nil, err
	}
	return conn, nil
}

// Ready tells whether it follows Failovers, and if not why.
func (s *Severer) Ready() error { return s.kube.ready() }

// Run follows Failovers until ctx ends. While the API is away nobody is severed.
func (s *Severer) Run(ctx context.Context) error {
	if _, err := os.ReadDir(s.cfg.Namespaces); err != nil {
		s.cfg.Logger.Warn("Network namespaces of pods can't be seen, so nothing will be severed on this node",
			"directory", s.cfg.Namespaces, "err", err)
	}
	stop := s.begin(ctx)
	defer stop()
	return s.kube.run(ctx, toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { s.see(o) },
		UpdateFunc: func(_, o any) { s.see(o) },
		DeleteFunc: func(o any) { s.gone(o) },
	})
}

// begin lets jobs run; stop ends them all, and waits.
func (s *Severer) begin(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	s.ctx = ctx
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		s.ctx = nil
		s.mu.Unlock()
		cancel()
		s.wg.Wait()
	}
}

// see takes a Failover as it is now.
func (s *Severer) see(o any) {
	fo, ok := o.(*v1alpha1.Failover)
	if !ok {
		return
	}
	key, order := client.ObjectKeyFromObject(fo), s.asked(fo)
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[key]
	if j != nil && j.uid != fo.UID {
		j.stop()
		j = nil
	}
	if j == nil {
		if s.ctx == nil || finished(fo) && !s.unfinished(fo) {
			delete(s.jobs, key)
			return
		}
		// Also for one that asks for nothing yet: what it asks later is new then.
		j = s.newJob(fo)
		s.jobs[key] = j
	}
	j.follow(fo, order, time.Now())
	if finished(fo) {
		j.stop()
		delete(s.jobs, key)
	}
}

func (s *Severer) gone(o any) {
	key, err := toolscache.DeletionHandlingObjectToName(o)
	if err != nil {
		return
	}
	name := types.NamespacedName{Namespace: key.Namespace, Name: key.Name}
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[name]; j != nil {
		j.stop()
		delete(s.jobs, name)
	}
}

// asked is what a Failover asks of this node's severer; nil: nothing.
func (s *Severer) asked(fo *v1alpha1.Failover) *v1alpha1.SeverOrder {
	o := fo.Status.Sever
	if o == nil || o.Node != s.cfg.Node || o.Installation != s.cfg.Namespace || finished(fo) ||
		!meta.IsStatusConditionTrue(fo.Status.Conditions, v1alpha1.ConditionProcessing) {
		return nil
	}
	return o
}

// unfinished tells whether the status says that this node's severer is at work,
// which it can't be: an earlier one was.
func (s *Severer) unfinished(fo *v1alpha1.Failover) bool {
	d := fo.Status.Severed
	return d != nil && d.Node == s.cfg.Node && meta.IsStatusConditionTrue(fo.Status.Conditions, v1alpha1.ConditionSevering)
}

func finished(fo *v1alpha1.Failover) bool {
	return meta.IsStatusConditionFalse(fo.Status.Conditions, v1alpha1.ConditionProcessing)
}
