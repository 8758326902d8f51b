package probe

import (
	"net"
	"syscall"
	"testing"
)

// listen on the loopback, with a queue for so many connections that nobody has
// accepted yet, and one more.
func listen(t *testing.T, backlog int) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), backlog) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return l
}
