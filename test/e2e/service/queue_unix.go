//go:build unix

package service

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Shorten has the kernel let at most so many connections wait to be accepted: as
// many as Go asks for would not be filled by a few hundred clients.
func Shorten(l *net.TCPListener, queue int) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return fmt.Errorf("the queue of %s: %w", l.Addr(), err)
	}
	var listened error
	if err := raw.Control(func(fd uintptr) { listened = unix.Listen(int(fd), queue) }); err != nil {
		return fmt.Errorf("the queue of %s: %w", l.Addr(), err)
	}
	if listened != nil {
		return fmt.Errorf("the queue of %s: listen: %w", l.Addr(), listened)
	}
	return nil
}
