package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// asParent makes the test binary play a parent that is going to be killed.
const asParent = "ROLLCALL_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(asParent) != "" {
		parent()
	}
	goleak.VerifyTestMain(m)
}

func parent() {
	dir, err := NewTempDir("", "rollcall-process-")
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	s := NewSpawner()
	for range 2 {
		p, err := s.Start(exec.Command("sleep", "600"))
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println("child", p.PID())
		_ = p.Pause()
	}
	fmt.Println("dir", dir.Path())
	select {}
}

func TestChildrenAndDirectoryGoWithAKilledParent(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asParent+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	var dir string
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		switch what, value, _ := strings.Cut(lines.Text(), " "); what {
		case "child":
			var pid int
			if _, err := fmt.Sscan(value, &pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		case "dir":
			dir = value
		default:
			t.Fatal(lines.Text())
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if len(pids) != 2 || dir == "" {
		t.Fatalf("the parent said %v and %q", pids, dir)
	}
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("child %d has ended", pid), func() bool { return ended(pid) })
	}
	eventually(t, "the directory is removed", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestSpawner(t *testing.T) {
	s := NewSpawner()
	defer s.Close()

	quick, err := s.Start(exec.Command("sh", "-c", "exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	<-quick.Done()
	if exit := (*exec.ExitError)(nil); !errors.As(quick.Err(), &exit) || exit.ExitCode() != 3 {
		t.Errorf("a child's exit status is kept: got %v", quick.Err())
	}
	if err := quick.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signalling an ended child: got %v", err)
	}

	if _, err := s.Start(exec.Command("/nonexistent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("starting what is not there: got %v", err)
	}

	paused, err := s.Start(exec.Command("sleep", "600"))
	if err != nil {
		t.Fatal(err)
	}
	if err := paused.Pause(); err != nil {
		t.Error(err)
	}
	if !paused.Running() || paused.Err() != nil {
		t.Error("a paused child counts as running")
	}
	s.Close()
	if paused.Running() {
		t.Error("Close ends a paused child")
	}
	if _, err := s.Start(exec.Command("true")); !errors.Is(err, ErrClosed) {
		t.Errorf("starting after Close: got %v", err)
	}
}

func TestTempDirRemove(t *testing.T) {
	dir, err := NewTempDir(t.TempDir(), "x-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir.Path()+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := dir.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

// ended reports whether a process is gone, or only waits for init to collect it.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
