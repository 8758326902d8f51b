package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestTheStoryInASmallSize runs every part as a process of its own, built with
// the race detector, before a real API server and a real etcd. How long things
// take is the demo's to say; here everything must come out right, however slow
// the machine is.
func TestTheStoryInASmallSize(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real API server, two etcd and eleven processes")
	}
	if faults := preflight(); len(faults) > 0 {
		t.Fatal(faults)
	}
	binary := filepath.Join(t.TempDir(), "rollcall")
	build := exec.Command("go", "build", "-race", "-o", binary, "github.com/rollcall-dev/rollcall/cmd/rollcall")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building rollcall: %v\n%s", err, out)
	}
	for _, fault := range []string{faultStop, faultSlow} {
		t.Run(fault, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
			defer cancel()
			o := options{once: true, fault: fault, clients: 60, binary: binary, patience: 3 * time.Minute}
			w, err := newWorld(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if err := tell(ctx, w, o); err != nil {
				t.Fatalf("%v\nLogs:\n%s", err, w.LogTails())
			}
			check(t, w, o)
		})
	}
}

func check(t *testing.T, w *world, o options) {
	t.Helper()
	f := w.figures
	if f.VerdictSeconds < 0 {
		t.Error("the server was never judged overloaded")
	}
	if f.AllMovedSeconds < 0 {
		t.Error("not every client was moved")
	}
	if f.Affected == 0 {
		t.Error("the server had no clients when it failed: nothing was shown")
	}
	if moved := f.MovedBy.Directive + f.MovedBy.OwnTimeout + f.MovedBy.Severed; moved < f.Affected {
		t.Errorf("the Failover counts %d clients moved, %d were", moved, f.Affected)
	}
	if o.fault == faultStop && f.MovedBy.Directive > 0 {
		t.Errorf("a stopped server told %d clients to go", f.MovedBy.Directive)
	}
	if f.Offline > 0 || f.StaleWrites > 0 {
		t.Errorf("%d clients were declared offline, %d stale writes", f.Offline, f.StaleWrites)
	}
	if f.BackSeconds < 0 {
		t.Errorf("the server did not get its share back: %d clients", f.BackClients)
	}
	if t.Failed() {
		t.Logf("Logs:\n%s", w.LogTails())
	}
}
