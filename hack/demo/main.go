// Command demo shows Rollcall's main job on one machine: a heartbeat server
// hangs while its sockets still accept, and its clients are moved. Every part
// is a process of its own, before a real kube-apiserver and a real etcd; what a
// kubelet would do (pods and nodes in the API) the demo does itself.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The faults that the demo can show.
const (
	faultStop = "stop" // SIGSTOP: the kernel accepts and acknowledges, the program is silent
	faultKill = "kill" // SIGKILL, and a restart as a kubelet would
	faultSlow = "slow" // every answer 800 ms late
)

type options struct {
	once              bool
	fault             string
	clients           int
	withoutController bool
	binary            string // rollcall; empty: what make build leaves in bin/
	// patience is how long every step is waited for at least; zero: as long as
	// the demo has for it.
	patience time.Duration
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.BoolVar(&o.once, "once", false, "end by itself, with one line of JSON; exit status 1 when a figure misses its bar")
	f.StringVar(&o.fault, "fault", faultStop, "what happens to the server: stop, kill or slow")
	f.IntVar(&o.clients, "clients", 2000, "how many clients, 30 to 6000")
	f.BoolVar(&o.withoutController, "without-controller", false, "stop the controllers before the fault")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			f.SetOutput(os.Stderr)
			f.PrintDefaults()
		}
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unknown argument %q (see --help)", f.Arg(0))
	case !slices.Contains([]string{faultStop, faultKill, faultSlow}, o.fault):
		return o, fmt.Errorf("--fault %q is not stop, kill or slow", o.fault)
	case o.clients < 30 || o.clients > 6000:
		return o, fmt.Errorf("--clients %d is not from 30 to 6000", o.clients)
	}
	return o, nil
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: "+err.Error())
		os.Exit(2)
	}
	if faults := preflight(); len(faults) > 0 {
		fmt.Fprintln(os.Stderr, "demo: this machine can't run it yet:\n  "+strings.Join(faults, "\n  "))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	status := run(ctx, o)
	stop()
	os.Exit(status)
}

func run(ctx context.Context, o options) int {
	w, err := newWorld(ctx, o)
	if err == nil {
		defer w.Close()
		err = tell(ctx, w, o)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Println("\ndemo: ending, and removing all that it wrote")
	case w != nil:
		fmt.Fprintf(os.Stderr, "demo: %v\nLogs:\n%s\n", err, w.LogTails())
		return 1
	default:
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		return 1
	}
	if !o.once || w == nil {
		return 0
	}
	missed := w.figures.missed(o)
	line, _ := json.Marshal(w.figures)
	for _, m := range missed {
		fmt.Println("missed: " + m)
	}
	fmt.Println(string(line))
	if len(missed) > 0 || ctx.Err() != nil {
		return 1
	}
	return 0
}
