//go:build linux

package client_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/rollcall-dev/rollcall/client/clienttest"
)

// inside tells the test that it has a network of its own.
const inside = "ROLLCALL_TEST_NETWORK"

// Every packet to the server is dropped, as when its machine is gone: nothing is
// refused, and nothing is acknowledged. It runs in a network of its own, which
// an ordinary user may make on most systems.
func TestAServerWhosePacketsAreDropped(t *testing.T) {
	if testing.Short() {
		t.Skip("runs an etcd")
	}
	if os.Getenv(inside) == "" {
		again(t)
		return
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	must(err)
	must(netlink.LinkSetUp(lo))
	s := clienttest.Start(t, clienttest.Config{Servers: 3, Hosts: []string{"127.0.1.1", "127.0.1.2", "127.0.1.3"}})
	p := gather(t, s)

	begun := time.Now()
	// The rule for local addresses comes first: it goes behind one that drops.
	local := netlink.NewRule()
	local.Priority, local.Table, local.Family = 100, unix.RT_TABLE_LOCAL, unix.AF_INET
	must(netlink.RuleAdd(local))
	first := netlink.NewRule()
	first.Priority, first.Table, first.Family = 0, unix.RT_TABLE_LOCAL, unix.AF_INET
	must(netlink.RuleDel(first))
	hole := netlink.NewRule()
	hole.Priority, hole.Family, hole.Type = 10, unix.AF_INET, unix.FR_ACT_BLACKHOLE
	hole.Dst = &net.IPNet{IP: net.IPv4(127, 0, 1, 1), Mask: net.CIDRMask(32, 32)}
	must(netlink.RuleAdd(hole))
	p.left(begun, "broken") // it is not the server that is late
}

// again runs this test in a network of its own.
func again(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if _, ran := errors.AsType[*exec.ExitError](err); err != nil && !ran {
		t.Skipf("no network of one's own here: %v", err)
	}
	t.Log(strings.TrimSpace(string(out)))
	if err != nil || !strings.Contains(string(out), "PASS: "+t.Name()) {
		t.Errorf("inside: %v", err)
	}
}
