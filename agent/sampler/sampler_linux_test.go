package sampler

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/agent/agenttest"
	"github.com/rollcall-dev/rollcall/agent/sever"
	"github.com/rollcall-dev/rollcall/internal/kernel"
	"github.com/rollcall-dev/rollcall/internal/sockets"
	"github.com/rollcall-dev/rollcall/internal/sockets/namespacetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestMain(m *testing.M) { namespacetest.Main(m) }

// patience is how long a condition is waited for, on a busy machine.
const patience = time.Minute

// fixed is a cluster that a test changes.
type fixed struct {
	mu      sync.Mutex
	targets []Target
	changed chan struct{}
}

func (f *fixed) Targets() []Target {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.targets
}
func (f *fixed) Observers() map[netip.Addr]bool {
	return map[netip.Addr]bool{netip.MustParseAddr("10.9.0.99"): true}
}
func (f *fixed) Moving(types.NamespacedName) bool { return false }
func (f *fixed) Doubted(string) bool              { return false }
func (f *fixed) Changed() <-chan struct{}         { return f.changed }
func (f *fixed) set(targets ...Target) {
	f.mu.Lock()
	f.targets = targets
	f.mu.Unlock()
	poke(f.changed)
}

// reader is a server's work path: it reads from all of its connections while it is let.
type reader struct {
	mu      sync.Mutex
	changed *sync.Cond
	held    bool
}

func (r *reader) hold(held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = held
	r.changed.Broadcast()
}

func (r *reader) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			raw, err := c.(*net.TCPConn).SyscallConn()
			if err != nil {
				return
			}
			for b := make([]byte, 64); ; {
				// Wait until there is something, and read it only when that is let.
				if err := raw.Read(func(fd uintptr) bool {
					_, _, err := unix.Recvfrom(int(fd), b, unix.MSG_PEEK)
					return !errors.Is(err, unix.EAGAIN)
				}); err != nil {
					return
				}
				r.mu.Lock()
				for r.held {
					r.changed.Wait()
				}
				r.mu.Unlock()
				if _, err := c.Read(b); err != nil {
					return
				}
			}
		}()
	}
}

