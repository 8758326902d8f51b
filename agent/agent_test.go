package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/rollcall-dev/rollcall/agent/agenttest"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server"
)

const password = "agent"

type presences struct{}

func (presences) Lookup(namespace, name string) (server.Presence, bool) {
	return server.Presence{
		Kind: server.Nodes, MinInterval: time.Second, MaxInterval: time.Second, Grace: 5 * time.Second,
	}, namespace == "rc" && name == "nodes"
}

type agents struct{}

func (agents) Authenticate(_ context.Context, c server.Credentials) (server.Principal, error) {
	if string(c.Password) != password {
		return server.Principal{}, server.ErrCredentials
	}
	return server.Principal{Name: "agent", Rights: server.Connect | server.Report}, nil
}

func logger() *slog.Logger {
	if os.Getenv("ROLLCALL_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// begin runs something until the test ends, or end is called.
func begin(t *testing.T, what string, run func(context.Context) error) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
	t.Cleanup(end)
	return end
}

func open(t *testing.T, endpoints []string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Endpoints: endpoints, Logger: logger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// record is what agents' reports have made of the store.
type record struct {
	t            *testing.T
	news         chan struct{}
	mu           sync.Mutex
	observations map[store.ObservationKey]store.Observation
	suspicions   map[store.SuspicionKey]store.Suspicion
	writes       int
}

func follow[K comparable, V any](r *record, updates <-chan store.Update[K, V], all map[K]V) {
	for u := range updates {
		r.mu.Lock()
		if u.Reset {
			clear(all)
		}
		maps.Copy(all, u.Put)
		for _, k := range u.Deleted {
			delete(all, k)
		}
		r.writes += len(u.Put) + len(u.Deleted)
		r.mu.Unlock()
		poke(r.news)
	}
}

func newRecord(t *testing.T, s *store.Store) *record {
	r := &record{
		t: t, news: make(chan struct{}, 1),
		observations: map[store.ObservationKey]store.Observation{}, suspicions: map[store.SuspicionKey]store.Suspicion{},
	}
	begin(t, "record", func(ctx context.Context) error {
		var watches sync.WaitGroup
		watches.Go(func() { follow(r, s.WatchObservations(ctx), r.observations) })
		watches.Go(func() { follow(r, s.WatchSuspicions(ctx), r.suspicions) })
		watches.Wait()
		return nil
	})
	return r
}

// until waits for the record to be as wanted, and returns how long that took.
func (r *record) until(what string, ok func() bool) time.Duration {
	r.t.Helper()
	at, timeout := time.Now(), time.After(patience)
	for {
		r.mu.Lock()
		done := ok()
		r.mu.Unlock()
		if done {
			return time.Since(at)
		}
		select {
		case <-r.news:
		case <-timeout:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Fatalf("%s has not come to pass: %v, %v", what, r.observations, r.suspicions)
		}
	}
}

// says counts the observers that hold a server to be in a band.
func (r *record) says(server string, b wire.Band) (n int) {
	for k, o := range r.observations {
		if k.Server == server && o.Band == b {
			n++
		}
	}
	return n
}

// tells counts the reporters of a word on a node.
func (r *record) tells(node string, w wire.NodeWord) (n int) {
	for k, s := range r.suspicions {
		if k.Node == node && s.Word == w {
			n++
		}
	}
	return n
}

// blackhole is a port that drops whatever comes: its queue is full.
func blackhole(t *testing.T, ip [4]byte) (port int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: ip}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port = name.(*unix.SockaddrInet4).Port
	address := fmt.Sprintf("%d.%d.%d.%d:%d", ip[0], ip[1], ip[2], ip[3], port)
	for failed := 0; failed < 2; { // until the queue is full, and not only the machine slow
		c, err := net.DialTimeout("tcp", address, 500*time.Millisecond)
		if err != nil {
			failed++
			continue
		}
		failed = 0
		t.Cleanup(func() { c.Close() })
	}
	return port
}

// TestAgents is the whole way: five agents, two heartbeat servers and an etcd, a
// third server that misbehaves, and two machines that are not there.
func TestAgents(t *testing.T) {
	etcd := storetest.Etcd(t)
	rec := newRecord(t, open(t, etcd))
	c := &fakeCluster{}
	for i := range 2 {
		name := fmt.Sprintf("s-%d", i)
		s, err := server.New(server.Config{
			Name: name, Namespace: "rc", Incarnation: name + ".1", Listen: "127.0.0.1:0", Capacity: 1000,
			Store: open(t, etcd), Presences: presences{}, Authenticator: agents{}, Logger: logger(), Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		begin(t, name, s.Run)
		c.servers = append(c.servers, Target{
			Name: "rc/" + name, Node: fmt.Sprintf("n%d", i), Address: s.Addr().String(),
			AnswerTime: 500 * time.Millisecond, Window: time.Second, Observers: 3, Presence: "rc/servers",
		})
	}
	chat := agenttest.NewServer(t, "im/chat-0")
	c.servers = append(c.servers, Target{
		Name: "im/chat-0", Node: "n2", Address: chat.Address,
		AnswerTime: 500 * time.Millisecond, Window: time.Second, Observers: 3, Presence: "im/chat",
	})
	// n5 is a machine whose agent is down, n6 one that is gone.
	kubelet := blackhole(t, [4]byte{127, 0, 0, 7})
	for i := range 7 {
		n := fmt.Sprintf("n%d", i)
		c.nodes = append(c.nodes, Node{Name: n, Zone: fmt.Sprintf("z%d", i%3), Address: fmt.Sprintf("127.0.0.%d", i+1)})
		c.agents = append(c.agents, Peer{Node: n, GossipAddress: fmt.Sprintf("127.0.0.%d:%d", i+1, gossipPort(t, fmt.Sprintf("127.0.0.%d", i+1)))})
	}
	c.servers[0].Observers = 6 // all but its own: the agents of n5 and n6 are not there
	var end []func()
	for i := range 5 {
		host, port, err := net.SplitHostPort(c.agents[i].GossipAddress)
		if err != nil {
			t.Fatal(err)
		}
		gossip := GossipConfig{BindAddr: host, Key: []byte("0123456789abcdef")}
		if _, err := fmt.Sscan(port, &gossip.BindPort); err != nil {
			t.Fatal(err)
		}
		mine := &fakeCluster{snapshot: c.snapshot, changed: make(chan struct{})}
		a, err := New(Config{
			Node: c.nodes[i].Name, Cluster: mine, Servers: []string{c.servers[0].Address, c.servers[1].Address},
			Presence: "rc/nodes", Token: func(context.Context) (string, error) { return password, nil },
			Gossip: gossip, KubeletPort: kubelet,
			Logger: logger().With("self", c.nodes[i].Name), Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Ready(); err == nil {
			t.Errorf("%s is ready before it runs", c.nodes[i].Name)
		}
		end = append(end, begin(t, c.nodes[i].Name, a.Run))
	}
	// Who watches what, of those that are there.
	watchers := map[string]int{}
	for i := range 5 {
		a := assign(c.nodes[i].Name, "rc", c, func(string) bool { return false })
		for _, s := range a.servers {
			watchers[s.Name]++
		}
		for _, n := range a.nodes {
			watchers[n.Node]++
		}
	}
	t.Logf("watchers: %v", watchers)

	took := rec.until("everything is known", func() bool {
		ok := rec.tells("n5", wire.NodeAgentDown) == watchers["n5"] && rec.tells("n6", wire.NodeDead) == watchers["n6"]
		for _, s := range c.servers {
			ok = ok && rec.says(s.Name, wire.BandOK) == watchers[s.Name]
		}
		for _, n := range c.nodes[:5] {
			ok = ok && rec.tells(n.Name, wire.NodeAlive) == watchers[n.Name]
		}
		return ok
	})
	t.Logf("everything is known after %v", took)
	for k, o := range rec.observations {
		if o.Zone != c.nodes[k.Observer[1]-'0'].Zone || o.Boot == 0 || o.Incarnation == "" && !strings.HasPrefix(k.Server, "im/") {
			t.Errorf("%v: %+v", k, o)
		}
	}

	t.Log("nothing is written while nothing changes")
	writes := func() int {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		return rec.writes
	}
	// What a busy machine does to the agents is a change: the quiet is waited for.
	const quiet = 3 * time.Second
	for end := time.Now().Add(patience); ; {
		before := writes()
		<-time.After(quiet)
		n := writes() - before
		if n == 0 {
			break
		}
		t.Logf("%d keys were written within %v", n, quiet)
		if time.Now().After(end) {
			t.Errorf("there were not %v without a write within %v", quiet, patience)
			break
		}
	}

	t.Log("chat-0 hangs")
	chat.Hang()
	took = rec.until("it is hung", func() bool { return rec.says("im/chat-0", wire.BandHung) == watchers["im/chat-0"] })
	t.Logf("all of its observers have that recorded after %v", took)
	chat.Resume()
	rec.until("it is ok again", func() bool { return rec.says("im/chat-0", wire.BandOK) == watchers["im/chat-0"] })

	t.Log("n4 says goodbye")
	end[4]()
	took = rec.until("it has left", func() bool { return rec.tells("n4", wire.NodeLeft) == watchers["n4"] })
	t.Logf("recorded after %v", took)
	for _, e := range end {
		e()
	}
	noneLeft(t)
}

// noneLeft checks that agents that have ended have left no goroutine. Servers
// and etcd go on in the same process.
func noneLeft(t *testing.T) {
	t.Helper()
	timeout := time.After(patience)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		buf := make([]byte, 4<<20)
		var left []string
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			for _, of := range []string{"rollcall/agent/", "rollcall/agent.(*Agent)", "rollcall/client.", "hashicorp/memberlist"} {
				if strings.Contains(g, of) && !strings.Contains(g, "agenttest") {
					left = append(left, g)
					break
				}
			}
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-again.C:
		case <-timeout:
			t.Fatalf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
		}
	}
}

// gossipPort is free at address, for TCP and UDP.
func gossipPort(t *testing.T, address string) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestConfigIsChecked(t *testing.T) {
	good := func() Config {
		return Config{
			Node: "n1", Cluster: &fakeCluster{}, Presence: "rc/nodes",
			Logger: logger(), Registerer: prometheus.NewRegistry(),
		}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"a cluster is needed":           {func(c *Config) { c.Cluster = nil }, "Cluster"},
		"a node name makes a client id": {func(c *Config) { c.Node = "a b" }, "client id"},
		"a port is a port":              {func(c *Config) { c.KubeletPort = -1 }, "kubelet port -1"},
		"a Presence has a namespace":    {func(c *Config) { c.Presence = "nodes" }, "namespace/presence"},
		"a gossip key has a size":       {func(c *Config) { c.Gossip.Key = []byte("x") }, "key of 1 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good()
			c.change(&cfg)
			if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want one about %q", err, c.want)
			}
		})
	}
}
