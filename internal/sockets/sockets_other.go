//go:build !linux

package sockets

import (
	"context"
	"net/netip"
	"os"
)

// Conn asks the kernel about one network namespace: on Linux.
type Conn struct{}

// Open returns ErrUnsupported.
func Open(*os.File) (*Conn, error) { return nil, ErrUnsupported }

// Close returns ErrUnsupported.
func (*Conn) Close() error { return ErrUnsupported }

// InUse returns ErrUnsupported.
func (*Conn) InUse() (int, error) { return 0, ErrUnsupported }

// List returns ErrUnsupported.
func (*Conn) List(context.Context, Query, func(Socket) error) error { return ErrUnsupported }

// Look returns ErrUnsupported.
func (*Conn) Look(context.Context, []Socket, func(Socket)) error { return ErrUnsupported }

// Destroy returns ErrUnsupported.
func (*Conn) Destroy(context.Context, Socket) error { return ErrUnsupported }

// Do returns ErrUnsupported.
func Do(*os.File, func() error) error { return ErrUnsupported }

// OpenNamespace returns ErrUnsupported.
func OpenNamespace(string) (*os.File, error) { return nil, ErrUnsupported }

// FindNamespace returns ErrUnsupported.
func FindNamespace(context.Context, string, []netip.Addr) (*os.File, error) {
	return nil, ErrUnsupported
}
