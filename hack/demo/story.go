package main

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/installation"
)

// The victim is the last server; the others receive.
const victim = servers - 1

const (
	slowBy = 800 * time.Millisecond // under the clients' own time-out of 1 s
	// minStop is how long a server stays stopped at least: longer than its
	// lease in etcd, so that it wakes up to find that gone as well.
	minStop = 8 * time.Second
	// How long is waited for the clients to be moved, for the Failover to say so,
	// and for the server to have its share again.
	limitMoved    = 30 * time.Second
	limitComplete = 10 * time.Second
	limitBack     = 90 * time.Second
	// alone is how long the demo watches a slow server without a controller.
	alone = 15 * time.Second
)

// tell runs the story: before, the fault, during, the repair, after.
func tell(ctx context.Context, w *world, o options) error {
	w.step("ready: %d clients on %d servers", w.clients.total(), servers)
	w.tables(ctx, "Before", 0)
	if o.withoutController {
		for i := range controllers {
			w.Kill(installation.ControllerName(i))
		}
		w.step("both controllers are ended: nobody is left to judge")
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	eyes := w.watch(watching)

	if err := w.fault(ctx); err != nil {
		return err
	}
	if err := w.untilMoved(ctx); err != nil {
		return err
	}
	w.figures.VerdictSeconds = w.seconds(eyes.verdictAt())
	w.tables(ctx, "During", 1)

	mended, err := w.mend(ctx, eyes)
	if err != nil {
		return err
	}
	if !o.withoutController {
		if err := w.untilBack(ctx, mended); err != nil {
			return err
		}
	}
	// What the woken server had in hand would have been written by now.
	w.tables(ctx, "After", 1)
	w.figures.Offline = eyes.offline()
	w.figures.StaleWrites = eyes.staleWrites(w.clients)
	if n := w.figures.StaleWrites; n == 0 && o.fault != faultSlow {
		fmt.Printf("%s wrote nothing about the clients that it had lost.\n", serverName(victim))
	}
	if o.once {
		return nil
	}
	heading("Look further (until Ctrl-C):")
	fmt.Printf("  export KUBECONFIG=%s\n  kubectl get presence,failovers -A\n  kubectl describe failovers -n %s\n  ETCDCTL_ENDPOINTS=%s etcdctl get --prefix /rollcall/v1/servers/\n  ls %s/*.log\n",
		w.Plane.AdminKubeconfig(), namespace, w.Etcd.Endpoint(), w.Dir())
	fmt.Printf("(kubectl is %s, etcdctl is anybody's.)\n", w.Plane.Kubectl())
	<-ctx.Done()
	return ctx.Err()
}

// fault breaks the victim, and begins the clock.
func (w *world) fault(ctx context.Context) error {
	name := serverName(victim)
	what := map[string]string{
		faultStop: "SIGSTOP: the kernel still accepts and acknowledges for it, and nothing answers",
		faultKill: "SIGKILL: the process is gone",
		faultSlow: fmt.Sprintf("every answer of it is %s late", slowBy),
	}[w.options.fault]
	heading("The fault: %s", name)
	at := time.Now()
	w.figures.Fault, w.figures.Clients = w.options.fault, w.options.clients
	w.figures.BackSeconds = -1
	w.figures.Affected = w.clients.fault(namespace+"/"+name, at)
	w.line.restart(at)
	w.line.say(at, "fault", "%s (%d clients): %s", name, w.figures.Affected, what)
	switch w.options.fault {
	case faultStop:
		return w.Part(name).Pause()
	case faultKill:
		w.Kill(name)
		return nil
	default:
		return w.AnswerDelay(ctx, victim, slowBy)
	}
}

// untilMoved waits until all the victim's clients are elsewhere, with a line
// for the first, a half and the last.
func (w *world) untilMoved(ctx context.Context) error {
	limit := max(limitMoved, w.options.patience)
	if w.options.withoutController && w.options.fault == faultSlow {
		limit = alone
	}
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	saidFirst, saidHalf := false, false
	for {
		p := w.clients.progress()
		moved := w.figures.Affected - p.left
		if moved > 0 && !saidFirst {
			saidFirst = true
			w.line.say(p.first, "moved", "the first client is on another server")
		}
		if 2*moved >= w.figures.Affected && !saidHalf {
			saidHalf = true
			w.line.say(p.last, "moved", "half of them are")
		}
		if p.left == 0 {
			w.line.say(p.last, "moved", "all %d are", w.figures.Affected)
			w.figures.AllMovedSeconds = w.seconds(p.last)
			break
		}
		select {
		case <-w.clients.changed:
			continue
		case <-deadline.C:
			w.line.say(time.Now(), "watched", "%d clients are still on %s", p.left, serverName(victim))
			w.figures.AllMovedSeconds = -1
		case <-ctx.Done():
			return ctx.Err()
		}
		break
	}
	w.figures.FirstMovedSeconds = w.seconds(w.clients.progress().first)
	w.figures.MaxReceiverLoad = round(w.clients.receiverLoad())
	if w.options.withoutController {
		return nil
	}
	// The Failover's own count is complete a moment after the last client.
	var failover v1alpha1.Failover
	err := w.WaitFor(ctx, "the Failover to be complete", max(limitComplete, w.options.patience), func() bool { return w.failover(ctx, &failover) && failover.Status.CompletedAt != nil })
	if err != nil && ctx.Err() == nil {
		w.line.say(time.Now(), "watched", "the Failover is not complete: %v", err)
		err = nil
	}
	by := failover.Status.MovedBy
	w.figures.MovedBy = movedBy{Directive: int(by.Directive), OwnTimeout: int(by.OwnTimeout), Severed: int(by.Severed)}
	return err
}

// failover finds the one that took the victim's clients.
func (w *world) failover(ctx context.Context, found *v1alpha1.Failover) bool {
	var list v1alpha1.FailoverList
	if w.API.List(ctx, &list, client.InNamespace(namespace)) != nil {
		return false
	}
	for _, f := range list.Items {
		if f.Spec.Server == serverName(victim) {
			*found = f
			return true
		}
	}
	return false
}

// mend repairs the victim, and returns when.
func (w *world) mend(ctx context.Context, eyes *eyes) (time.Time, error) {
	name := serverName(victim)
	if w.options.fault == faultStop {
		if err := sleep(ctx, minStop-time.Since(w.clients.zero)); err != nil {
			return time.Time{}, err
		}
	}
	heading("The repair: %s", name)
	at := time.Now()
	eyes.mended(at)
	w.line.restart(at)
	switch w.options.fault {
	case faultStop:
		w.line.say(at, "repair", "SIGCONT: it wakes up, and does not know how long it was away")
		return at, w.Part(name).Resume()
	case faultKill:
		w.line.say(at, "repair", "restarted, as its kubelet would: another incarnation")
		return at, w.StartServer(ctx, victim)
	default:
		w.line.say(at, "repair", "its answers are in time again")
		return at, w.AnswerDelay(ctx, victim, 0)
	}
}

// untilBack waits until the victim has its share of the clients again.
func (w *world) untilBack(ctx context.Context, mended time.Time) error {
	name := namespace + "/" + serverName(victim)
	share := w.options.clients / servers
	err := w.WaitFor(ctx, serverName(victim)+" to get its share back", max(limitBack, w.options.patience), func() bool {
		return float64(w.clients.on(name)) >= 0.9*float64(share)
	})
	w.figures.BackClients = w.clients.on(name)
	if err == nil {
		now := time.Now()
		w.figures.BackSeconds = round(now.Sub(mended).Seconds())
		w.line.say(now, "back", "%s serves %d clients again", serverName(victim), w.figures.BackClients)
		err = w.WaitFor(ctx, "the last Failover to end", max(limitMoved, w.options.patience), func() bool { return w.settled(ctx) })
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	w.line.say(time.Now(), "watched", "%v; %s serves %d clients", err, serverName(victim), w.clients.on(name))
	return nil
}

// settled tells whether every Failover has ended.
func (w *world) settled(ctx context.Context) bool {
	var list v1alpha1.FailoverList
	if w.API.List(ctx, &list, client.InNamespace(namespace)) != nil {
		return false
	}
	for _, f := range list.Items {
		if f.Status.CompletedAt == nil {
			return false
		}
	}
	return true
}

// tables prints what a user would look at.
func (w *world) tables(ctx context.Context, when string, failovers int) {
	heading("%s: kubectl get presence -A", when)
	fmt.Print(w.Kubectl(ctx, "get", "presence", "-A"))
	if failovers > 0 {
		heading("%s: kubectl get failovers -A", when)
		fmt.Print(w.Kubectl(ctx, "get", "failovers", "-A"))
	}
}

// seconds since the fault, to the millisecond; -1 for what never came.
func (w *world) seconds(at time.Time) float64 {
	if at.IsZero() {
		return -1
	}
	return round(at.Sub(w.clients.zero).Seconds())
}

func round(x float64) float64 { return float64(int64(x*1000+0.5)) / 1000 }

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
