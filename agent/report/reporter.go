package report

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	// coalesce is how long a change waits for others.
	coalesce = 5 * time.Millisecond
	// yield is how long a report about a server leaves the session on that very
	// server out: the other one should do.
	yield = 300 * time.Millisecond
	// publishTimeout bounds one attempt; retry the wait before another, at random.
	publishTimeout = 2 * time.Second
	retry          = 200 * time.Millisecond
	// placesEvery is how often it is looked whether a session should move.
	placesEvery = 5 * time.Second
)

// Config is what a Reporter is made of.
type Config struct {
	// Node is this machine, Zone its failure domain; Boot is this life of the
	// agent (Unix ns).
	Node string
	Zone func() string
	Boot int64
	// Presence of nodes, "namespace/name"; Servers are addresses to begin with,
	// empty: the first Places that are known.
	Presence string
	Servers  []string
	Token    func(context.Context) (string, error)
	// TLS is how to speak it, asked at each connection; nil: plain TCP.
	TLS func() *tls.Config
	// Board is what to report.
	Board *Board
	// Places are the heartbeat servers known at the moment. It must not block.
	Places func() []Place

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Reporter keeps two sessions and reports through them.
type Reporter struct {
	cfg     Config
	reports *prometheus.CounterVec

	mu       sync.Mutex
	sessions []*session // at most two; nil before Run
	latest   sealed
	acked    int64         // the newest report that a server has acknowledged
	changed  chan struct{} // closed, and replaced, when one of the above changes
}

// sealed is one report, ready to be sent.
type sealed struct {
	seq     int64
	at      time.Time
	payload []byte
	// about are the servers of which it says something new.
	about map[string]bool
}

// New checks cfg; nothing is connected before Run.
func New(cfg Config) (*Reporter, error) {
	if id := cfg.Node + ":0"; !wire.ValidClientID(id) {
		return nil, fmt.Errorf("node name %q makes no client id: %q is not at most %d of letters, digits, dots, dashes", cfg.Node, id, wire.MaxClientID)
	}
	r := &Reporter{cfg: cfg, changed: make(chan struct{}), reports: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rollcall_agent_reports_total",
		Help: "Attempts to publish a report, by outcome.",
	}, []string{"outcome"})}
	for _, outcome := range []string{"acknowledged", "failed"} {
		r.reports.WithLabelValues(outcome)
	}
	for _, c := range []prometheus.Collector{r.reports, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rollcall_agent_report_sessions",
		Help: "Sessions through which this agent can report, of two.",
	}, func() float64 { return float64(r.Connected()) })} {
		if err := cfg.Registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Connected is how many of the two sessions a server holds.
func (r *Reporter) Connected() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, s := range r.sessions {
		if address, _ := s.client.Server(); address != "" {
			n++
		}
	}
	return n
}

// Run reports until ctx ends, and then says goodbye on both sessions.
func (r *Reporter) Run(ctx context.Context) error {
	if !r.findServers(ctx) {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	defer r.goodbye()
	for n := range 2 {
		s, err := newSession(r.cfg, n, func(address string) bool { return r.excluded(n, address) })
		if err != nil {
			return errors.Join(fmt.Errorf("report session: %w", err), group.Wait())
		}
		r.mu.Lock()
		r.sessions = append(r.sessions, s)
		r.mu.Unlock()
		group.Go(func() error { return r.send(ctx, s) })
		if n == 0 {
			// The second one goes elsewhere, so it must know where the first is.
			select {
			case <-s.changed:
			case <-time.After(homelessFor):
			case <-ctx.Done():
			}
			s.poke()
		}
	}
	group.Go(func() error { return r.seal(ctx) })
	group.Go(func() error { return r.settle(ctx) })
	return group.Wait()
}

// findServers waits for a place where none was given; false: ctx has ended.
func (r *Reporter) findServers(ctx context.Context) bool {
	for len(r.cfg.Servers) == 0 {
		for _, p := range r.cfg.Places() {
			r.cfg.Servers = append(r.cfg.Servers, p.Address)
		}
		if len(r.cfg.Servers) > 0 {
			break
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(homelessFor / 4):
		}
	}
	return true
}

// goodbye leaves the servers, both at once.
func (r *Reporter) goodbye() {
	r.mu.Lock()
	sessions := r.sessions
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Go(func() {
			if err := s.client.Close(); err != nil {
				r.cfg.Logger.Debug("Goodbye was not told", "error", err)
			}
		})
	}
	wg.Wait()
}

