package e2e

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/e2e/fault"
	"github.com/rollcall-dev/rollcall/test/e2e/service"
)

const (
	// serviceClients are how many use each service.
	serviceClients = 300
	// faultFor is how long a fault lasts at least, and countedFor how long after its Failover
	// ended: the severer says how many it has ended once more when it is asked no longer.
	faultFor, countedFor = 15 * time.Second, 4 * time.Second
	// answeredShare of the clients of the pod that the fault is of are to have answers again.
	answeredShare = 0.9
)

// speeches are those of the services, in the order of the table.
var speeches = []service.Speech{service.HTTP, service.GRPC, service.WebSocket}

// TestServices has Rollcall look after services that are not its own, one of each
// protocol, and makes one of the three pods of each hang in every way. Services are
// prepared side by side, and broken one at a time. Beside them are services that
// only Kubernetes looks after, and one that is never broken and lives badly.
func TestServices(t *testing.T) {
	w := givenCluster(t)
	if *serviceImage == "" {
		t.Fatal("-service must name an image that the cluster can pull, with the program of test/e2e/service/cmd as its entry point")
	}
	w.needFaults(t)
	w.installWith(t, "--set", "agent.sever.enabled=true", "--set", "controller.readinessGates=true")
	watching, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(stop)
	w.line = follow(watching, w)
	r := &servicesReport{}
	var others sync.WaitGroup
	for _, speech := range speeches {
		others.Go(func() { t.Run(string(speech), func(t *testing.T) { w.lookedAfter(t, r, speech) }) })
	}
	others.Go(func() { t.Run("kubernetes", func(t *testing.T) { w.besideKubernetes(t, r) }) })
	others.Go(func() { t.Run("adopt", w.adopted) })
	t.Run("bystander", func(t *testing.T) { w.bystander(t, others.Wait) })
	others.Wait()
	r.write(t)
}

// lookedAfter makes every fault of one service, those first that matter most.
func (w *world) lookedAfter(t *testing.T, r *servicesReport, speech service.Speech) {
	s := w.serve(t, speech, false)
	for _, c := range serviceFaults {
		s.scene(t, r, c.name, func(s *serviceScene) { s.hang(c.hang) })
	}
	if speech == service.HTTP {
		s.scene(t, r, "all three overloaded by load", func(s *serviceScene) { s.flood(r) })
		gated := w.serve(t, speech, true)
		gated.scene(t, r, "stopped, with a readiness gate", func(s *serviceScene) { s.hang(serviceFaults[0].hang) })
	}
	if speech != service.WebSocket { // it is a stream like the other
		s.scene(t, r, "stopped, and Rollcall only looks on", func(s *serviceScene) { s.lookOn(serviceFaults[0].hang) })
	}
}

// hang makes a fault of a pod of a service, and what mends it.
type hang func(t *testing.T, s *served, pod *corev1.Pod) (do, mend func())

// serviceFaults are what befalls one pod of a service.
var serviceFaults = []struct {
	name string
	hang hang
}{
	{"stopped", func(t *testing.T, s *served, pod *corev1.Pod) (do, mend func()) {
		return func() { s.signal(t, pod, "STOP") }, func() { s.signal(t, pod, "CONT") }
	}},
	{"deadlocked", mode(service.Deadlocked)},
	{"answers in 5 s", mode(service.Slow)},
	{"accepts no more", mode(service.NotAccepting)},
	{"has 2 % of a CPU", func(t *testing.T, s *served, pod *corev1.Pod) (do, mend func()) {
		return func() { s.work(t, pod, starvedWork); s.quota(t, pod, 20_000) }, func() { s.quota(t, pod, 0); s.work(t, pod, 1) }
	}},
}

func mode(m service.Mode) hang {
	return func(t *testing.T, s *served, pod *corev1.Pod) (do, mend func()) {
		return func() { s.behave(t, pod, m) }, func() { s.behave(t, pod, service.Well) }
	}
}

// starvedWork is how many times the usual work the answers of a starved pod cost: 2 % of
// a processor are about what it has to do for a hundred clients otherwise, and no want.
const starvedWork = 8

// work has the answers of a pod cost so many times the usual work.
func (s *served) work(t *testing.T, pod *corev1.Pod, times int) {
	t.Helper()
	ctx, cancel := lasting(t)
	defer cancel()
	if err := s.tell(ctx, pod.Name, "work", strconv.Itoa(times)); err != nil {
		t.Fatal(err)
	}
}

// quota gives a pod so many microseconds of CPU time in each second; 0: as many as there are.
func (s *served) quota(t *testing.T, pod *corev1.Pod, microseconds int) {
	t.Helper()
	ctx, cancel := lasting(t)
	defer cancel()
	if err := fault.Quota(ctx, s.faults, pod.Spec.NodeName, container(t, pod), microseconds); err != nil {
		t.Fatal(err)
	}
}

// hang makes a pod hang: its clients are to have answers again, and nobody else is to be disturbed.
func (s *serviceScene) hang(hang hang) {
	do, mend := hang(s.t, s.svc, s.victim)
	s.begin()
	resume := s.fault(do, mend)
	f := s.decided()
	s.line.Detected, s.line.Decided = s.after(f.Spec.DetectedAt), s.after(f.Status.DecidedAt)
	s.answered(time.Minute)
	s.await("the Failover to end", time.Minute, func() (bool, error) {
		var err error
		if f, err = s.failover(); err != nil {
			return false, err
		}
		return f.Status.CompletedAt != nil, fmt.Errorf("%s is %+v", f.Name, f.Status)
	})
	s.lasts(max(faultFor, f.Status.CompletedAt.Sub(s.began)+countedFor))
	f, err := s.failover()
	s.must(err)
	s.note(f)
	s.readiness()
	s.spared()
	resume()
}

// lookOn is the same with nothing done about it.
func (s *serviceScene) lookOn(hang hang) {
	s.must(s.svc.mode(s.t.Context(), v1alpha1.ModeOff))
	act := sync.OnceFunc(func() {
		ctx, cancel := lasting(s.t)
		defer cancel()
		s.must(s.svc.mode(ctx, v1alpha1.ModeAutomatic))
	})
	s.t.Cleanup(act)
	do, mend := hang(s.t, s.svc, s.victim)
	s.begin()
	resume := s.fault(do, mend)
	s.lasts(stoppedFor)
	s.line.Failovers = append(s.line.Failovers, "Off")
	s.readiness()
	s.spared()
	resume()
	// Before, something would still be done about it.
	s.must(s.svc.allWell(s.t.Context()))
	act()
}
