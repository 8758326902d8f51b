package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/test/e2e/fault"
	"github.com/rollcall-dev/rollcall/test/e2e/service"
)

// How badly the bystander lives. Its pods have their bursts and pauses in turn.
const (
	bystanderName, bystanderClients = "bystander", 30
	// bystanderCPU is all that a pod has, in a burst too.
	bystanderCPU             = "300m"
	burstEvery, burstFor     = 20 * time.Second, time.Second
	gcPauseEvery, gcPauseFor = 7 * time.Second, 300 * time.Millisecond
	rolloutEvery             = 5 * time.Minute
)

// bystander is a service that is never broken. What befalls it is no more than
// what befalls every service, and nothing may be done about it.
type bystander struct {
	*served
	bursts, pauses, rollouts int
	// failed is what could not be done to it: pods end meanwhile.
	failed []error
}

// bystander lives until the others are done, and for as long as -bystander says at least.
func (w *world) bystander(t *testing.T, others func()) {
	w.space(t, "shop-"+bystanderName)
	b := &bystander{served: w.deploy(t, workload{
		Namespace: "shop-" + bystanderName, Name: bystanderName, Speech: service.HTTP, Accepting: true, CPU: bystanderCPU, Probes: soonNotReady,
	})}
	b.lookAfter(t)
	w.fresh(t, bystanderClients, 0, b.served)
	began := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	lived := make(chan struct{})
	go func() {
		defer close(lived)
		b.live(ctx)
	}()
	end := func() {
		stop()
		<-lived
	}
	defer end()
	others()
	if err := pause(t.Context(), *bystanderFor-time.Since(began)); err != nil {
		t.Fatal(err)
	}
	end()
	lasted := time.Since(began)
	if err := b.allWell(t.Context()); err != nil {
		t.Errorf("it is not well in the end: %v", err)
	}
	all, err := b.ask(t.Context(), b.crowd())
	if err != nil {
		t.Fatal(err)
	}
	pods, err := b.podsOf(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held := accused(w.line.since(began), b.Name)
	for _, amiss := range slices.Concat(held, broken(all, pods)) {
		t.Error(amiss)
	}
	for _, err := range b.failed {
		t.Log(err)
	}
	if b.bursts == 0 || b.pauses == 0 {
		t.Errorf("it had %d bursts and %d pauses: it lived too well: %v", b.bursts, b.pauses, errors.Join(b.failed...))
	}
	said := "0 Failovers, and no pod was Overloaded or Dead"
	if len(held) > 0 {
		said = strings.Join(held, ", ")
	}
	publish(t, bystanderName, fmt.Sprintf("It lived for %s: %d bursts, %d pauses and %d rolling updates; %s. %s\n",
		lasted.Round(time.Second), b.bursts, b.pauses, b.rollouts, said, fared(all, pods)))
}

// live makes its life hard until ctx ends.
func (b *bystander) live(ctx context.Context) {
	burst, gc, rollout := time.NewTicker(burstEvery), time.NewTicker(gcPauseEvery), time.NewTicker(rolloutEvery)
	defer burst.Stop()
	defer gc.Stop()
	defer rollout.Stop()
	for {
		count, do := &b.rollouts, b.rollOut
		select {
		case <-ctx.Done():
			return
		case <-burst.C:
			count, do = &b.bursts, b.burst
		case <-gc.C:
			count, do = &b.pauses, b.gcPause
		case <-rollout.C:
		}
		if err := do(ctx); err == nil {
			*count++
		} else if ctx.Err() == nil && len(b.failed) < 100 {
			b.failed = append(b.failed, err)
		}
	}
}

// next is the pod whose turn it is.
func (b *bystander) next(ctx context.Context, turn int) (*corev1.Pod, error) {
	pods, err := b.podsOf(ctx)
	if err != nil {
		return nil, err
	}
	pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return !ready(&p) })
	if len(pods) == 0 {
		return nil, errors.New("no pod of " + b.Name + " is Ready")
	}
	return &pods[turn%len(pods)], nil
}

func (b *bystander) burst(ctx context.Context) error {
	pod, err := b.next(ctx, b.bursts)
	if err != nil {
		return err
	}
	return b.tell(ctx, pod.Name, "burst", burstFor.String())
}

func (b *bystander) gcPause(ctx context.Context) error {
	pod, err := b.next(ctx, b.pauses)
	if err != nil {
		return err
	}
	id, err := containerOf(pod)
	if err != nil {
		return err
	}
	return fault.Pause(ctx, b.faults, pod.Spec.NodeName, id, gcPauseFor)
}

func (b *bystander) rollOut(ctx context.Context) error {
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"rollout":"%d"}}}}}`, b.rollouts+1)
	_, err := b.kube.AppsV1().Deployments(b.Namespace).Patch(ctx, b.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// accused is what was held against the servers of a Presence: verdicts, and Failovers.
func accused(changes []change, presence string) []string {
	var said []string
	for _, c := range changes {
		state := c.row["State"]
		switch {
		case c.row == nil:
		case c.kind == members && strings.HasPrefix(c.name, memberOf(presence, "")) && (state == string(verdict.Overloaded) || state == string(verdict.Dead)):
			said = append(said, fmt.Sprintf("%s was %s at %s", c.name, state, c.at.UTC().Format(time.TimeOnly)))
		case c.kind == failovers && strings.HasPrefix(c.name, presence+"-"):
			said = append(said, fmt.Sprintf("a Failover was made: %s %v at %s", c.name, c.row, c.at.UTC().Format(time.TimeOnly)))
		}
	}
	return said
}

// broken are connections that were ended of pods that are still here: pods end in
// rollouts alone, with their connections.
func broken(all []service.Client, pods []corev1.Pod) []string {
	var said []string
	for i := range pods {
		if n := brokenOf(all, pods[i].Name); n > 0 {
			said = append(said, fmt.Sprintf("%d connections of %s were ended", n, pods[i].Name))
		}
		if n := restarts(&pods[i]); n > 0 {
			said = append(said, fmt.Sprintf("%s was started anew %d times", pods[i].Name, n))
		}
	}
	return said
}

// brokenOf counts the connections to a pod that somebody else than the clients ended.
func brokenOf(all []service.Client, pod string) int {
	n := 0
	for _, c := range all {
		n += c.Broken[pod]
	}
	return n
}

// fared says what became of its clients.
func fared(all []service.Client, pods []corev1.Pod) string {
	unknown, stayed, total := brokenOf(all, ""), 0, sum(all)
	for i := range pods {
		stayed += brokenOf(all, pods[i].Name)
	}
	return fmt.Sprintf("Its %d clients had %d answers, and %d questions failed. Connections that others ended: %d, of pods that a rolling update ended; %d, of pods that stayed; %d, on which nobody had answered yet.",
		len(all), total.Answered, total.Failed, total.Ended-unknown-stayed, stayed, unknown)
}
