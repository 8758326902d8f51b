package e2e

import (
	"context"
	"fmt"
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
	// faultFor is how long a fault lasts at least.
	faultFor = 20 * time.Second
	// answeredShare of the clients of the pod that the fault is of are to have answers again.
	answeredShare = 0.9
	// floodClients ask for answers of floodUnits of work each: for more CPU than
	// the pods have together.
	floodClients, floodUnits = 60, 2000
)

// TestServices has Rollcall look after services that are not its own, one of each
// protocol, and makes one of the three pods of each hang in every way.
func TestServices(t *testing.T) {
	w := givenCluster(t)
	if *serviceImage == "" {
		t.Fatal("-service must name an image that the cluster can pull, with the program of test/e2e/service/cmd as its entry point")
	}
	w.needFaults(t)
	w.installWith(t, "--set", "agent.sever.enabled=true")
	watching, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(stop)
	w.line = follow(watching, w)
	r := &servicesReport{}
	for _, speech := range []service.Speech{service.HTTP, service.GRPC, service.WebSocket} {
		t.Run(string(speech), func(t *testing.T) {
			s := w.serve(t, speech)
			for _, c := range serviceFaults {
				s.scene(t, r, c.name, func(s *serviceScene) { s.hang(c.hang) })
			}
			s.scene(t, r, "stopped, and Rollcall only looks on", func(s *serviceScene) { s.plain(serviceFaults[0].hang) })
			if speech == service.HTTP {
				s.scene(t, r, "all three overloaded by load", (*serviceScene).flood)
			}
		})
	}
	r.write(t)
}

// serviceFaults are what befalls one pod of a service. hang makes the fault, and
// returns what mends it.
var serviceFaults = []struct {
	name string
	hang func(s *serviceScene, pod *corev1.Pod) (do, mend func())
}{
	{"stopped", func(s *serviceScene, pod *corev1.Pod) (do, mend func()) {
		return func() { s.signal(s.t, pod, "STOP") }, func() { s.signal(s.t, pod, "CONT") }
	}},
	{"deadlocked", mode(service.Deadlocked)},
	{"accepts no more", mode(service.NotAccepting)},
	{"answers in 5 s", mode(service.Slow)},
	{"has 2 % of a CPU", func(s *serviceScene, pod *corev1.Pod) (do, mend func()) {
		return func() { s.quota(pod, 20_000) }, func() { s.quota(pod, 0) }
	}},
}

func mode(m service.Mode) func(*serviceScene, *corev1.Pod) (do, mend func()) {
	return func(s *serviceScene, pod *corev1.Pod) (do, mend func()) {
		return func() { s.svc.behave(s.t, pod, m) }, func() { s.svc.behave(s.t, pod, service.Well) }
	}
}

// quota gives a pod so many microseconds of CPU time in each second; 0: as many as there are.
func (s *serviceScene) quota(pod *corev1.Pod, microseconds int) {
	ctx, cancel := lasting(s.t)
	defer cancel()
	s.must(fault.Quota(ctx, s.faults, pod.Spec.NodeName, container(s.t, pod), microseconds))
}

// hang makes a pod hang: its clients are to have answers again, and nobody else is to be disturbed.
func (s *serviceScene) hang(hang func(*serviceScene, *corev1.Pod) (do, mend func())) {
	s.come()
	do, mend := hang(s, s.victim)
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
	s.lasts(faultFor)
	// The severer says how many it has ended once more when it is asked no longer.
	f, err := s.failover()
	s.must(err)
	s.note(f)
	s.readiness()
	s.spared()
	resume()
}

// plain is the same with nothing done about it.
func (s *serviceScene) plain(hang func(*serviceScene, *corev1.Pod) (do, mend func())) {
	s.come()
	s.must(s.svc.mode(s.t.Context(), v1alpha1.ModeOff))
	do, mend := hang(s, s.victim)
	s.begin()
	resume := s.fault(do, func() {
		mend()
		ctx, cancel := lasting(s.t)
		defer cancel()
		s.must(s.svc.mode(ctx, v1alpha1.ModeAutomatic))
	})
	s.lasts(stoppedFor)
	s.line.Failovers = append(s.line.Failovers, "Off")
	s.readiness()
	s.spared()
	resume()
}

// flood brings more work than all pods can do: to move clients would help nobody.
func (s *serviceScene) flood() {
	s.come()
	s.victim, s.line.On = nil, serviceClients // every pod is to be spared
	const small = 200_000                     // microseconds of CPU in each second
	s.begin()
	stop := s.fault(func() {
		for i := range s.svc.pods {
			s.quota(&s.svc.pods[i], small)
		}
		s.must(s.apply(s.t.Context(), s.svc.clientsPod("flood", floodClients, floodUnits)))
	}, func() {
		ctx, cancel := lasting(s.t)
		defer cancel()
		s.must(s.svc.delete(ctx, "flood"))
		for i := range s.svc.pods {
			s.quota(&s.svc.pods[i], 0)
		}
	})
	var why string
	said := s.await("Rollcall to say why it moves nobody", time.Minute, func() (bool, error) {
		var err error
		why, err = s.held()
		return why != "", err
	})
	s.line.Answered = fmt.Sprintf("%s after %s", why, seconds(said))
	s.lasts(stoppedFor)
	list, err := s.allFailovers()
	s.must(err)
	for i := range list {
		s.note(&list[i])
		if st := list[i].Status; st.Severed != nil && st.Severed.Connections > 0 {
			s.t.Errorf("%s had %d connections ended", list[i].Name, st.Severed.Connections)
		}
	}
	if len(list) == 0 {
		s.line.Failovers = append(s.line.Failovers, "none")
	}
	s.spared()
	stop()
}
