// Command assets puts etcd, kube-apiserver and kubectl at hand for the demo and
// the tests, and prints the directory that holds them on stdout. What it chose,
// and the progress of what takes long, go to stderr.
//
// The order: KUBEBUILDER_ASSETS; what an earlier run left under bin/k8s; a
// download by setup-envtest; a build of hack/kube and etcd from Go modules.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rollcall-dev/rollcall/test/controlplane/assets"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintf(os.Stderr, "assets: takes no arguments, got %q\n", os.Args[1])
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := run(ctx)
	if err != nil {
		fmt.Fprintf(os.Stderr, "assets: %v\n", err)
		stop()
		os.Exit(1)
	}
	fmt.Println(dir)
}

func run(ctx context.Context) (string, error) {
	root, err := assets.Root()
	if err != nil {
		return "", err
	}
	unlock, err := lock(root)
	if err != nil {
		return "", err
	}
	defer unlock()

	dir, err := assets.Find(root)
	switch {
	case err == nil && os.Getenv(assets.Env) != "":
		say("using %s, from %s", dir, assets.Env)
		return dir, nil
	case err == nil:
		say("using %s", dir)
		return dir, nil
	case !errors.Is(err, assets.ErrNone):
		return "", err
	}

	// A half-finished download is worth nothing, but a finished kube-apiserver
	// that only lacks etcd is.
	if dir := withAPIServer(root); dir != "" {
		return dir, buildEtcd(ctx, root, dir)
	}
	dir, err = download(ctx, root)
	if err == nil {
		say("downloaded into %s", dir)
		return dir, nil
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	say("no download (%v): building from Go modules instead, once, minutes", err)
	if err := enoughSpace(ctx); err != nil {
		return "", err
	}
	dir = assets.BuiltDir(root)
	if err := buildKube(ctx, root, dir); err != nil {
		return "", err
	}
	return dir, buildEtcd(ctx, root, dir)
}

// withAPIServer returns an installed directory that lacks nothing but etcd.
func withAPIServer(root string) string {
	dirs, err := assets.Installed(root)
	if err != nil {
		return ""
	}
	for _, dir := range dirs {
		if strings.Join(assets.Missing(dir), " ") == "etcd" {
			return dir
		}
	}
	return ""
}

// lock makes a second run wait for the first, so that both do not build the
// same. The kernel releases it if the process dies.
func lock(root string) (unlock func(), err error) {
	dir := filepath.Join(root, "bin", "k8s")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the assets' directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the assets' lock: %w", err)
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		say("waiting for another run to finish")
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			f.Close()
			return nil, fmt.Errorf("taking the assets' lock: %w", err)
		}
	}
	return func() { f.Close() }, nil
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "assets: "+format+"\n", args...)
}
