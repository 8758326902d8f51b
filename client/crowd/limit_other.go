//go:build !unix

package crowd

// openFiles: this system has no such limit that could be asked for.
func openFiles() (limit uint64, known bool) { return 0, false }
