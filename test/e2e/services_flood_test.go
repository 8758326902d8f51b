package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/test/e2e/service"
)

// floodClients ask for answers of floodUnits of work each, for more CPU than three pods
// have together that may have floodQuota microseconds of each second, which floodCPU is too.
const (
	floodClients, floodUnits = 60, 2000
	floodQuota, floodCPU     = 200_000, "200m"
)

// toll is what a flood has cost, and what was answered in spite of it.
type toll struct{ Restarts, Ended, Failed, Answered int }

// tollOf is what became of clients between two looks at them.
func tollOf(before, after []service.Client) toll {
	a, b := sum(before), sum(after)
	return toll{Ended: b.Ended - a.Ended, Failed: b.Failed - a.Failed, Answered: b.Answered - a.Answered}
}

func sum(all []service.Client) (t toll) {
	for _, c := range all {
		t.Failed += c.Failures
		for _, n := range c.Broken {
			t.Ended += n
		}
		for _, n := range c.Answers {
			t.Answered += n
		}
	}
	return t
}

// flood is the name of the pod of those who ask for too much.
func (s *served) flood() string { return s.Name + "-flood" }

// flood brings more work than all pods can do: to move clients would help nobody.
func (s *serviceScene) flood(r *servicesReport) {
	s.victim, s.line.On = nil, serviceClients // every pod is to be spared
	before := s.clients()
	s.begin()
	stop := s.fault(func() {
		for i := range s.svc.pods {
			s.svc.quota(s.t, &s.svc.pods[i], floodQuota)
		}
		s.must(s.apply(s.t.Context(), s.svc.clientsPod(s.svc.flood(), floodClients, floodUnits)))
	}, func() {
		ctx, cancel := lasting(s.t)
		defer cancel()
		s.must(s.svc.delete(ctx, s.svc.flood()))
		for i := range s.svc.pods {
			s.svc.quota(s.t, &s.svc.pods[i], 0)
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
	cost := tollOf(before, s.clients())
	cost.Restarts, err = s.svc.restarts(s.t.Context())
	s.must(err)
	r.addToll("Rollcall: "+why, cost)
	stop()
}

// floodPlain is the same with nobody but Kubernetes, whose liveness probes are tuned hard.
func (w *world) floodPlain(t *testing.T, r *servicesReport) {
	kind := probeKinds[len(probeKinds)-1]
	over := w.turns(t)
	s := w.deploy(t, workload{Namespace: plainNamespace, Name: "flooded", Speech: service.HTTP, CPU: floodCPU, Probes: kind.yaml})
	s.await(t)
	w.fresh(t, serviceClients, 0, s)
	over()
	s.calm(t, serviceClients, plainCalm)
	over = w.turns(t)
	s.calm(t, serviceClients, plainCalm)
	before, err := s.ask(t.Context(), s.crowd())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	t.Cleanup(func() {
		ctx, cancel := lasting(t)
		defer cancel()
		if err := s.delete(ctx, s.flood(), s.crowd()); err != nil {
			t.Error(err)
		}
		over()
	})
	if err := w.apply(t.Context(), s.clientsPod(s.flood(), floodClients, floodUnits)); err != nil {
		t.Fatal(err)
	}
	if err := pause(t.Context(), stoppedFor-time.Since(began)); err != nil {
		t.Fatal(err)
	}
	after, err := s.ask(t.Context(), s.crowd())
	if err != nil {
		t.Fatal(err)
	}
	cost := tollOf(before, after)
	if cost.Restarts, err = s.restarts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if cost.Failed == 0 {
		t.Error("nobody failed: there was no flood")
	}
	r.addToll("plain Kubernetes: "+kind.what, cost)
}
