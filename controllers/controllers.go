// Package controllers runs Rollcall's controllers. All replicas watch the store
// and the API server and judge, so that each is warm; the one that leads, by an
// election in etcd, writes statuses, Failovers, labels and directives.
//
// What decides is pure and lives in internal/verdict and internal/plan. Each
// package here has one concern: evidence (what is known), judge (when to
// judge), failover (carrying a decision out), gate (labels, and letting servers
// in again), quarantine (taints of dead nodes), kept (what a successor must find
// in the store), presence (statuses), orphans (clients of lost servers), explain
// and sessions (answers to people), defaults, permission, lead and retry.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rollcall-dev/rollcall/agent/witness"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/controllers/explain"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/controllers/gate"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/controllers/kept"
	"github.com/rollcall-dev/rollcall/controllers/lead"
	"github.com/rollcall-dev/rollcall/controllers/orphans"
	"github.com/rollcall-dev/rollcall/controllers/presence"
	"github.com/rollcall-dev/rollcall/controllers/quarantine"
	"github.com/rollcall-dev/rollcall/controllers/retry"
	"github.com/rollcall-dev/rollcall/controllers/sessions"
	"github.com/rollcall-dev/rollcall/internal/store"
)

const (
	// cacheSync is how long the caches may take to fill at the start: as long
	// as it takes, for an API server that is away is waited for.
	cacheSync = 365 * 24 * time.Hour
	// shutdown bounds how long ending may take.
	shutdown = 10 * time.Second
)

// Config of the controllers.
type Config struct {
	// Store is open; it stays the caller's to close, after Run has returned.
	Store *store.Store
	// RestConfig reaches the API server. Its own limit on the rate of requests
	// is taken off where it isn't set: the API server has its own fairness.
	RestConfig *rest.Config
	// Namespace is the installation's.
	Namespace string
	// LabelledOnly: only Presences that name this installation are its own; see
	// v1alpha1.Installation.
	LabelledOnly bool
	// GossipOnNodes: agents gossip by the nodes' network and beat by the pods', so
	// that the verdict on a node can name the one that failed.
	GossipOnNodes bool
	// ID names this replica in the election, such as its pod's name.
	ID     string
	Logger *slog.Logger
	// Witness observes servers while this replica leads, where too few agents can;
	// nil: it does not. Its name must be store.ControllerObserver of ID.
	Witness *witness.Witness
	// Registerer of the metrics. What MetricsAddress serves is controller-runtime's
	// registry (sigs.k8s.io/controller-runtime/pkg/metrics.Registry).
	Registerer prometheus.Registerer
	// MetricsAddress and HealthAddress are where /metrics, and /healthz and
	// /readyz, are served; empty or "0": nowhere.
	MetricsAddress, HealthAddress string
}

func (c *Config) validate() error {
	switch {
	case c.Store == nil:
		return errors.New("controllers: Store is needed")
	case c.RestConfig == nil:
		return errors.New("controllers: RestConfig is needed")
	case c.Namespace == "":
		return errors.New("controllers: Namespace is needed: the installation's")
	case c.ID == "":
		return errors.New("controllers: ID is needed: what this replica is called")
	case c.Logger == nil || c.Registerer == nil:
		return errors.New("controllers: Logger and Registerer are needed")
	}
	if c.MetricsAddress == "" {
		c.MetricsAddress = "0"
	}
	if c.HealthAddress == "" {
		c.HealthAddress = "0"
	}
	return nil
}

// Controllers are all of them.
type Controllers struct {
	cfg      Config
	manager  manager.Manager
	book     *evidence.Book
	ledger   *failover.Ledger
	seat     *lead.Seat
	judge    *judge.Judge
	opener   *failover.Opener
	follower *failover.Follower
	gate     *gate.Gate
	warden   *quarantine.Warden
	kept     *kept.Keeper
	presence *presence.Reconciler
	orphans  *orphans.Keeper
	retry    *retry.Retrier
	once     *retry.Once
	// questions answers those of people.
	questions *explain.Handler

	failovers, presences kicker
	// began has an element when the leadership has begun or ended.
	began chan struct{}
	// led is the same, for observe.
	led chan struct{}
	// background is what was begun and must end before Run returns.
	background sync.WaitGroup
}

// New makes the controllers; nothing runs, and nothing is asked, before Run.
func New(cfg Config) (*Controllers, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Controllers{cfg: cfg, book: evidence.New(time.Now), began: make(chan struct{}, 1), led: make(chan struct{}, 1)}
	for _, step := range []func() error{c.makeManager, c.makeParts, c.makeReconcilers} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("controllers: %w", err)
		}
	}
	return c, nil
}

