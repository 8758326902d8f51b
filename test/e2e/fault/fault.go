// Package fault breaks machines, networks and processes of a cluster for the
// end-to-end suite. It knows how, not why: it does not look at Rollcall.
package fault

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Faults is what can be done to a cluster from below. Every method returns when
// it is done; none undoes another's.
type Faults interface {
	// On runs a command on a node, as root among all its processes, and returns
	// what it prints.
	On(ctx context.Context, node string, command ...string) (string, error)
	// PowerOff ends a node at once; PowerOn starts it again.
	PowerOff(ctx context.Context, node string) error
	PowerOn(ctx context.Context, node string) error
	// Unplug cuts a node's network, Plug mends it. The node goes on.
	Unplug(ctx context.Context, node string) error
	Plug(ctx context.Context, node string) error
	// Split cuts a node off from the other nodes, not from the control plane;
	// Join ends every split.
	Split(ctx context.Context, node string) error
	Join(ctx context.Context) error
	// Lose drops so many percent of the packets that reach a node; 0: none.
	Lose(ctx context.Context, node string, percent int) error
	// StopAPI stops the Kubernetes API server's process, which keeps its
	// connections; ResumeAPI lets it go on.
	StopAPI(ctx context.Context) error
	ResumeAPI(ctx context.Context) error
}

// processes is shell for the processes of the container $1, as numbers.
const processes = `grep -ls "$1" /proc/[0-9]*/cgroup | cut -d/ -f3`

// Signal sends a signal, such as STOP or KILL, to all processes of a container.
func Signal(ctx context.Context, f Faults, node, container, signal string) error {
	out, err := f.On(ctx, node, "sh", "-c", `p=$(`+processes+`); [ -n "$p" ] && kill -"$2" $p`, "sh", container, signal)
	if err != nil {
		return fmt.Errorf("signal %s to container %s on %s: %w: %s", signal, container, node, err, out)
	}
	return nil
}

// Pause stops all processes of a container for so long, as a garbage collector does
// that stops the world. It goes on also when ctx ends meanwhile.
func Pause(ctx context.Context, f Faults, node, container string, length time.Duration) error {
	out, err := f.On(context.WithoutCancel(ctx), node, "sh", "-c", `p=$(`+processes+`); [ -n "$p" ] || exit 1
kill -STOP $p; sleep "$2"; kill -CONT $p`, "sh", container, fmt.Sprint(length.Seconds()))
	if err != nil {
		return fmt.Errorf("pausing container %s on %s: %w: %s", container, node, err, strings.TrimSpace(out))
	}
	return nil
}

// quota limits the container $1 to $2 microseconds of CPU time in each second; 0:
// not at all. It knows cgroups of both versions.
const quota = `p=$(` + processes + ` | head -1); [ -n "$p" ] || exit 1
g=$(sed -n 's/^0:://p' "/proc/$p/cgroup")
if [ -w "/sys/fs/cgroup$g/cpu.max" ]; then
	[ "$2" = 0 ] && echo "max 100000" >"/sys/fs/cgroup$g/cpu.max" || echo "$2 1000000" >"/sys/fs/cgroup$g/cpu.max"
	exit
fi
g=/sys/fs/cgroup/cpu$(sed -nE 's/^[0-9]+:([a-z,]*,)?cpu(,[a-z,]*)?://p' "/proc/$p/cgroup")
if [ "$2" = 0 ]; then
	echo -1 >"$g/cpu.cfs_quota_us" && echo 100000 >"$g/cpu.cfs_period_us"
else
	echo 1000000 >"$g/cpu.cfs_period_us" && echo "$2" >"$g/cpu.cfs_quota_us"
fi`

// Quota limits a container to so many microseconds of CPU time in each second; 0
// takes the limit away.
func Quota(ctx context.Context, f Faults, node, container string, microseconds int) error {
	out, err := f.On(ctx, node, "sh", "-c", quota, "sh", container, fmt.Sprint(microseconds))
	if err != nil {
		return fmt.Errorf("quota of container %s on %s: %w: %s", container, node, err, strings.TrimSpace(out))
	}
	return nil
}
