package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/client/crowd"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/server"
)

// Heartbeat servers as they are, with an etcd of their own; each behind a gate,
// so that it can be stopped and killed without ending this process.

const (
	realInterval   = time.Second
	realJitter     = 0.1
	realAckTimeout = 4 * time.Second // room for a busy machine
	realClients    = 60

	// patience is how long anything may take on a busy machine.
	patience = time.Minute
)

// gate passes connections on to a server, until it is frozen (it accepts, and
// its sockets stay open, and nothing comes through: a stopped process) or closed
// (everything is reset, and nothing listens: a killed one).
type gate struct {
	net.Listener
	target string
	mu     sync.Mutex
	frozen chan struct{} // closed: frozen
	conns  []net.Conn
	done   sync.WaitGroup
}

func newGate(t *testing.T) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Listener: l, frozen: make(chan struct{})}
	t.Cleanup(g.kill)
	return g
}

func (g *gate) open(target string) {
	g.target = target
	g.done.Go(func() {
		for {
			in, err := g.Accept()
			if err != nil {
				return
			}
			g.keep(in)
			out, err := net.Dial("tcp", g.target)
			if err != nil {
				_ = in.Close()
				continue
			}
			g.keep(out)
			g.done.Go(func() { g.pass(in, out) })
			g.done.Go(func() { g.pass(out, in) })
		}
	})
}

func (g *gate) keep(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns = append(g.conns, c)
}

func (g *gate) pass(to, from net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		select {
		case <-g.frozen:
			return // and leave both open
		default:
		}
		if err == nil {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			_ = to.Close()
			_ = from.Close()
			return
		}
	}
}

func (g *gate) freeze() { close(g.frozen) }

func (g *gate) kill() {
	_ = g.Close()
	g.mu.Lock()
	for _, c := range g.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, as from a kernel that has lost the process
		}
		_ = c.Close()
	}
	g.conns = nil
	g.mu.Unlock()
	g.done.Wait()
}

type presences struct{}

func (presences) Lookup(namespace, name string) (server.Presence, bool) {
	return server.Presence{Kind: server.Clients, MinInterval: time.Second, MaxInterval: time.Minute, Grace: 5 * time.Second},
		namespace == "im" && name == "android"
}

type everybody struct{}

func (everybody) Authenticate(_ context.Context, c server.Credentials) (server.Principal, error) {
	if string(c.Password) == "wrong" {
		return server.Principal{}, server.ErrCredentials
	}
	return server.Principal{Name: "test", Rights: server.Connect}, nil
}

// site is some heartbeat servers.
type site struct {
	t      *testing.T
	store  *store.Store
	gates  []*gate
	faults []*server.Faults
}

