// Command chart writes what charts/ and config/ have from elsewhere: the chart's
// copies of the CRDs and roles, its README's table of values, and config/default,
// which is the chart as Helm renders it. With -check it writes nothing, and fails
// when something is stale.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/rollcall-dev/rollcall/test/chart/helm"
	"github.com/rollcall-dev/rollcall/test/controlplane/assets"
)

func main() {
	check := flag.Bool("check", false, "write nothing; fail when something is stale")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *check)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "chart: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool) error {
	root, err := assets.Root()
	if err != nil {
		return err
	}
	files := tree{root: root, written: map[string][]byte{}}
	for _, step := range []func(context.Context, *tree) error{copies, readme, kustomization} {
		if err := step(ctx, &files); err != nil {
			return err
		}
		if !check { // a later step may read what an earlier one has written
			if err := files.write(); err != nil {
				return err
			}
		}
	}
	if !check {
		return nil
	}
	return files.check()
}

// tree is what is generated, by path from the repository's root.
type tree struct {
	root    string
	written map[string][]byte
}

func (t *tree) read(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(t.root, filepath.FromSlash(name)))
}

func (t *tree) put(name string, content []byte) { t.written[name] = content }

func (t *tree) write() error {
	for name, content := range t.written {
		path := filepath.Join(t.root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) check() error {
	stale := 0
	for _, name := range slices.Sorted(maps.Keys(t.written)) {
		if is, err := t.read(name); err != nil || !bytes.Equal(is, t.written[name]) {
			fmt.Fprintf(os.Stderr, "chart: %s is stale\n", name)
			stale++
		}
	}
	if stale > 0 {
		return fmt.Errorf("%d files are stale: run 'go run ./hack/chart' and commit the result", stale)
	}
	return nil
}

// copies are what a chart must hold itself: Helm reads no file outside of it.
func copies(_ context.Context, t *tree) error {
	crds, err := filepath.Glob(filepath.Join(t.root, "config", "crd", "bases", "*.yaml"))
	if err != nil {
		return err
	}
	from := map[string]string{"charts/rollcall/files/roles.yaml": "config/rbac/roles.yaml"}
	for _, path := range crds {
		from["charts/rollcall/files/crds/"+filepath.Base(path)] = "config/crd/bases/" + filepath.Base(path)
	}
	for to, name := range from {
		content, err := t.read(name)
		if err != nil {
			return err
		}
		t.put(to, content)
	}
	return nil
}

// kustomization renders the chart. Hooks are Helm's: of them the Job that makes the
// certificates is kept, as an ordinary one, on which pods wait for their Secrets.
func kustomization(ctx context.Context, t *tree) error {
	h, err := helm.Find(ctx)
	if err != nil {
		return err
	}
	out, err := h.Template(ctx)
	if err != nil {
		return err
	}
	rendered, err := withoutHooks(out)
	if err != nil {
		return err
	}
	t.put("config/default/rollcall.yaml", rendered)
	return nil
}
