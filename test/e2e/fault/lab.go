package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Env names the program that faults are asked of. Empty: ../shared/lab/lab beside
// the repository, where there is one. "none": there are no faults.
const Env = "ROLLCALL_LAB"

// ErrNone says that there is nothing to break the cluster with.
var ErrNone = errors.New("no faults can be had")

// within bounds one command of the lab.
const within = 2 * time.Minute

// A Lab is a program that starts clusters and breaks their nodes. It is called
// with the words on, kill, start, cut, heal, split, join, lose and env.
type Lab struct {
	program string
	// state is the directory in which it keeps what it has started.
	state string
}

// Find looks for the lab whose cluster a kubeconfig leads to. root is the
// repository's directory. The error is an ErrNone that says why.
func Find(ctx context.Context, root, kubeconfig string) (*Lab, error) {
	program := os.Getenv(Env)
	switch program {
	case "none":
		return nil, fmt.Errorf("%w: %s is none", ErrNone, Env)
	case "":
		program = filepath.Join(root, "..", "shared", "lab", "lab")
	}
	l := &Lab{program: program}
	out, err := l.run(ctx, "env")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	for _, word := range strings.Fields(out) {
		if config, ok := strings.CutPrefix(word, "KUBECONFIG="); ok {
			if !same(config, kubeconfig) {
				return nil, fmt.Errorf("%w: the lab's cluster is that of %s, and KUBECONFIG is %s", ErrNone, config, kubeconfig)
			}
			l.state = filepath.Dir(config)
			return l, nil
		}
	}
	return nil, fmt.Errorf("%w: %s env tells no KUBECONFIG", ErrNone, program)
}

func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func (l *Lab) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.program, args...)
	// What it leaves running in the background keeps its output: wait for the
	// program, not for the end of what it prints.
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return out.String(), fmt.Errorf("lab %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

func (l *Lab) do(ctx context.Context, args ...string) error {
	_, err := l.run(ctx, args...)
	return err
}

// On implements Faults.
func (l *Lab) On(ctx context.Context, node string, command ...string) (string, error) {
	return l.run(ctx, append([]string{"on", node}, command...)...)
}

// PowerOff implements Faults.
func (l *Lab) PowerOff(ctx context.Context, node string) error { return l.do(ctx, "kill", node) }

// PowerOn implements Faults.
func (l *Lab) PowerOn(ctx context.Context, node string) error { return l.do(ctx, "start", node) }

// Unplug implements Faults.
func (l *Lab) Unplug(ctx context.Context, node string) error { return l.do(ctx, "cut", node) }

// Plug implements Faults.
func (l *Lab) Plug(ctx context.Context, node string) error { return l.do(ctx, "heal", node) }

// Split implements Faults.
func (l *Lab) Split(ctx context.Context, node string) error { return l.do(ctx, "split", node) }

// Join implements Faults.
func (l *Lab) Join(ctx context.Context) error { return l.do(ctx, "join") }

// Lose implements Faults.
func (l *Lab) Lose(ctx context.Context, node string, percent int) error {
	return l.do(ctx, "lose", node, strconv.Itoa(percent))
}

// StopAPI implements Faults.
func (l *Lab) StopAPI(context.Context) error { return l.apiServer(stop) }

// ResumeAPI implements Faults.
func (l *Lab) ResumeAPI(context.Context) error { return l.apiServer(resume) }

// apiServer signals the API server, whose process number the lab keeps.
func (l *Lab) apiServer(signal func(*os.Process) error) error {
	text, err := os.ReadFile(filepath.Join(l.state, "run", "apiserver.pid"))
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	if err := signal(p); err != nil {
		return fmt.Errorf("signalling the API server: %w", err)
	}
	return nil
}
