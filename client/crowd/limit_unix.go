//go:build unix

package crowd

import "golang.org/x/sys/unix"

// openFiles is how many files this process may have open. (Go has raised the
// soft limit to the hard one at its start.)
func openFiles() (limit uint64, known bool) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, false
	}
	return uint64(r.Cur), true //nolint:unconvert // signed on FreeBSD
}