// seal makes a report of each change, with those that follow at once.
func (r *Reporter) seal(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.cfg.Board.Changed():
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(coalesce):
		}
		report := wire.Report{Node: r.cfg.Node, Zone: r.cfg.Zone(), Boot: r.cfg.Boot}
		about, ok := r.cfg.Board.Take(&report)
		if !ok {
			continue
		}
		r.mu.Lock()
		report.Seq = r.latest.seq + 1
		payload, err := json.Marshal(report)
		if err != nil {
			r.mu.Unlock()
			return fmt.Errorf("encode report: %w", err)
		}
		if r.acked < r.latest.seq { // what nobody has yet stays news
			for server := range r.latest.about {
				about[server] = true
			}
		}
		r.latest = sealed{seq: report.Seq, at: time.Now(), payload: payload, about: about}
		r.tell()
		r.mu.Unlock()
	}
}

// tell wakes the senders; r.mu is held.
func (r *Reporter) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// send publishes through one session what nobody has acknowledged yet: both do,
// at once, and the first acknowledgement is enough. A server that has just taken
// the session gets everything again.
func (r *Reporter) send(ctx context.Context, s *session) error {
	again := false
	for {
		r.mu.Lock()
		latest, acked, changed := r.latest, r.acked, r.changed
		r.mu.Unlock()
		again = s.takeFresh() || again
		if latest.seq == 0 {
			again = false // there is nothing yet
		}
		needed := again || latest.seq > acked
		var wait <-chan time.Time
		if needed {
			if d := r.yields(s, latest); d > 0 {
				needed, wait = false, time.After(d)
			}
		}
		if !needed {
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
			case <-s.changed:
			case <-wait:
			}
			continue
		}
		if r.publish(ctx, s, latest) {
			again = false
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rand.N(retry)):
		}
	}
}

// publish makes one attempt, and tells whether it was acknowledged.
func (r *Reporter) publish(ctx context.Context, s *session, report sealed) bool {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := s.client.Publish(ctx, wire.TopicReport, report.payload); err != nil {
		r.reports.WithLabelValues("failed").Inc()
		r.cfg.Logger.Debug("Report was not acknowledged", "seq", report.seq, "error", err)
		return false
	}
	r.reports.WithLabelValues("acknowledged").Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.acked < report.seq {
		r.acked = report.seq
		r.tell()
	}
	return true
}

// yields is how long a session still leaves a report to the other one, because
// the report is about the server that it is on itself.
func (r *Reporter) yields(s *session, latest sealed) time.Duration {
	_, mine := s.client.Server()
	if !latest.about[mine] {
		return 0
	}
	other := r.other(s)
	if other == nil {
		return 0
	}
	if _, theirs := other.client.Server(); theirs == "" || theirs == mine {
		return 0
	}
	return yield - time.Since(latest.at)
}

func (r *Reporter) other(s *session) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.sessions {
		if o != s {
			return o
		}
	}
	return nil
}

// excluded tells the client of session n which addresses to leave alone.
func (r *Reporter) excluded(n int, address string) bool {
	places := r.cfg.Places()
	r.mu.Lock()
	var other *session
	if 1-n < len(r.sessions) {
		other = r.sessions[1-n]
	}
	r.mu.Unlock()
	name := ""
	if other != nil {
		name = other.server(places)
	}
	return excluded(address, places, name, r.ill)
}

func (r *Reporter) ill(server string) bool { return isIll(r.cfg.Board.Band(server)) }

// settle moves a session that is where it should not be: both on one server, or
// on this node's own, while there is a better place. One at a time, and only
// when both are held, since a move is a moment without.
func (r *Reporter) settle(ctx context.Context) error {
	wrong := 0 // how often in a row
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(placesEvery/2 + rand.N(placesEvery)):
		}
		s := r.misplaced()
		if s == nil {
			wrong = 0
			continue
		}
		if wrong++; wrong >= 2 {
			wrong = 0
			r.cfg.Logger.Info("Report session moves to a better place")
			s.move()
		}
	}
}

func (r *Reporter) misplaced() *session {
	places := r.cfg.Places()
	r.mu.Lock()
	sessions := r.sessions
	r.mu.Unlock()
	if len(sessions) < 2 || r.Connected() < 2 {
		return nil
	}
	for n, s := range sessions {
		_, mine := s.client.Server()
		_, other := sessions[1-n].client.Server()
		if misplaced(mine, places, other, r.ill) {
			return s
		}
	}
	return nil
}
