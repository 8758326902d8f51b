package sockets

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// OpenNamespace opens a network namespace: /proc/PID/ns/net, or where a
// container runtime has bound one, below /run/netns. While the file is open the
// namespace lives.
func OpenNamespace(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the network namespace: %w", err)
	}
	var fs unix.Statfs_t
	err = unix.Fstatfs(int(f.Fd()), &fs)
	switch {
	case err != nil:
		err = fmt.Errorf("look at the network namespace %s: %w", path, err)
	case fs.Type != unix.NSFS_MAGIC:
		err = fmt.Errorf("%s is not a network namespace (%w)", path, ErrNoNamespace)
	default:
		return f, nil
	}
	_ = f.Close() // it was only looked at
	return nil, err
}

// FindNamespace opens the one network namespace in a directory, such as the
// node's /run/netns, that has all of the addresses. It is never the caller's own. Where
// one can't be looked at, none is found: it may have the addresses, too.
func FindNamespace(ctx context.Context, dir string, addresses []netip.Addr) (*os.File, error) {
	if len(addresses) == 0 {
		return nil, fmt.Errorf("%w: none are given", ErrNoNamespace)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for network namespaces: %w", err)
	}
	own, err := os.Stat("/proc/thread-self/ns/net") // of the process it may be another's: see Do
	if err != nil {
		return nil, fmt.Errorf("look for network namespaces: %w", err)
	}
	var found *os.File
	var unknown error // of one that can't be looked at
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			closeAll(found)
			return nil, err
		}
		ns, err := OpenNamespace(filepath.Join(dir, entry.Name()))
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, ErrNoNamespace):
			continue // one that is being made, or what is left of one
		case err != nil:
			unknown = err
			continue
		}
		has, err := holds(ns, own, addresses)
		if err != nil {
			unknown = fmt.Errorf("look into the network namespace %s: %w", ns.Name(), err)
		}
		switch {
		case !has:
			closeAll(ns)
		case found == nil:
			found = ns
		case same(found, ns):
			closeAll(ns) // bound twice
		default:
			err := fmt.Errorf("%w, %v: %s and %s", ErrAmbiguous, addresses, found.Name(), ns.Name())
			closeAll(found, ns)
			return nil, err
		}
	}
	switch {
	case unknown != nil:
		closeAll(found)
		return nil, unknown
	case found != nil:
		return found, nil
	}
	return nil, fmt.Errorf("%w %v among the %d of %s", ErrNoNamespace, addresses, len(entries), dir)
}

// holds tells whether a namespace has all of the addresses, and is not our own.
func holds(ns *os.File, own os.FileInfo, addresses []netip.Addr) (bool, error) {
	if info, err := ns.Stat(); err != nil || os.SameFile(info, own) {
		return false, err
	}
	var there []netip.Addr
	err := Do(ns, func() error {
		all, err := net.InterfaceAddrs()
		for _, a := range all {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				there = append(there, prefix.Addr().Unmap().WithZone(""))
			}
		}
		return err
	})
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(addresses, func(a netip.Addr) bool { return !slices.Contains(there, a.Unmap()) }), nil
}

func same(a, b *os.File) bool {
	x, err := a.Stat()
	y, err2 := b.Stat()
	return err == nil && err2 == nil && os.SameFile(x, y)
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close() // it was only read
		}
	}
}