func newSite(t *testing.T, n int) *site {
	t.Helper()
	if testing.Short() {
		t.Skip("runs an etcd")
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &site{t: t}
	endpoints := storetest.Etcd(t)
	open := func() *store.Store {
		st, err := store.Open(ctx, store.Config{Endpoints: endpoints})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	s.store = open()
	var running sync.WaitGroup
	var stores []*store.Store
	for i := range n {
		g, f, st := newGate(t), &server.Faults{}, open()
		stores = append(stores, st)
		srv, err := server.New(server.Config{
			Name: fmt.Sprintf("server-%d", i), Namespace: "test", Incarnation: fmt.Sprintf("uid-%d.1", i),
			Listen: "127.0.0.1:0", Advertise: g.Addr().String(), Capacity: 1000,
			Store: st, Presences: presences{}, Authenticator: everybody{}, Faults: f, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if err := srv.Run(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("server-%d: %v", i, err)
			}
		})
		eventually(t, "a server is ready", func() bool { return srv.Ready() == nil })
		g.open(srv.Addr().String())
		s.gates, s.faults = append(s.gates, g), append(s.faults, f)
	}
	t.Cleanup(func() {
		stop()
		running.Wait()
		for _, st := range append(stores, s.store) {
			_ = st.Close()
		}
	})
	return s
}

func (s *site) addresses() []string {
	var l []string
	for _, g := range s.gates {
		l = append(l, g.Addr().String())
	}
	return l
}

func name(i int) string { return fmt.Sprintf("test/server-%d", i) }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %v: %s", patience, what)
}

// people are a crowd and what it has told.
type people struct {
	*crowd.Crowd
	mu    sync.Mutex
	lines []crowd.Line
}

// gather starts a crowd and waits until all of it is connected, and every
// server has some of it.
func (s *site) gather() *people {
	s.t.Helper()
	p := &people{}
	c, err := crowd.New(crowd.Config{
		Count: realClients, Servers: s.addresses(), Presence: "im/android", StartRate: 1000,
		Interval: realInterval, Jitter: realJitter, AckTimeout: realAckTimeout,
		OnLine: func(l crowd.Line) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.lines = append(p.lines, l)
		},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	p.Crowd = c
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	eventually(s.t, "everybody is connected", func() bool { return total(c.Snapshot()) == realClients })
	return p
}

func total(s crowd.Snapshot) int {
	n := 0
	for _, k := range s.Connected {
		n += k
	}
	return n
}

// moved waits until nobody is on server 0 and everybody is somewhere, and
// returns how long after begun each of its clients was elsewhere, in order.
func (p *people) moved(t *testing.T, begun time.Time, reason string) []time.Duration {
	t.Helper()
	eventually(t, "everybody is elsewhere", func() bool {
		s := p.Snapshot()
		return s.Connected[name(0)] == 0 && total(s) == realClients
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	var took []time.Duration
	for _, l := range p.lines {
		switch l.Kind {
		case client.Offline:
			t.Errorf("%s went offline: %s", l.Client, l.Error)
		case client.Moved:
			if l.From != name(0) || !strings.Contains(reason, l.Reason) {
				t.Errorf("%s moved from %s (%s), want from %s (%s)", l.Client, l.From, l.Reason, name(0), reason)
			}
			took = append(took, l.At.Sub(begun))
		}
	}
	slices.Sort(took)
	s := p.Snapshot()
	t.Logf("%d clients moved (%v): the first after %v, the last after %v; now %v", len(took), s.MovesBy,
		took[0].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), s.Connected)
	return took
}

// recorded waits until the records in etcd say what the clients say.
func (s *site) recorded(p *people) {
	s.t.Helper()
	var keys []store.SessionKey
	for n := range realClients {
		keys = append(keys, store.SessionKey{Namespace: "im", Presence: "android", Client: fmt.Sprintf("crowd-%d", n)})
	}
	eventually(s.t, "the records follow", func() bool {
		got, err := s.store.ReadSessions(context.Background(), keys)
		if err != nil {
			s.t.Fatal(err)
		}
		held := map[string]int{}
		for _, r := range got {
			if r.Current == nil || r.Current.Offline {
				return false
			}
			held[r.Current.Server]++
		}
		now := p.Snapshot().Connected
		for server, n := range now {
			if held[server] != n {
				return false
			}
		}
		return total(p.Snapshot()) == realClients
	})
}

// A beat is at most this far away when a server stops.
var nextBeat = time.Duration(float64(realInterval) * (1 + realJitter))

func TestRealServerStopped(t *testing.T) {
	s := newSite(t, 3)
	p := s.gather()
	s.recorded(p)
	begun := time.Now()
	s.gates[0].freeze()
	took := p.moved(t, begun, "late")
	t.Logf("want %v (the next beat) + %v (time-out), and a little", nextBeat, realAckTimeout)
	if first := took[0]; first < realAckTimeout/2 {
		t.Errorf("the first was elsewhere after %v already, and the time-out is %v", first, realAckTimeout)
	}
	s.recorded(p)
}

func TestRealServerKilled(t *testing.T) {
	s := newSite(t, 3)
	p := s.gather()
	s.recorded(p)
	begun := time.Now()
	s.gates[0].kill()
	p.moved(t, begun, "broken")
	s.recorded(p)
}

func TestRealServerDrained(t *testing.T) {
	s := newSite(t, 3)
	p := s.gather()
	s.recorded(p)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	leader, err := s.store.Campaign(ctx, "test")
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := leader.PutDirective(ctx, name(0), store.Directive{
		Failover: "test/drain", Incarnation: "uid-0.1", Drain: true, Rate: 50, FirstWave: 2,
		Targets: []store.Target{{Server: name(2), Address: s.addresses()[2], Weight: 1}},
	}); err != nil {
		t.Fatal(err)
	}
	p.moved(t, begun, "directed")
	p.mu.Lock()
	for _, l := range p.lines {
		if l.Kind == client.Moved && l.To != name(2) {
			t.Errorf("%s moved to %s, and was told to go to %s", l.Client, l.To, name(2))
		}
	}
	p.mu.Unlock()
	s.recorded(p)
}

func TestRealServerSlowIsNotLeft(t *testing.T) {
	s := newSite(t, 2)
	p := s.gather()
	s.faults[0].SetAnswerDelay(realAckTimeout / 4)
	<-time.After(4 * realInterval)
	if got := p.Snapshot(); got.Moves != 0 || got.Late != 0 {
		t.Errorf("%+v", got)
	}
}

func TestRealServerRefusesAndAnswersPublications(t *testing.T) {
	s := newSite(t, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cfg := client.Config{Servers: s.addresses(), Presence: "im/android", ClientID: "ann", Password: "wrong", AckTimeout: realAckTimeout}
	if _, err := client.Dial(ctx, cfg); !errors.Is(err, client.ErrCredentials) {
		t.Errorf("error %v, want ErrCredentials", err)
	}
	cfg.Password = ""
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if address, server := c.Server(); address != s.addresses()[0] || server != name(0) {
		t.Errorf("Server: %s %s", address, server)
	}
	if err := c.Publish(ctx, "$rollcall/beat", nil); err != nil {
		t.Error(err)
	}
	var refusal *client.Refusal
	if err := c.Publish(ctx, "$rollcall/report", []byte("{}")); !errors.As(err, &refusal) {
		t.Errorf("error %v, want a refusal: this client has no right to report", err)
	}
	key := []store.SessionKey{{Namespace: "im", Presence: "android", Client: "ann"}}
	recorded := func(offline bool) func() bool {
		return func() bool {
			got, err := s.store.ReadSessions(t.Context(), key)
			return err == nil && got[0].Current != nil && got[0].Current.Offline == offline
		}
	}
	eventually(t, "it is recorded that the client is here", recorded(false))
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	begun := time.Now()
	eventually(t, "it is recorded that the client has left", recorded(true))
	t.Logf("offline %v after Close", time.Since(begun).Round(time.Millisecond))
}
