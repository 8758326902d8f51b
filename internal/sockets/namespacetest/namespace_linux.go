// Package namespacetest makes network namespaces for tests, with addresses and
// nothing else in them. It is for tests alone.
package namespacetest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/rollcall-dev/rollcall/internal/sockets"
)

// inside is set in a process that Main has put into a user namespace.
const inside = "ROLLCALL_TEST_USER_NAMESPACE"

// Main runs a package's tests. Who is not root runs them in a user namespace,
// where it is: that may be forbidden too, and then New skips and says why.
func Main(m *testing.M) {
	if os.Geteuid() == 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "no user namespace can be made here:", err)
		os.Exit(m.Run())
	}
	var exit *exec.ExitError
	switch err := cmd.Wait(); {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// New makes a network namespace that ends with the test, with these addresses
// ("10.0.0.1/32") besides those of the loopback interface. Where this process may
// not, the test is skipped.
func New(t testing.TB, addresses ...string) *os.File {
	t.Helper()
	var ns *os.File
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		if ns, err = sockets.OpenNamespace("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		for _, a := range addresses {
			address, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			address.Flags |= unix.IFA_F_NODAD // to be used at once
			if err := netlink.AddrAdd(lo, address); err != nil {
				return fmt.Errorf("add %s: %w", a, err)
			}
		}
		return routed(addresses)
	})
	if errors.Is(err, unix.EPERM) {
		t.Skipf("this process may not make a network namespace: %v", err)
	}
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// routed waits until every address can be reached from every other of its
// kind: of IPv6 the kernel sees to that a moment after it has the address.
func routed(addresses []string) error {
	deadline := time.Now().Add(30 * time.Second)
	for _, a := range addresses {
		for _, b := range addresses {
			from, to := netip.MustParsePrefix(a).Addr(), netip.MustParsePrefix(b).Addr()
			if from.Is4() != to.Is4() {
				continue
			}
			for {
				// Nobody listens there: to be refused is to have been there and back.
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: 200 * time.Millisecond}
				c, err := d.Dial("tcp", netip.AddrPortFrom(to, 9).String())
				if err == nil {
					_ = c.Close()
				}
				if err == nil || errors.Is(err, unix.ECONNREFUSED) {
					break
				}
				if time.Now().After(deadline) {
					return fmt.Errorf("no way from %v to %v: %w", from, to, err)
				}
				time.Sleep(time.Millisecond)
			}
		}
	}
	return nil
}

// onThread runs f on a thread that is thrown away, whatever f does to it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			done <- f()
			return
		}
		done <- onThread(f) // the first thread of a process is never thrown away
		runtime.UnlockOSThread()
	}()
	return <-done
}

// Bind makes a namespace a file of a directory, as container runtimes do, until
// the test ends. Where this process may not, the test is skipped.
func Bind(t testing.TB, ns *os.File, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), path, "", unix.MS_BIND, "")
	if errors.Is(err, unix.EPERM) {
		t.Skipf("this process may not bind a namespace to a file: %v", err)
	}
	if err != nil {
		t.Fatalf("bind the namespace to %s: %v", path, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Errorf("unbind the namespace: %v", err)
		}
	})
	return path
}

// Listen listens in a namespace, until the test ends.
func Listen(t testing.TB, ns *os.File, network, address string) *net.TCPListener {
	t.Helper()
	var l net.Listener
	err := sockets.Do(ns, func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

// Dial connects in a namespace, from an address of it, until the test ends.
func Dial(t testing.TB, ns *os.File, from, to string) *net.TCPConn {
	t.Helper()
	c, err := TryDial(t, ns, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TryDial is Dial for goroutines that are not the test's own.
func TryDial(t testing.TB, ns *os.File, from, to string) (*net.TCPConn, error) {
	t.Helper()
	var c net.Conn
	err := sockets.Do(ns, func() (err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err = d.Dial("tcp", to)
		return err
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn), nil
}
