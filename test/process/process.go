// Package process runs child processes that never outlive their parent, however
// it ends: the demo and the tests start real servers, stop some of them with
// SIGSTOP, and must leave nothing behind even when they are killed. On systems
// other than Linux only an orderly end is covered.
package process

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// ErrClosed is returned by Start after Close.
var ErrClosed = errors.New("the spawner is closed")

// Spawner starts children, and ends those that are left.
//
// Linux sends a child its death signal when the thread that made it ends, not
// the process, so all children are made by one thread that lives until Close.
type Spawner struct {
	requests chan request
	ended    chan struct{} // closed when the thread has ended

	mu       sync.Mutex
	closed   bool
	children map[*Process]struct{} // those not yet waited for
}

type request struct {
	cmd   *exec.Cmd
	reply chan error
}

// NewSpawner starts the spawning thread; Close ends it.
func NewSpawner() *Spawner {
	s := &Spawner{
		requests: make(chan request),
		ended:    make(chan struct{}),
		children: map[*Process]struct{}{},
	}
	go func() {
		defer close(s.ended)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for r := range s.requests {
			r.reply <- r.cmd.Start()
		}
	}()
	return s
}

// Start starts cmd in a process group of its own, so that Ctrl-C in a terminal
// reaches the parent alone and the parent decides. It replaces cmd.SysProcAttr.
func (s *Spawner) Start(cmd *exec.Cmd) (*Process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	cmd.SysProcAttr = attributes()
	r := request{cmd: cmd, reply: make(chan error)}
	s.requests <- r
	if err := <-r.reply; err != nil {
		return nil, fmt.Errorf("starting a child: %w", err)
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	s.children[p] = struct{}{}
	go func() {
		p.err = cmd.Wait()
		s.mu.Lock()
		delete(s.children, p)
		s.mu.Unlock()
		close(p.done)
	}()
	return p, nil
}

// Close kills the children that still run, waits for them, and ends the thread.
// It may be called more than once.
func (s *Spawner) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.ended
		return
	}
	s.closed = true
	left := make([]*Process, 0, len(s.children))
	for p := range s.children {
		left = append(left, p)
	}
	s.mu.Unlock()
	for _, p := range left {
		p.Kill()
	}
	close(s.requests)
	<-s.ended
}

// Process is a child.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // what Wait returned; written before done is closed
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the child ended, as exec.Cmd.Wait does; nil while it runs.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Running reports whether the child has not ended. A paused child runs.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the child. The error is os.ErrProcessDone once it has
// ended.
func (p *Process) Signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signalling process %d: %w", p.PID(), err)
	}
	return nil
}

// Pause stops the child where it is (SIGSTOP): its sockets still accept. It returns
// when it has stopped.
func (p *Process) Pause() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return AwaitStopped(p.PID())
}

// Resume lets a paused child go on (SIGCONT).
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }

// Kill ends the child with SIGKILL, paused or not, and waits until it is gone.
func (p *Process) Kill() {
	// The only error is that it has ended already.
	_ = p.cmd.Process.Kill()
	<-p.done
}
