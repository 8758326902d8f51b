// Package store is Rollcall's record in etcd: who is where, under which epoch,
// what observers say, what the leader has directed. It is the one package that
// knows etcd, its keys and its errors. It judges nothing.
//
// What it promises its callers:
//
//   - At rest it writes nothing: leases are renewed, and a tiny read is made
//     every second to know whether etcd answers.
//   - A write on behalf of a session compares the session's revision, and a
//     directive the leader's. What was refused says so; what may or may not have
//     happened says that too (ErrUnknownOutcome).
//   - Watches begin with everything (Reset), go on with changes, and start over
//     with everything when etcd has forgotten what lies between.
//   - Values that it cannot read are logged, counted and left out.
package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
)

const (
	// requestTimeout bounds one attempt at a request, so that an etcd server
	// that is stopped does not hold up what another one would answer.
	requestTimeout = 3 * time.Second
	// reportTimeout is that of agents' words, which may be written again at any time:
	// what was on its way through etcd's leader when that lost its power is never
	// answered, and a node's death is to be known within 6 s of just that.
	reportTimeout = time.Second
	// dialKeepAlive is the least that gRPC allows.
	dialKeepAlive = 10 * time.Second
	// dialKeepAliveTimeout is also the connection's TCP_USER_TIMEOUT: how long
	// what was sent may go without the kernel's acknowledgement. A member whose
	// machine has lost its power must be left before the reporters' word on that
	// machine (2 s) is to be written, or the word waits for it.
	dialKeepAliveTimeout = time.Second
)

// dialBackoff: gRPC's own goes up to 120 s, which is how long etcd would seem
// away after it has come back.
var dialBackoff = grpcbackoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.5, MaxDelay: 2 * time.Second}

// Config says where etcd is, and where to write about it.
type Config struct {
	// Endpoints of etcd, host:port or URLs. At least one.
	Endpoints []string
	// TLS to reach it with; nil: plain.
	TLS *tls.Config
	// Logger; nil: nothing is logged.
	Logger *slog.Logger
	// Registerer for the metrics rollcall_store_…; nil: not registered.
	Registerer prometheus.Registerer
}

func (c Config) validate() error {
	if len(c.Endpoints) == 0 {
		return errors.New("store: no etcd endpoint")
	}
	for _, e := range c.Endpoints {
		if e == "" {
			return errors.New("store: an etcd endpoint is empty")
		}
	}
	return nil
}

// Store is a connection to etcd. Its methods may be called by many goroutines.
type Store struct {
	log     *slog.Logger
	metrics *metrics
	client  *clientv3.Client
	clock   func() time.Time

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	closing sync.Mutex // guards closed and wg.Go against Close
	closed  bool
	wg      sync.WaitGroup

	pulse    pulse
	history  history
	canary   canary
	watching atomic.Int64 // how many watches run

	buckets    buckets
	retentions retentions
	reports    reports
}

// Open connects to etcd. While etcd is away it tries again, with jittered
// backoff, until ctx ends; ErrTooOld ends it at once. The Store does not depend
// on ctx afterwards: Close it.
func Open(ctx context.Context, cfg Config) (*Store, error) { return open(ctx, cfg, time.Now) }

// open takes the clock, so that a test can stop the process.
func open(ctx context.Context, cfg Config, clock func() time.Time) (*Store, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Store{log: cfg.Logger, clock: clock}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.pulse.begin(s.clock())
	s.history.init()
	s.metrics = newMetrics(s)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	client, err := clientv3.New(clientv3.Config{
		Context:              s.ctx,
		Endpoints:            cfg.Endpoints,
		TLS:                  cfg.TLS,
		Logger:               zap.New(zapToSlog{s.log}),
		DialKeepAliveTime:    dialKeepAlive,
		DialKeepAliveTimeout: dialKeepAliveTimeout,
		MaxUnaryRetries:      1, // retries are ours, so that they show
		DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: dialBackoff, MinConnectTimeout: requestTimeout}),
			grpc.WithChainUnaryInterceptor(s.seeUnary),
			grpc.WithChainStreamInterceptor(s.seeStream),
			grpc.WithStatsHandler(&s.canary),
		},
	})
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("store: connect to etcd: %w", err)
	}
	s.client = client
	if err := s.meet(ctx, cfg.Endpoints); err != nil {
		_ = s.Close() // the first error says more
		return nil, err
	}
	if cfg.Registerer != nil {
		if err := s.metrics.register(cfg.Registerer); err != nil {
			_ = s.Close()
			return nil, fmt.Errorf("store: register metrics: %w", err)
		}
	}
	s.spawn(s.beat)
	s.spawn(s.keepBuckets)
	return s, nil
}

// Close ends every watch and renewal, and waits until all of them have stopped.
// Leases are left to end by themselves.
func (s *Store) Close() error {
	s.closing.Lock()
	s.closed = true
	s.closing.Unlock()
	s.cancel()
	s.wg.Wait()
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("store: close: %w", err)
	}
	return nil
}

// spawn runs f until it returns; Close waits for it. On a closed store f does
// not run, and spawn returns false.
func (s *Store) spawn(f func()) bool {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}

// bound is ctx, ended by the store's end too.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// Revision is the highest etcd revision that any answer has shown this process.
// A record whose modification revision is no higher was written before now.
func (s *Store) Revision() int64 { return s.history.seen.Load() }

// Sync reads through etcd's quorum, and returns the revision at that time: every
// write that was acknowledged to anybody before Sync began is no higher.
func (s *Store) Sync(ctx context.Context) (int64, error) {
	var rev int64
	err := s.retry(ctx, opSync, func(ctx context.Context) error {
		got, err := s.client.Get(ctx, nothingKey, clientv3.WithCountOnly())
		if err == nil {
			rev = got.Header.Revision
		}
		return err
	})
	return rev, err
}
