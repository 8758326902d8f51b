package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/hack/gobuild"
	"github.com/rollcall-dev/rollcall/test/controlplane/assets"
)

const (
	// reachLimit is how long finding out that there is nothing to download from
	// may take.
	reachLimit = 20 * time.Second
	// downloadLimit ends a download that is slower than a build.
	downloadLimit = 4 * time.Minute
	// archives is where setup-envtest's index points to.
	archives = "https://github.com/kubernetes-sigs/controller-tools/releases"
)

// download has setup-envtest fetch a release of the minor version that hack/kube
// would build, and returns its directory.
func download(ctx context.Context, root string) (string, error) {
	minor := assets.KubeVersion[:strings.LastIndex(assets.KubeVersion, ".")] + ".x"
	binDir := filepath.Join(root, "bin")
	tool := filepath.Join(binDir, "tools", "setup-envtest")

	say("asking whether Kubernetes %s can be downloaded (%s at most)", minor, reachLimit)
	reach, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	if err := reachable(reach); err != nil {
		return "", err
	}
	if err := gobuild.Run(ctx, gobuild.Build{
		What: "setup-envtest", Dir: filepath.Join(root, "hack", "tools"),
		Packages: []string{"sigs.k8s.io/controller-runtime/tools/setup-envtest"}, Out: tool,
	}); err != nil {
		return "", err
	}
	index, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	if _, err := output(index, tool, "list", "--bin-dir", binDir, minor); err != nil {
		return "", err
	}

	say("downloading Kubernetes %s", minor)
	limited, cancel := context.WithTimeout(ctx, downloadLimit)
	defer cancel()
	dir, err := output(limited, tool, "use", "--bin-dir", binDir, "-p", "path", minor)
	if err != nil {
		return "", err
	}
	if missing := assets.Missing(dir); len(missing) > 0 {
		return "", fmt.Errorf("the release in %s has no %s", dir, strings.Join(missing, " and no "))
	}
	return dir, nil
}

// reachable asks the archives' host for anything at all, before time is spent on
// building setup-envtest.
func reachable(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, archives, nil)
	if err != nil {
		return fmt.Errorf("asking for the archives: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", reachLimit)
	}
	if err != nil {
		return fmt.Errorf("asking for the archives: %w", err)
	}
	resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("asking for the archives: %s", resp.Status)
	}
	return nil
}

// output runs a command and returns what it printed, or the last line of its
// complaint.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return "", fmt.Errorf("%s %s: %w", filepath.Base(name), args[0], ctx.Err())
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("%s %s: %s", filepath.Base(name), args[0], lastLine(exit.Stderr))
	}
	if err != nil {
		return "", fmt.Errorf("running %s: %w", filepath.Base(name), err)
	}
	return strings.TrimSpace(string(out)), nil
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
