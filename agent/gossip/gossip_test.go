package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

// memberlist's own probe under way ends by its time-out, up to seconds after
// Shutdown, whatever we do.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probe"))
}

// patience is what a test waits for what should take a second or two, on a
// machine that does other things as well.
const patience = time.Minute

type agent struct {
	*Gossip
	t    *testing.T
	stop context.CancelFunc
	done chan error
}

func start(t *testing.T, node string, key []byte) *agent {
	t.Helper()
	g, err := New(Config{
		Node: node, BindAddr: "127.0.0.1", AdvertiseAddr: "127.0.0.1", BindPort: freePort(t), Key: key,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	a := &agent{Gossip: g, t: t, stop: stop, done: make(chan error, 1)}
	go func() { a.done <- g.Run(ctx) }()
	t.Cleanup(a.end)
	return a
}

func (a *agent) end() {
	a.stop()
	if err := <-a.done; err != nil {
		a.t.Errorf("%s: %v", a.cfg.Node, err)
	}
	a.done <- nil
}

func (a *agent) peer() Peer {
	return Peer{Node: a.cfg.Node, Address: net.JoinHostPort("127.0.0.1", fmt.Sprint(a.cfg.BindPort))}
}

// await waits for a member to be in a state.
func (a *agent) await(node string, want State) Member {
	a.t.Helper()
	timeout := time.After(patience)
	for {
		m, ok := a.Member(node)
		if ok && m.State == want {
			return m
		}
		select {
		case <-a.Changed():
		case <-timeout:
			a.t.Fatalf("%s holds %s %q (known: %v), want %q", a.cfg.Node, node, m.State, ok, want)
		}
	}
}

// eventually polls, for what nobody tells of.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	timeout := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("it has not come to pass that %s", what)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return freePort(t)
	}
	u.Close()
	return port
}

func TestFiveAgents(t *testing.T) {
	key := []byte("0123456789abcdef")
	var agents []*agent
	var peers []Peer
	for i := range 5 {
		a := start(t, fmt.Sprintf("node-%d", i), key)
		agents = append(agents, a)
		peers = append(peers, a.peer())
	}
	for _, a := range agents {
		a.SetPeers(peers)
	}
	for _, a := range agents {
		for _, b := range agents {
			a.await(b.cfg.Node, Alive)
		}
		eventually(t, fmt.Sprintf("%s holds 4 others alive", a.cfg.Node), func() bool { return a.Alive() == 4 })
	}
	eventually(t, "a live agent answers a ping", func() bool {
		_, err := agents[0].Ping("node-1", "")
		return err == nil
	})
	eventually(t, "a ping of a live member goes to its own address", func() bool {
		_, err := agents[0].Ping("node-1", peers[2].Address)
		return err == nil
	})

	answered := func() time.Time {
		m, _ := agents[0].Member("node-1")
		return m.Answered
	}
	var first time.Time
	eventually(t, "an answer to memberlist's own question is known", func() bool {
		first = answered()
		return !first.IsZero()
	})
	eventually(t, "and another after it", func() bool { return answered().After(first) })

	t.Log("node-4 stops without a word")
	at := time.Now()
	agents[4].silent = true
	agents[4].end()
	for _, a := range agents[:4] {
		a.await("node-4", Lost)
	}
	t.Logf("found by all after %v", time.Since(at))
	if _, err := agents[0].Ping("node-4", peers[4].Address); err == nil {
		t.Error("a dead agent answered a ping")
	}

	t.Log("node-3 says goodbye")
	agents[3].end()
	for _, a := range agents[:3] {
		a.await("node-3", Left)
	}

	t.Log("node-3 and node-4 come back, elsewhere")
	for _, i := range []int{3, 4} {
		a := start(t, fmt.Sprintf("node-%d", i), key)
		peers[i] = a.peer()
	}
	for _, a := range agents[:3] {
		a.SetPeers(peers)
	}
	for _, a := range agents[:3] {
		for _, p := range peers[3:] {
			if m := a.await(p.Node, Alive); m.Address != p.Address {
				t.Errorf("%s is thought to be at %s, is at %s", p.Node, m.Address, p.Address)
			}
		}
	}
}

func TestAnotherKeyIsNoMember(t *testing.T) {
	a := start(t, "a", []byte("0123456789abcdef"))
	b := start(t, "b", []byte("fedcba9876543210"))
	a.SetPeers([]Peer{b.peer()})
	if _, err := a.Ping("b", b.peer().Address); err == nil {
		t.Error("an agent with another key answered")
	}
	if _, ok := a.Member("b"); ok {
		t.Error("an agent with another key is a member")
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"a node name is needed":        {Config{}, "no node name"},
		"a key has one of three sizes": {Config{Node: "a", Key: []byte("short")}, "key of 5 bytes"},
		"addresses are IP addresses":   {Config{Node: "a", AdvertiseAddr: "node-1"}, "not an IP address"},
		"a port is a port":             {Config{Node: "a", BindPort: 70000}, "between 1 and 65535"},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Registerer = prometheus.NewRegistry()
			if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want one about %q", err, c.want)
			}
		})
	}
}

func TestTakenPortIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g, err := New(Config{
		Node: "a", BindAddr: "127.0.0.1", BindPort: l.Addr().(*net.TCPAddr).Port,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}

func TestMemberlistLinesBecomeRecords(t *testing.T) {
	var b strings.Builder
	w := logWriter{slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))}
	for _, line := range []string{"[WARN] memberlist: refuting\n", "[DEBUG] memberlist: chatter\n", "something else\n", "[odd\n"} {
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	want := `level=INFO msg="Memberlist says" text=refuting
level=INFO msg="Memberlist says" text="something else"
level=INFO msg="Memberlist says" text=[odd
`
	if got := b.String(); got != want {
		t.Errorf("got %s", got)
	}
}
