//go:build unix

package process

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	// stopWithin is how long a process may take to stop: a thread of it has to be
	// given a processor to take the signal, and until then the others go on.
	stopWithin = 30 * time.Second
	stopEvery  = time.Millisecond
)

// AwaitStopped waits until no thread of a process that was sent SIGSTOP runs any
// more, as /proc tells; where there is none it waits for nothing.
func AwaitStopped(pid int) error {
	deadline := time.Now().Add(stopWithin)
	tick := time.NewTicker(stopEvery)
	defer tick.Stop()
	for {
		running, err := running(pid)
		if err != nil || running == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d threads of process %d run on, %v after SIGSTOP", running, pid, stopWithin)
		}
		<-tick.C
	}
}

// running counts the threads that are not stopped.
func running(pid int) (int, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return 0, err
	}
	n := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		// The state comes behind the name, which is in brackets and may hold any.
		if state := bytes.TrimLeft(b[bytes.LastIndexByte(b, ')')+1:], " "); len(state) > 0 && !bytes.ContainsAny(state[:1], "TtZX") {
			n++
		}
	}
	return n, nil
}
