package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/test/controlplane/assets"
)

// build is one `go build` of a main package.
type build struct {
	what    string // for people
	dir     string // of the module that pins it
	pkg     string
	out     string
	ldflags string
}

// buildKube builds kube-apiserver and kubectl, which are one binary that acts by
// the name it is called by.
func buildKube(ctx context.Context, root, dir string) error {
	const version = "k8s.io/component-base/version"
	major, rest, _ := strings.Cut(assets.KubeVersion, ".")
	minor, _, _ := strings.Cut(rest, ".")
	kube := filepath.Join(dir, "kube")
	if err := goBuild(ctx, build{
		what: "kube-apiserver and kubectl " + assets.KubeVersion,
		dir:  filepath.Join(root, "hack", "kube"), pkg: ".", out: kube,
		ldflags: fmt.Sprintf("-s -w -X %[1]s.gitVersion=v%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s",
			version, assets.KubeVersion, major, minor),
	}); err != nil {
		return err
	}
	for _, name := range []string{"kube-apiserver", "kubectl"} {
		link := filepath.Join(dir, name)
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("replacing %s: %w", name, err)
		}
		if err := os.Symlink("kube", link); err != nil {
			return fmt.Errorf("naming %s: %w", name, err)
		}
	}
	return nil
}

// buildEtcd builds the etcd that the root go.mod pins.
func buildEtcd(ctx context.Context, root, dir string) error {
	return goBuild(ctx, build{
		what: "etcd", dir: root, pkg: "go.etcd.io/etcd/server/v3",
		out: filepath.Join(dir, "etcd"), ldflags: "-s -w",
	})
}

// goBuild builds b beside its place and then renames it, so that nobody ever
// finds half a program. It shows its progress on stderr.
func goBuild(ctx context.Context, b build) error {
	if err := os.MkdirAll(filepath.Dir(b.out), 0o755); err != nil {
		return fmt.Errorf("building %s: %w", b.what, err)
	}
	unfinished := b.out + ".new"
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-ldflags", b.ldflags, "-o", unfinished, b.pkg)
	cmd.Dir = b.dir
	// Without cgo nothing but Go is needed, and the result runs on any Linux. The
	// module's own go.mod decides, not a workspace or GOFLAGS=-mod around it.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("building %s: %w", b.what, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("building %s: %w", b.what, err)
	}
	p := startProgress(b.what)
	var complaint []string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "go: downloading "):
			p.add("", 1)
		case strings.ContainsAny(line, " :"):
			complaint = append(complaint, line)
		default: // -v prints the path of each package as it is compiled
			p.add(line, 0)
		}
	}
	err = cmd.Wait()
	p.stop()
	if ctx.Err() != nil {
		return fmt.Errorf("building %s: %w", b.what, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("building %s: %w\n%s", b.what, err, strings.Join(complaint, "\n"))
	}
	if err := os.Rename(unfinished, b.out); err != nil {
		return fmt.Errorf("building %s: %w", b.what, err)
	}
	return nil
}

// progress prints how far a build is: on a terminal every second in one line,
// elsewhere a line every 15 s.
type progress struct {
	what     string
	start    time.Time
	terminal bool
	done     chan struct{}
	finished sync.WaitGroup

	mu         sync.Mutex // guards the rest
	packages   int
	downloaded int
	last       string
}

func startProgress(what string) *progress {
	info, err := os.Stderr.Stat()
	p := &progress{
		what: what, start: time.Now(), done: make(chan struct{}),
		terminal: err == nil && info.Mode()&os.ModeCharDevice != 0,
	}
	period := 15 * time.Second
	if p.terminal {
		period = time.Second
	}
	p.finished.Go(func() {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-p.done:
				return
			case <-tick.C:
				p.print("building", false)
			}
		}
	})
	return p
}

func (p *progress) add(pkg string, downloaded int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.downloaded += downloaded
	if pkg != "" {
		p.packages++
		p.last = pkg
	}
}

func (p *progress) stop() {
	close(p.done)
	p.finished.Wait()
	p.print("built", true)
}

func (p *progress) print(state string, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := fmt.Sprintf("assets: %s %s: %d s, %d packages compiled", state, p.what, int(time.Since(p.start).Seconds()), p.packages)
	if p.packages == 0 && p.downloaded > 0 {
		line += fmt.Sprintf(", %d modules downloaded", p.downloaded)
	}
	switch {
	case !p.terminal:
		fmt.Fprintln(os.Stderr, line)
	case last:
		fmt.Fprintf(os.Stderr, "\r\033[K%s\n", line)
	default:
		fmt.Fprintf(os.Stderr, "\r\033[K%s (%s)", line, p.last)
	}
}