func (c *Controllers) makeManager() error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	rc := rest.CopyConfig(c.cfg.RestConfig)
	if rc.QPS == 0 {
		rc.QPS = -1
	}
	within := shutdown
	m, err := manager.New(rc, manager.Options{
		Scheme:                  scheme,
		MapperProvider:          kinds,
		Logger:                  logr.FromSlogHandler(c.cfg.Logger.Handler()),
		LeaderElection:          false, // it lives in etcd: package lead
		Metrics:                 metricsserver.Options{BindAddress: c.cfg.MetricsAddress},
		HealthProbeBindAddress:  c.cfg.HealthAddress,
		GracefulShutdownTimeout: &within,
		Controller: config.Controller{
			SkipNameValidation: new(true), // several may run in one process, in tests
			CacheSyncTimeout:   cacheSync,
		},
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:     {Transform: slimPod},
			&corev1.Node{}:    {Transform: slimNode},
			&corev1.Service{}: {Transform: slimService},
		}},
	})
	if err != nil {
		return err
	}
	c.manager = m
	return errors.Join(
		m.AddHealthzCheck("alive", func(*http.Request) error { return nil }),
		m.AddReadyzCheck("judging", func(*http.Request) error { return c.Ready() }),
		m.Add(manager.RunnableFunc(c.run)),
	)
}

func (c *Controllers) makeParts() error {
	var err error
	c.retry, err = retry.New(c.cfg.Logger, c.cfg.Registerer, "createFailover", "failoverStatus", "pruneFailovers",
		"putDirective", "deleteDirective", "countSessions", "label", "gate", "mayGate", "evict", "presenceStatus", "presenceRepair", "taint", "mayTaint", "defaultPresence", "watch", "keep")
	if err != nil {
		return err
	}
	c.ledger = failover.NewLedger(c.manager.GetClient(), c.installation(), time.Now)
	c.seat, err = lead.New(lead.Config{
		Store: c.cfg.Store, ID: c.cfg.ID, Logger: c.cfg.Logger, Registerer: c.cfg.Registerer, Changed: c.changed,
	})
	if err != nil {
		return err
	}
	c.judge, err = judge.New(judge.Config{
		Book: c.book, Cache: c.manager.GetClient(), Ledger: c.ledger, Installation: c.installation(), Apart: c.cfg.GossipOnNodes, Away: c.cfg.Store.Away,
		StandIn: c.cfg.standIn(), Leading: c.Leading, GatesForbidden: func() bool { return c.gate.Forbidden() },
		Now: time.Now, Logger: c.cfg.Logger, Registerer: c.cfg.Registerer, Publish: c.publish,
	})
	if err != nil {
		return err
	}
	c.once = &retry.Once{Retry: c.retry, Logger: c.cfg.Logger, Now: time.Now, Go: c.background.Go, Done: c.book.Touch}
	c.gate = &gate.Gate{
		Client: c.manager.GetClient(), Live: c.manager.GetAPIReader(), Book: c.book, Ledger: c.ledger,
		Last: c.judge.Last, Recorder: c.manager.GetEventRecorder("rollcall-controller"), Logger: c.cfg.Logger, Once: c.once,
	}
	c.kept = &kept.Keeper{Book: c.book, Once: c.once, Logger: c.cfg.Logger}
	c.questions, err = explain.New(explain.Config{
		Judge: c.judge, Sessions: sessions.Finder{Store: c.cfg.Store, Presences: c.judge.Clients},
		ID: c.cfg.ID, Leading: c.Leading,
	})
	if err != nil {
		return err
	}
	c.orphans, err = orphans.New(orphans.Config{
		Store: c.cfg.Store, Book: c.book, Ledger: c.ledger, Seat: c.seat, Last: c.judge.Last, Namespace: c.cfg.Namespace,
		Now: time.Now, Logger: c.cfg.Logger, Registerer: c.cfg.Registerer,
	})
	return err
}

// Ready tells whether this replica is able to judge, and if not why.
func (c *Controllers) Ready() error {
	r := c.judge.Last()
	switch {
	case r == nil:
		return errors.New("the API server or the store has not yet given all that is needed")
	case !r.World.Warm:
		return errors.New("warming up")
	case r.World.StoreAway > 0:
		return fmt.Errorf("etcd has not answered for %v", r.World.StoreAway.Round(time.Millisecond))
	}
	return nil
}

func (c *Controllers) installation() v1alpha1.Installation {
	return v1alpha1.Installation{Namespace: c.cfg.Namespace, LabelledOnly: c.cfg.LabelledOnly}
}

// Leading tells whether this replica leads.
func (c *Controllers) Leading() bool { return c.seat.Current() != nil }

// Handle adds what people may ask this replica: see package explain.
func (c *Controllers) Handle(mux *http.ServeMux) { c.questions.Register(mux) }

// kinds maps those that the controllers use. They are known, so that an API
// server that is away need not be asked, nor one whose discovery is broken.
func kinds(*rest.Config, *http.Client) (meta.RESTMapper, error) {
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	m.Add(corev1.SchemeGroupVersion.WithKind("Node"), meta.RESTScopeRoot)
	m.Add(corev1.SchemeGroupVersion.WithKind("Service"), meta.RESTScopeNamespace)
	m.Add(authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"), meta.RESTScopeRoot)
	m.Add(v1alpha1.GroupVersion.WithKind("Presence"), meta.RESTScopeNamespace)
	m.Add(v1alpha1.GroupVersion.WithKind("Failover"), meta.RESTScopeNamespace)
	return m, nil
}

// Run runs the controllers until the context ends. While the API server or the
// store is away it goes on, and is not Ready.
func (c *Controllers) Run(ctx context.Context) error {
	err := c.manager.Start(ctx)
	c.background.Wait()
	if err != nil {
		return fmt.Errorf("controllers: %w", err)
	}
	return nil
}
