package sockets_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rollcall-dev/rollcall/internal/sockets"
	"github.com/rollcall-dev/rollcall/internal/sockets/namespacetest"
)

// errFirstThread is what becomes of Do where it could take the process's first thread.
var errFirstThread error

func TestMain(m *testing.M) {
	errFirstThread = doFromFirstThread()
	namespacetest.Main(m)
}

// doFromFirstThread is called at first, when main is on that thread still; with one
// processor, whom it waits for goes on there.
func doFromFirstThread() error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ns, err := sockets.OpenNamespace("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer ns.Close()
	return sockets.Do(ns, func() error {
		if unix.Gettid() == unix.Getpid() {
			return errors.New("it is taken to another namespace")
		}
		return nil
	})
}

// patience is how long a condition is waited for, on a busy machine.
const patience = 30 * time.Second

func open(t *testing.T, ns *os.File) *sockets.Conn {
	t.Helper()
	c, err := sockets.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func list(t *testing.T, c *sockets.Conn, q sockets.Query) []sockets.Socket {
	t.Helper()
	var all []sockets.Socket
	err := c.List(t.Context(), q, func(s sockets.Socket) error {
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// look is what is left of some connections.
func look(t *testing.T, c *sockets.Conn, connections ...sockets.Socket) []sockets.Socket {
	t.Helper()
	var all []sockets.Socket
	if err := c.Look(t.Context(), connections, func(s sockets.Socket) { all = append(all, s) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// eventually polls the kernel, which tells nobody of changes.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for tick := time.NewTicker(5 * time.Millisecond); !done(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

// reset waits until a connection is found to be reset.
func reset(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection %v ended with %v, want a reset", c.LocalAddr(), err)
	}
}

// whole checks that a connection still carries what is written at the other end.
func whole(t *testing.T, a, b net.Conn) {
	t.Helper()
	if err := a.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write([]byte{1}); err != nil {
		t.Errorf("writing on %v: %v", b.LocalAddr(), err)
	}
	if _, err := io.ReadFull(a, make([]byte, 1)); err != nil {
		t.Errorf("reading on %v: %v", a.LocalAddr(), err)
	}
}

func TestConnectionsOfAllKindsAreListedAndEnded(t *testing.T) {
	for _, c := range []struct{ name, network, listen, to, from string }{
		{"IPv4", "tcp4", "10.9.0.1:1883", "10.9.0.1:1883", "10.9.0.2"},
		{"IPv6", "tcp6", "[fd00::1]:1883", "[fd00::1]:1883", "fd00::2"},
		{"an IPv4 client of a socket for both", "tcp", "[::]:1883", "10.9.0.1:1883", "10.9.0.2"},
		{"an IPv6 client of a socket for both", "tcp", "[::]:1883", "[fd00::1]:1883", "fd00::2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := namespacetest.New(t, "10.9.0.1/32", "10.9.0.2/32", "fd00::1/128", "fd00::2/128")
			l := namespacetest.Listen(t, ns, c.network, c.listen)
			other := namespacetest.Listen(t, ns, c.network, "[::]:1884")
			client := namespacetest.Dial(t, ns, c.from, c.to)
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer accepted.Close()
			bystander := namespacetest.Dial(t, ns, c.from, net.JoinHostPort(netip.MustParseAddrPort(c.to).Addr().String(), "1884"))
			served, err := other.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer served.Close()
			if _, err := client.Write([]byte("unread")); err != nil {
				t.Fatal(err)
			}

			conn := open(t, ns)
			var found []sockets.Socket
			eventually(t, "six bytes to be unread", func() bool {
				found = list(t, conn, sockets.Query{Port: 1883, Info: true})
				return len(found) == 1 && found[0].ReadQueue == 6
			})
			s := found[0]
			if s.Remote.String() != client.LocalAddr().String() || s.Local.String() != c.to || s.State != sockets.Established || s.Inode == 0 {
				t.Errorf("it is %+v, want the connection of %v", s, client.LocalAddr())
			}
			if s.Info == nil || s.Info.Received != 6 {
				t.Errorf("its counters are %+v", s.Info)
			}
			if got := look(t, conn, s); len(got) != 1 || got[0].Remote != s.Remote || got[0].Local != s.Local || got[0].ReadQueue != 6 || got[0].Info == nil || got[0].Info.Received != 6 {
				t.Errorf("alone it is %+v", got)
			}
			if err := conn.Destroy(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			reset(t, client)
			if got := look(t, conn, s); len(got) > 0 {
				t.Errorf("when it has ended it is %+v", got)
			}
			if err := conn.Destroy(t.Context(), s); !errors.Is(err, sockets.ErrGone) {
				t.Errorf("ending it again: %v", err)
			}
			if left := list(t, conn, sockets.Query{Port: 1883}); len(left) > 0 {
				t.Errorf("left are %+v", left)
			}
			whole(t, bystander, served)
			// The listening socket is not what was meant.
			whole(t, namespacetest.Dial(t, ns, c.from, c.to), accept(t, l))
		})
	}
}

func accept(t *testing.T, l *net.TCPListener) net.Conn {
	t.Helper()
	if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestAcceptQueuesAreSeenAndMayBeEnded(t *testing.T) {
	ns := namespacetest.New(t, "10.9.0.1/32", "10.9.0.2/32")
	namespacetest.Listen(t, ns, "tcp4", "10.9.0.1:1883")
	conn := open(t, ns)
	listening := func() sockets.Queue {
		all := list(t, conn, sockets.Query{Port: 1883, States: []sockets.State{sockets.Listen}})
		if len(all) != 1 || all[0].State != sockets.Listen {
			t.Fatalf("listening are %+v", all)
		}
		if err := conn.Destroy(t.Context(), all[0]); !errors.Is(err, sockets.ErrNotConnected) {
			t.Fatalf("ending a listening socket: %v", err)
		}
		return all[0].Queue()
	}
	if q := listening(); q.Waiting != 0 || q.Limit == 0 {
		t.Errorf("the queue of nobody is %+v", q)
	}
	client := namespacetest.Dial(t, ns, "10.9.0.2", "10.9.0.1:1883")
	eventually(t, "one to wait", func() bool { return listening().Waiting == 1 })
	waiting := list(t, conn, sockets.Query{Port: 1883})
	if len(waiting) != 1 || waiting[0].Inode != 0 {
		t.Fatalf("waiting are %+v", waiting)
	}
	if err := conn.Destroy(t.Context(), waiting[0]); err != nil {
		t.Fatal(err)
	}
	reset(t, client)
}

func TestAListingStopsWhenItIsToldTo(t *testing.T) {
	ns := namespacetest.New(t, "10.9.0.1/32", "10.9.0.2/32")
	l := namespacetest.Listen(t, ns, "tcp4", "10.9.0.1:1883")
	for range 20 {
		namespacetest.Dial(t, ns, "10.9.0.2", l.Addr().String())
	}
	conn := open(t, ns)
	eventually(t, "all to be connected", func() bool { return len(list(t, conn, sockets.Query{Port: 1883})) == 20 })
	enough := errors.New("enough")
	seen := 0
	err := conn.List(t.Context(), sockets.Query{Port: 1883}, func(sockets.Socket) error {
		if seen++; seen == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || seen != 3 {
		t.Errorf("it ended with %v after %d", err, seen)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := conn.List(ctx, sockets.Query{}, func(sockets.Socket) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("listing for nobody: %v", err)
	}
	if n := len(list(t, conn, sockets.Query{Port: 1883})); n != 20 {
		t.Errorf("afterwards there are %d", n)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := conn.List(t.Context(), sockets.Query{}, func(sockets.Socket) error { return nil }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("listing what is closed: %v", err)
	}
}

func TestANamespaceIsFoundByItsAddresses(t *testing.T) {
	dir := t.TempDir()
	one := namespacetest.New(t, "10.9.0.1/32", "fd00::1/128")
	two := namespacetest.New(t, "10.9.0.2/32")
	namespacetest.Bind(t, one, dir, "cni-one")
	path := namespacetest.Bind(t, two, dir, "cni-two")
	if err := os.WriteFile(filepath.Join(dir, "stale"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	find := func(addresses ...string) (*os.File, error) {
		var all []netip.Addr
		for _, a := range addresses {
			all = append(all, netip.MustParseAddr(a))
		}
		ns, err := sockets.FindNamespace(t.Context(), dir, all)
		if err == nil {
			t.Cleanup(func() { _ = ns.Close() })
		}
		return ns, err
	}
	if ns, err := find("10.9.0.2"); err != nil || ns.Name() != path {
		t.Errorf("the second: %v, %v", ns, err)
	}
	if ns, err := find("10.9.0.1", "fd00::1"); err != nil || ns.Name() != filepath.Join(dir, "cni-one") {
		t.Errorf("the first, by both addresses: %v, %v", ns, err)
	}
	for _, addresses := range [][]string{{"10.9.0.3"}, {"10.9.0.1", "10.9.0.2"}, {}} {
		if _, err := find(addresses...); !errors.Is(err, sockets.ErrNoNamespace) {
			t.Errorf("%v: %v", addresses, err)
		}
	}
	namespacetest.Bind(t, two, dir, "cni-two-again")
	if _, err := find("10.9.0.2"); err != nil {
		t.Errorf("one that is bound twice: %v", err)
	}
	namespacetest.Bind(t, namespacetest.New(t, "10.9.0.2/32"), dir, "cni-three")
	if _, err := find("10.9.0.2"); !errors.Is(err, sockets.ErrAmbiguous) {
		t.Errorf("two of one address: %v", err)
	}
	if _, err := sockets.OpenNamespace(filepath.Join(dir, "stale")); !errors.Is(err, sockets.ErrNoNamespace) {
		t.Errorf("a file that is no namespace: %v", err)
	}
}

// The first thread of a process never ends, and /proc/self is where that is.
func TestTheFirstThreadOfTheProcessStaysWhereItIs(t *testing.T) {
	if errors.Is(errFirstThread, sockets.ErrNotPermitted) {
		t.Skip(errFirstThread)
	}
	if errFirstThread != nil {
		t.Error(errFirstThread)
	}
}

func TestANamespaceThatCannotBeLookedAtMayBeTheOneThatIsMeant(t *testing.T) {
	dir := t.TempDir()
	namespacetest.Bind(t, namespacetest.New(t, "10.9.0.1/32"), dir, "cni-one")
	if err := os.Symlink("cni-loop", filepath.Join(dir, "cni-loop")); err != nil { // to itself: root, too, can't open it
		t.Fatal(err)
	}
	ns, err := sockets.FindNamespace(t.Context(), dir, []netip.Addr{netip.MustParseAddr("10.9.0.1")})
	if err == nil {
		_ = ns.Close()
	}
	if !errors.Is(err, unix.ELOOP) {
		t.Errorf("one is found: %v", err)
	}
}

func TestTheCallersOwnNamespaceIsNeverFound(t *testing.T) {
	dir := t.TempDir()
	own, err := sockets.OpenNamespace("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	namespacetest.Bind(t, own, dir, "own")
	all, err := net.InterfaceAddrs()
	if err != nil || len(all) == 0 {
		t.Skipf("this machine has no address to be found by: %v", err)
	}
	prefix := netip.MustParsePrefix(all[0].String())
	if _, err := sockets.FindNamespace(t.Context(), dir, []netip.Addr{prefix.Addr()}); !errors.Is(err, sockets.ErrNoNamespace) {
		t.Errorf("it is found: %v", err)
	}
}

// connected are so many connections to one port.
func connected(tb testing.TB, ns *os.File, n int) {
	tb.Helper()
	l := namespacetest.Listen(tb, ns, "tcp4", "10.9.0.1:1883")
	for range n {
		namespacetest.Dial(tb, ns, "10.9.0.2", l.Addr().String())
		c, err := l.Accept()
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = c.Close() })
	}
}

func TestManyConnectionsAreLookedAtInTheirOrderAndThoseThatHaveEndedLeftOut(t *testing.T) {
	ns := namespacetest.New(t, "10.9.0.1/32", "10.9.0.2/32")
	const n = 100 // more than are asked for at once
	connected(t, ns, n)
	conn := open(t, ns)
	all := list(t, conn, sockets.Query{Port: 1883})
	if len(all) != n {
		t.Fatalf("%d are listed, want %d", len(all), n)
	}
	if n, err := conn.InUse(); err != nil || n != 2*len(all)+1 { // both ends, and who listens
		t.Errorf("%d sockets are in use: %v", n, err)
	}
	remotes := func(some []sockets.Socket) (all []string) {
		for _, s := range some {
			all = append(all, s.Remote.String())
		}
		return all
	}
	if got := look(t, conn, all...); !slices.Equal(remotes(got), remotes(all)) {
		t.Errorf("seen are %v, want %v", remotes(got), remotes(all))
	}
	var left []sockets.Socket
	for i, s := range all {
		if i%3 > 0 {
			left = append(left, s)
		} else if err := conn.Destroy(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if got := look(t, conn, all...); !slices.Equal(remotes(got), remotes(left)) {
		t.Errorf("seen are %v, want those that have not ended, %v", remotes(got), remotes(left))
	}
	if got := look(t, conn, sockets.Socket{}); len(got) > 0 {
		t.Errorf("a socket that names none is %v", got)
	}
}

func BenchmarkLook(b *testing.B) {
	ns := namespacetest.New(b, "10.9.0.1/32", "10.9.0.2/32")
	connected(b, ns, 8)
	conn, err := sockets.Open(ns)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	var all []sockets.Socket
	if err := conn.List(b.Context(), sockets.Query{Port: 1883}, func(s sockets.Socket) error { all = append(all, s); return nil }); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if err := conn.Look(b.Context(), all, func(sockets.Socket) { n++ }); err != nil || n != len(all) {
			b.Fatalf("%d of %d: %v", n, len(all), err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	ns := namespacetest.New(b, "10.9.0.1/32", "10.9.0.2/32")
	const clients = 1000
	connected(b, ns, clients)
	conn, err := sockets.Open(ns)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	b.ReportAllocs()
	for _, listening := range []bool{false, true} {
		q, want := sockets.Query{Port: 1883}, clients
		if listening {
			q, want = sockets.Query{Port: 1883, States: []sockets.State{sockets.Listen}, Families: []sockets.Family{sockets.FamilyIPv4}}, 1
		}
		b.Run(fmt.Sprintf("listening=%v", listening), func(b *testing.B) {
			for b.Loop() {
				n := 0
				err := conn.List(b.Context(), q, func(sockets.Socket) error { n++; return nil })
				if err != nil || n != want {
					b.Fatalf("%d of %d: %v", n, want, err)
				}
			}
		})
	}
}
