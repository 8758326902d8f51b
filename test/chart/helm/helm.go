// Package helm runs the program of that name, for what renders Rollcall's chart
// and tests it. It knows nothing of clusters.
package helm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rollcall-dev/rollcall/hack/gobuild"
	"github.com/rollcall-dev/rollcall/test/controlplane/assets"
)

// Env names a helm that is used instead of any other.
const Env = "HELM"

// Helm is a program, and the chart that it is to work on.
type Helm struct{ path, chart string }

// Find takes the helm that HELM names, else the pinned one under bin/tools, else
// the one on the PATH, else it builds the pinned one, which takes minutes.
func Find(ctx context.Context) (*Helm, error) {
	root, err := assets.Root()
	if err != nil {
		return nil, err
	}
	h := &Helm{chart: filepath.Join(root, "charts", "rollcall")}
	pinned := filepath.Join(root, "bin", "tools", "helm")
	for _, candidate := range []string{os.Getenv(Env), pinned, "helm"} {
		if candidate == "" {
			continue
		}
		if h.path, err = exec.LookPath(candidate); err == nil {
			return h, nil
		}
		if candidate == os.Getenv(Env) {
			return nil, fmt.Errorf("%s names %s: %w", Env, candidate, err)
		}
	}
	h.path = pinned
	return h, gobuild.Run(ctx, gobuild.Build{
		What: "Helm", Dir: filepath.Join(root, "hack", "helm"), Out: pinned, LDFlags: "-s -w",
		Packages: []string{"helm.sh/helm/v4/cmd/helm"},
	})
}

// Chart is the directory of Rollcall's chart.
func (h *Helm) Chart() string { return h.chart }

// Template renders the chart as release "rollcall" in namespace "rollcall-system".
// An error is what helm says on stderr.
func (h *Helm) Template(ctx context.Context, args ...string) (string, error) {
	return h.Run(ctx, append([]string{"template", "rollcall", h.chart, "--namespace", "rollcall-system"}, args...)...)
}

// Run runs helm and returns what it prints.
func (h *Helm) Run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, h.path, args...)
	// No plugin, repository or cluster of the person who runs it.
	cmd.Env = append(os.Environ(), "KUBECONFIG=/dev/null", "HELM_PLUGINS=/dev/null")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		return string(out), nil
	}
	if text := strings.TrimSpace(stderr.String()); text != "" {
		return "", errors.New(text)
	}
	return "", fmt.Errorf("helm %s: %w", args[0], err)
}