// With real sockets, in a pod's network namespace, and a real session: what the
// kernel says of a server that stops reading, and goes on, comes to a heartbeat
// server, and nothing of a server that is not there any more.
func TestWhatAKernelSaysIsReported(t *testing.T) {
	pod := namespacetest.New(t, "10.9.0.1/32", "10.9.0.2/32", "10.9.0.99/32")
	dir := t.TempDir()
	namespacetest.Bind(t, pod, dir, "cni-pod")
	r := &reader{}
	r.changed = sync.NewCond(&r.mu)
	go r.serve(namespacetest.Listen(t, pod, "tcp", "[::]:8080"))
	defer r.hold(false)
	var clients []*net.TCPConn
	for range 3 {
		clients = append(clients, namespacetest.Dial(t, pod, "10.9.0.2", "10.9.0.1:8080"))
	}
	observer := namespacetest.Dial(t, pod, "10.9.0.99", "10.9.0.1:8080")
	asks := time.NewTicker(50 * time.Millisecond)
	defer asks.Stop()

	server := agenttest.NewServer(t, "rollcall/server-0")
	target := Target{Server: "shop/web-0", UID: "u", Port: 8080, Window: 200 * time.Millisecond, Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.1")}}
	cluster := &fixed{changed: make(chan struct{}, 1)}
	cluster.set(target)
	s, err := New(Config{
		Node: "n1", Cluster: cluster, Namespaces: dir, Presence: "rollcall/nodes", Servers: []string{server.Address},
		Token:  func(context.Context) (string, error) { return "secret", nil },
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	ask := func() {
		for _, c := range append(clients, observer) {
			if _, err := c.Write([]byte("?")); err != nil {
				t.Fatal(err)
			}
		}
	}
	var last wire.Report
	until := func(what string, ok func(o wire.Observation, known bool) bool) {
		t.Helper()
		for deadline := time.After(patience); ; {
			select {
			case <-asks.C:
				ask()
			case got := <-server.Reports():
				last = wire.Report{}
				if err := json.Unmarshal(got.Payload, &last); err != nil {
					t.Fatal(err)
				}
				if last.Node != "kernel:n1" || got.Client != "kernel:n1:0" && got.Client != "kernel:n1:1" {
					t.Fatalf("%s reports in the name of %s", got.Client, last.Node)
				}
				if o, known := last.Observations["shop/web-0"]; ok(o, known) {
					return
				}
			case <-deadline:
				t.Fatalf("waited %v until %s; the last report is %+v", patience, what, last)
			}
		}
	}
	until("all is well with three clients", func(o wire.Observation, _ bool) bool {
		return o.Band == wire.BandOK && o.Connections != nil && *o.Connections == 3 && o.Incarnation == "u"
	})
	// Only who has been seen to read can be seen to read no more.
	for seen := testutil.ToFloat64(s.looks) + 3; testutil.ToFloat64(s.looks) < seen; {
		<-asks.C
		ask()
	}
	r.hold(true)
	until("bytes are unread", func(o wire.Observation, _ bool) bool { return o.Band == wire.BandUnread && o.Detail != "" })
	r.hold(false)
	until("it reads again", func(o wire.Observation, _ bool) bool { return o.Band == wire.BandOK })
	elsewhere := target
	elsewhere.Addresses = []netip.Addr{netip.MustParseAddr("10.9.0.77")}
	cluster.set(elsewhere)
	until("its namespace is not found", func(o wire.Observation, _ bool) bool { return o.Band == wire.BandBlind && o.Connections == nil })
	cluster.set()
	until("it is gone", func(_ wire.Observation, known bool) bool { return !known })
}

// The kernel itself counts the end of a connection as a byte that waits to be read.
func TestAKernelTellsOfAnEndThatIsNotRead(t *testing.T) {
	pod := namespacetest.New(t, "10.9.0.1/32", "10.9.0.2/32")
	dir := t.TempDir()
	namespacetest.Bind(t, pod, dir, "cni-pod")
	l := namespacetest.Listen(t, pod, "tcp", "[::]:8080")
	client := namespacetest.Dial(t, pod, "10.9.0.2", "10.9.0.1:8080")
	ns, err := sever.Enter(t.Context(), dir, []netip.Addr{netip.MustParseAddr("10.9.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	// SinceReceived and ID are the kernel's.
	until := func(what string, want kernel.Socket) {
		t.Helper()
		var all []kernel.Socket
		again := time.NewTicker(20 * time.Millisecond)
		defer again.Stop()
		for end := time.Now().Add(patience); time.Now().Before(end); <-again.C {
			all = nil
			q := sockets.Query{Port: 8080, States: []sockets.State{sockets.Established, sockets.CloseWait}, Info: true}
			if err := ns.List(t.Context(), q, func(s sockets.Socket) error {
				o := seen(s, true)
				o.ID, o.SinceReceived = 0, 0
				all = append(all, o)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if len(all) == 1 && all[0] == want {
				return
			}
		}
		t.Fatalf("%s: it is %+v, want %+v", what, all, want)
	}
	if _, err := client.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	until("it waits to be accepted", kernel.Socket{Received: 3, Unread: 3, Client: true})
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	until("it has ended", kernel.Socket{Received: 3, Unread: 3})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	until("it is accepted", kernel.Socket{Received: 3, Unread: 3, Accepted: true})
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	until("all is read, and the end, too", kernel.Socket{Received: 4, Accepted: true})
}

// BenchmarkNode is half a minute of a node with a hundred pods of ninety connections
// each, of which there is nothing to be said.
func BenchmarkNode(b *testing.B) {
	const pods, connections = 100, 90 // as many as 20,000 open files allow
	dir := b.TempDir()
	var watches []*watch
	for n := range pods {
		pod := namespacetest.New(b, "10.9.0.1/32", "10.9.0.2/32")
		l := namespacetest.Listen(b, pod, "tcp", "[::]:8080")
		for range connections {
			namespacetest.Dial(b, pod, "10.9.0.2", "10.9.0.1:8080")
			c, err := l.Accept()
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = c.Close() })
		}
		sub := dir + "/" + string(rune('a'+n/26)) + string(rune('a'+n%26))
		if err := os.Mkdir(sub, 0o700); err != nil {
			b.Fatal(err)
		}
		namespacetest.Bind(b, pod, sub, "cni")
		w := &watch{
			target: Target{Server: "shop/web", Port: 8080, Window: time.Second, Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.1")}},
			enter:  func(ctx context.Context, a []netip.Addr) (namespace, error) { return sever.Enter(ctx, sub, a) },
			spared: func() map[netip.Addr]bool { return nil }, moving: func() bool { return false }, doubted: func() bool { return false }, tell: func(wire.Observation) {},
			log: slog.New(slog.DiscardHandler), looks: func() {}, woke: func(time.Time, time.Time) {},
		}
		w.begin()
		defer w.leave()
		watches = append(watches, w)
	}
	cpu := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	now := time.Unix(1, 0)
	look := func() {
		for _, w := range watches {
			if wait := w.look(b.Context(), now); wait != calm || *w.said.Connections != connections {
				b.Fatalf("the next look is in %v, and %+v is said", wait, w.said)
			}
		}
		now = now.Add(calm)
	}
	for watches[0].countIn < countLate {
		look()
	}
	began := cpu()
	for b.Loop() {
		for range countLate / calm {
			look()
		}
	}
	b.ReportMetric(100*float64(cpu()-began)/float64(b.N)/float64(countLate), "%-of-a-core")
}
