package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/rollcall-dev/rollcall/test/process"
)

// errPortTaken makes a start try another port, where it was free to choose one.
var errPortTaken = errors.New("the port is in use")

// Daemon is etcd or kube-apiserver as a child process that can be paused, killed
// and started again with the same port and data.
type Daemon struct {
	name     string
	path     string
	args     []string
	port     int
	log      string // file
	timeout  time.Duration
	ready    func(context.Context) error
	children *process.Spawner
	child    *process.Process // the last one started
}

// PID is the process id of the last one started.
func (d *Daemon) PID() int { return d.child.PID() }

// Log is the file that all output goes to, of every life of the daemon.
func (d *Daemon) Log() string { return d.log }

// Pause stops the process where it is (SIGSTOP): connections are accepted by the
// kernel, and nothing answers.
func (d *Daemon) Pause() error { return d.child.Pause() }

// Resume lets a paused process go on.
func (d *Daemon) Resume() error { return d.child.Resume() }

// Kill ends the process with SIGKILL and waits until it is gone: connections are
// refused from here on.
func (d *Daemon) Kill() { d.child.Kill() }

// Restart kills the process where it still runs, starts it again with the same
// port and data, and waits until it is ready.
func (d *Daemon) Restart(ctx context.Context) error {
	d.child.Kill()
	return d.start(ctx)
}

func (d *Daemon) start(ctx context.Context) error {
	// Whoever else listens there might answer that it is ready.
	if err := bindable(d.port); err != nil {
		return fmt.Errorf("starting %s on %s: %w (%w)", d.name, address(d.port), errPortTaken, err)
	}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", d.name, err)
	}
	defer log.Close()
	cmd := exec.Command(d.path, d.args...)
	cmd.Dir = filepath.Dir(d.log)
	cmd.Stdout, cmd.Stderr = log, log
	child, err := d.children.Start(cmd)
	if err != nil {
		return fmt.Errorf("starting %s: %w", d.name, err)
	}
	d.child = child

	lastErr := errors.New("it was never asked")
	err = wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, d.timeout, true, func(ctx context.Context) (bool, error) {
		if !child.Running() {
			return false, d.died()
		}
		if err := d.ready(ctx); err != nil {
			if ctx.Err() == nil {
				lastErr = err
			}
			return false, nil
		}
		return true, nil
	})
	if err == nil {
		return nil
	}
	child.Kill()
	if wait.Interrupted(err) {
		return fmt.Errorf("%s was not ready: %w (%w); its log ends with:\n%s", d.name, lastErr, err, d.tail())
	}
	return err
}

// died explains an end that nobody asked for.
func (d *Daemon) died() error {
	tail := d.tail()
	if strings.Contains(tail, "address already in use") {
		return fmt.Errorf("starting %s on %s: %w; its log ends with:\n%s", d.name, address(d.port), errPortTaken, tail)
	}
	return fmt.Errorf("%s ended by itself (%w); its log ends with:\n%s", d.name, d.child.Err(), tail)
}

// tail is the end of the log, which may be gone when the error is read.
func (d *Daemon) tail() string {
	data, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
