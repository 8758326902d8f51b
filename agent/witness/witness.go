// Package witness probes servers for a part that is no agent: a heartbeat server,
// or the leading controller, where too few agents can observe. What it sees goes
// straight into the part's own store. Who is to observe whom the leader says
// (store.Assignment); it judges nothing.
package witness

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/agent/probe"
	"github.com/rollcall-dev/rollcall/agent/report"
	"github.com/rollcall-dev/rollcall/agent/stall"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	// healthEvery is how often it looks at itself.
	healthEvery = 500 * time.Millisecond
	// writeTimeout is how long what it sees is waited for to be written.
	writeTimeout = 2 * time.Second
)

// Config is what a Witness is made of. TLS may be nil; the rest is required.
type Config struct {
	// Name under which it reports: store.ServerObserver or store.ControllerObserver.
	Name string
	// Node is the machine it runs on, Zone its failure domain; Zone may be empty.
	Node, Zone string
	// Boot orders the lives of this part (Unix ns).
	Boot int64
	// Presence is that of the nodes, "namespace/name", under which probes come in.
	Presence string
	// Token returns the credential to come in with, which must prove that its owner
	// runs on Node, and have the right to report; it is asked at each connection.
	Token func(context.Context) (string, error)
	// TLS is how to speak it with servers, asked at each connection; nil: plain TCP.
	TLS func() *tls.Config
	// Store is the part's own.
	Store *store.Store

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c *Config) validate() error {
	switch {
	case c.Name == "" || c.Node == "":
		return errors.New("witness: Name and Node are needed")
	case c.Boot == 0:
		return errors.New("witness: Boot is needed")
	case c.Token == nil, c.Store == nil, c.Logger == nil, c.Registerer == nil:
		return errors.New("witness: Token, Store, Logger and Registerer are needed")
	case !wire.ValidClientID(c.probeID(0)):
		return fmt.Errorf("witness: node name %q makes no client id: %q", c.Node, c.probeID(0))
	}
	if _, _, err := wire.ParseUserName(c.Presence); err != nil {
		return fmt.Errorf("witness: Presence: %w", err)
	}
	return nil
}

// probeID is the client id of the nth probe session. It begins as those of the
// node's agent do, which is what the credential proves, and differs from them.
func (c *Config) probeID(n int) string {
	name := fnv.New32a()
	_, _ = name.Write([]byte(c.Name)) // never fails
	return fmt.Sprintf("probe:%s:%08x:%d", c.Node, name.Sum32(), n%10)
}

// Witness is one part's.
type Witness struct {
	cfg     Config
	stall   stall.Watch
	board   *report.Board
	metrics *probe.Metrics
	phase   time.Duration
	seq     int64 // of the last report; of write, and of Run when that has ended
}

// New checks cfg; nothing is watched or connected before Run.
func New(cfg Config) (*Witness, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	metrics, err := probe.NewMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("witness: %w", err)
	}
	return &Witness{cfg: cfg, board: report.NewBoard(), metrics: metrics, phase: rand.N(probe.Interval)}, nil
}

// StandIn is this part as an assignment names it.
func (w *Witness) StandIn() store.StandIn {
	return store.StandIn{Name: w.cfg.Name, Node: w.cfg.Node, Zone: w.cfg.Zone, Boot: w.cfg.Boot}
}

// Run probes those whom it is assigned to until ctx ends, and takes back what it
// has said then. It may be run again, but not twice at once.
func (w *Witness) Run(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return w.follow(running) })
	group.Go(func() error { return w.watchHealth(running) })
	group.Go(func() error { return w.write(running) })
	err := group.Wait()
	w.report(context.WithoutCancel(ctx))
	return err
}

// follow probes whom the assignments say.
func (w *Witness) follow(ctx context.Context) error {
	probers := probe.NewGroup(probe.GroupConfig{
		Prober: probe.Config{
			ClientID: w.cfg.probeID, User: w.cfg.Presence, Token: w.cfg.Token, TLS: w.cfg.TLS,
			Phase: w.phase, Stall: &w.stall, Logger: w.cfg.Logger, Metrics: w.metrics,
		},
		Observe: func(t probe.Target, o wire.Observation) { w.board.Observe(t.Server, t.Limits.AnswerTime, o) },
		Forget:  w.board.Forget,
	})
	defer func() {
		probers.Probe(ctx, nil) // what is not seen any more must not be said
		probers.Close()
	}()
	mine := map[string]probe.Target{}
	for u := range w.cfg.Store.WatchAssignments(ctx) {
		if u.Reset {
			clear(mine)
		}
		for server, a := range u.Put {
			delete(mine, server)
			if w.assigned(a) {
				mine[server] = probe.Target{Server: server, Address: a.Address, Limits: probe.Limits{
					AnswerTime: time.Duration(a.AnswerTime) * time.Millisecond, Window: time.Duration(a.Window) * time.Millisecond,
				}}
			}
		}
		for _, server := range u.Deleted {
			delete(mine, server)
		}
		targets := make([]probe.Target, 0, len(mine))
		for _, t := range mine {
			targets = append(targets, t)
		}
		probers.Probe(ctx, targets)
	}
	return nil
}

func (w *Witness) assigned(a store.Assignment) bool {
	for _, s := range a.StandIns {
		if s.Name == w.cfg.Name {
			return true
		}
	}
	return false
}

// watchHealth puts up that this process did not run when it should have, as long
// as that discredits what it sees.
func (w *Witness) watchHealth(ctx context.Context) error {
	tick := time.NewTimer(healthEvery)
	defer tick.Stop()
	due := time.Now().Add(healthEvery)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		w.stall.Check(due, now)
		w.board.SetHealth(w.stall.Health(now))
		due = now.Add(healthEvery)
		tick.Reset(healthEvery)
	}
}

// write brings etcd into line with the board, at once when that changes.
func (w *Witness) write(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.board.Changed():
		}
		w.report(ctx)
	}
}

// report writes what is new on the board, if anything is.
func (w *Witness) report(ctx context.Context) {
	r := wire.Report{Node: w.cfg.Name, Zone: w.cfg.Zone, Boot: w.cfg.Boot}
	if _, ok := w.board.Take(&r); !ok || len(r.Observations) == 0 && w.seq == 0 {
		return
	}
	w.seq++
	r.Seq = w.seq
	w.put(ctx, r)
}

// put writes one report. One that fails is written by the store all the same once
// etcd is back, unless a newer one comes before.
func (w *Witness) put(ctx context.Context, r wire.Report) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := w.cfg.Store.PutReport(ctx, r); err != nil {
		w.cfg.Logger.Warn("What was observed is not written yet", "observer", w.cfg.Name, "error", err)
	}
}
