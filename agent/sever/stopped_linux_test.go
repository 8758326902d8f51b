package sever

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/sockets"
	"github.com/rollcall-dev/rollcall/internal/sockets/namespacetest"
)

// serve makes this test binary a server that accepts and answers nothing.
const serve = "ROLLCALL_TEST_SERVE"

// patience is how long a condition is waited for, on a busy machine.
const patience = time.Minute

func TestMain(m *testing.M) {
	if addresses := os.Getenv(serve); addresses != "" {
		listen()
	}
	namespacetest.Main(m)
}

// listen takes connections on the client port and on another one, until it is killed.
func listen() {
	for _, address := range []string{"[::]:1883", "[::]:1884"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(io.Discard, c) }()
			}
		}()
	}
	fmt.Println("ready")
	select {}
}

// server starts one in a network namespace.
func server(t *testing.T, ns *os.File) *os.Process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), serve+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sockets.Do(ns, cmd.Start); err != nil { // a child has its parent thread's network
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the server says %q: %v", line, err)
	}
	return cmd.Process
}

// realCluster knows one pod, and whom to spare.
type realCluster struct {
	target_ target
	mu      sync.Mutex
	severed v1alpha1.Severed
	saying  saying
}

func (c *realCluster) target(context.Context, types.NamespacedName, *v1alpha1.SeverOrder) (target, error) {
	return c.target_, nil
}

func (c *realCluster) report(_ context.Context, _ *v1alpha1.Failover, s v1alpha1.Severed, said saying) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.severed, c.saying = s, said
	return nil
}

func (c *realCluster) ended(*v1alpha1.Failover, int) {}

func (c *realCluster) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.severed.Connections)
}

// A server's process is stopped with 500 clients, IPv4 and IPv6. Each is reset,
// and comes to another server. Its observer, a client of another port and one on
// the loopback interface notice nothing.
func TestTheClientsOfAStoppedProcessComeElsewhere(t *testing.T) {
	const clients, rate, wave = 500, 200, 25
	stopped := namespacetest.New(t, "10.9.0.1/32", "10.9.0.2/32", "10.9.0.99/32", "fd00::1/128", "fd00::2/128")
	other := namespacetest.New(t, "10.9.0.1/32", "10.9.0.2/32")
	dir := t.TempDir()
	namespacetest.Bind(t, stopped, dir, "cni-stopped")
	namespacetest.Bind(t, other, dir, "cni-other-network")
	process := server(t, stopped)
	server(t, other)
	addresses := []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd00::1")}

	var elsewhere atomic.Int32
	var all sync.WaitGroup
	for i := range clients {
		from, to := "10.9.0.2", "10.9.0.1:1883"
		if i%2 == 1 {
			from, to = "fd00::2", "[fd00::1]:1883"
		}
		c := namespacetest.Dial(t, stopped, from, to)
		all.Go(func() {
			if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Error(err)
				return
			}
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("client %d: %v, want a reset", i, err)
				return
			}
			if _, err := namespacetest.TryDial(t, other, "10.9.0.2", "10.9.0.1:1883"); err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			elsewhere.Add(1)
		})
	}
	bystanders := map[string]*net.TCPConn{
		"an observer":              namespacetest.Dial(t, stopped, "10.9.0.99", "10.9.0.1:1883"),
		"a client of another port": namespacetest.Dial(t, stopped, "10.9.0.2", "10.9.0.1:1884"),
		"the loopback interface":   namespacetest.Dial(t, stopped, "127.0.0.1", "127.0.0.1:1883"),
		"the pod with itself":      namespacetest.Dial(t, stopped, "10.9.0.1", "10.9.0.1:1883"),
	}
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}

	cluster := &realCluster{target_: target{addresses: addresses, port: 1883, spared: map[netip.Addr]bool{netip.MustParseAddr("10.9.0.99"): true}}}
	s, err := newSeverer(Config{Node: "here", Namespace: "rollcall", Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()},
		cluster, func(ctx context.Context, a []netip.Addr) (namespace, error) { return Enter(ctx, dir, a) })
	if err != nil {
		t.Fatal(err)
	}
	stop := s.begin(t.Context())
	defer stop()
	play := &scene{t: t, severer: s, fo: &v1alpha1.Failover{}}
	play.fo.Namespace, play.fo.Name, play.fo.UID, play.fo.Spec.Server = "im", "fo", "fo-1", "server-2"
	play.process("True")
	play.shows()
	began := time.Now()
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for renew := time.NewTicker(time.Second); ; {
		play.asks(rate, wave)
		select {
		case <-renew.C:
			continue
		case <-done:
		}
		renew.Stop()
		break
	}
	took := time.Since(began)
	t.Logf("%d clients elsewhere after %v, at %d a second", elsewhere.Load(), took, rate)
	if n := elsewhere.Load(); n != clients {
		t.Errorf("%d of %d came elsewhere", n, clients)
	}
	if least := time.Duration(float64(clients-wave) / rate * float64(time.Second)); took < least-100*time.Millisecond {
		t.Errorf("it took %v, and the pace asks for %v at least", took, least)
	}
	deadline := time.After(patience)
	for tick := time.NewTicker(10 * time.Millisecond); cluster.count() != clients; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it reports %d", cluster.count())
		}
	}
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for name, c := range bystanders {
		// A reset would be found by now: it comes before what is written after.
		for range 2 {
			if _, err := c.Write([]byte{1}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
