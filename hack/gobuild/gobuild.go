// Package gobuild runs `go build` for the commands under hack/, and shows how far
// it is: from an empty cache some of what Rollcall needs takes minutes.
package gobuild

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Build is one `go build`.
type Build struct {
	// What is said to be built.
	What string
	// Dir is a directory of the module that pins the packages.
	Dir string
	// Packages are main packages of that module or of its requirements.
	Packages []string
	// Out is the program's file, or the directory (with a slash at its end) for all
	// that the packages give.
	Out string
	// LDFlags are for the linker. Empty: none.
	LDFlags string
}

// Run builds b without cgo, so that nothing but Go is needed and the result runs
// on any Linux. A file is built beside its place and then renamed, so that nobody
// ever finds half a program.
func Run(ctx context.Context, b Build) error {
	if err := os.MkdirAll(filepath.Dir(b.Out), 0o755); err != nil {
		return fmt.Errorf("building %s: %w", b.What, err)
	}
	unfinished := b.Out
	if !strings.HasSuffix(b.Out, "/") {
		unfinished += ".new"
	}
	args := append([]string{"build", "-v", "-ldflags", b.LDFlags, "-o", unfinished}, b.Packages...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.Dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("building %s: %w", b.What, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("building %s: %w", b.What, err)
	}
	p := startProgress(b.What)
	var complaint []string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "go: downloading "):
			p.downloading()
		case strings.ContainsAny(line, " :"):
			complaint = append(complaint, line)
		default: // -v prints the path of each package as it is compiled
			p.compiling(line)
		}
	}
	err = cmd.Wait()
	p.stop(err == nil)
	if ctx.Err() != nil {
		return fmt.Errorf("building %s: %w", b.What, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("building %s: %w\n%s", b.What, err, strings.Join(complaint, "\n"))
	}
	if unfinished == b.Out {
		return nil
	}
	if err := os.Rename(unfinished, b.Out); err != nil {
		return fmt.Errorf("building %s: %w", b.What, err)
	}
	return nil
}
