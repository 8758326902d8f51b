// Command build is `go build` with its progress shown, for the Makefile:
//
//	go run ./hack/build -what Rollcall -o bin/ ./cmd/...
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rollcall-dev/rollcall/hack/gobuild"
)

func main() {
	what := flag.String("what", "", "what is said to be built")
	dir := flag.String("C", ".", "a directory of the module that pins the packages")
	out := flag.String("o", "", "the program's file, or a directory with a slash at its end")
	ldflags := flag.String("ldflags", "", "flags for the linker")
	flag.Parse()
	if *what == "" || *out == "" || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "build: -what, -o and a package are needed")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, gobuild.Build{What: *what, Dir: *dir, Out: *out, LDFlags: *ldflags, Packages: flag.Args()})
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n", err)
		os.Exit(1)
	}
}

// run builds b, whose Out is relative to the working directory and not to b.Dir.
func run(ctx context.Context, b gobuild.Build) error {
	out, err := filepath.Abs(b.Out)
	if err != nil {
		return fmt.Errorf("finding %s: %w", b.Out, err)
	}
	if strings.HasSuffix(b.Out, "/") {
		out += "/"
	}
	b.Out = out
	return gobuild.Run(ctx, b)
}
