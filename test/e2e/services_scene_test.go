package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/e2e/service"
)

// serviceScene is one fault of a service: which pod it is of, and who was on it.
type serviceScene struct {
	*scene
	svc    *served
	victim *corev1.Pod
	// on are the clients that the victim had.
	on   []int
	line serviceLine
}

// scene runs one case: fresh clients, who are where kube-proxy leads them, all
// well before, f, and all well again. Until then it has the turn.
func (s *served) scene(t *testing.T, r *servicesReport, name string, f func(*serviceScene)) {
	t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
		sc := &serviceScene{
			scene: &scene{world: s.world, t: t, name: string(s.Speech) + " " + name, began: time.Now()},
			svc:   s,
			line:  serviceLine{Service: string(s.Speech), Fault: name},
		}
		started := time.Now()
		defer func() { sc.keep(r) }()
		over := sc.come()
		f(sc)
		if err := s.allWell(t.Context()); err != nil {
			t.Errorf("not everything is well again: %v", err)
		} else {
			sc.line.Again = seconds(time.Since(sc.mended))
		}
		over()
		sc.onlyAwayWasDead(started)
	})
}

// calmBefore is how long every client has been answered without trouble before a fault:
// kernels are asked for all connections every 30 s, and tell a new number a few seconds later.
const calmBefore = 36 * time.Second

// come brings fresh clients, waits for the turn, and chooses the pod that the fault is of.
func (s *serviceScene) come() (over func()) {
	s.t.Helper()
	s.must(s.svc.allWell(s.t.Context()))
	over = s.turns(s.t)
	s.fresh(s.t, serviceClients, 0, s.svc)
	over() // others may break something meanwhile
	s.must(pause(s.t.Context(), calmBefore))
	s.svc.calm(s.t, serviceClients, calmBefore)
	over = s.turns(s.t)
	s.svc.calm(s.t, serviceClients, calmBefore)
	s.victim, s.on = s.svc.choose(s.t)
	s.line.On = len(s.on)
	return over
}

// clients are all of them, as they are now.
func (s *serviceScene) clients() []service.Client {
	s.t.Helper()
	all, err := s.svc.ask(s.t.Context(), s.svc.crowd())
	s.must(err)
	return all
}

// answered waits until most of the victim's clients have answers again.
func (s *serviceScene) answered(limit time.Duration) {
	s.t.Helper()
	s.await("its clients to have answers again", limit, func() (bool, error) {
		all, err := s.svc.ask(s.t.Context(), s.svc.crowd())
		if err != nil {
			return false, err
		}
		now := time.Now()
		_, ok := service.AnsweredWithin(of(all, s.on), answeredShare, s.began, now)
		return ok, fmt.Errorf("less than %.0f %% of %d have", 100*answeredShare, len(s.on))
	})
}

// spared notes how many connections were ended of pods that were well, and when
// its clients had answers again, now that all is over.
func (s *serviceScene) spared() {
	s.t.Helper()
	all, now := s.clients(), time.Now()
	if s.victim != nil {
		if took, ok := service.AnsweredWithin(of(all, s.on), answeredShare, s.began, now); ok {
			s.line.Answered = seconds(took)
		} else {
			s.line.Answered = "not in " + seconds(now.Sub(s.began))
		}
	}
	for _, c := range all {
		for pod, n := range c.Broken {
			switch {
			case pod == "":
				s.line.Unknown += n
			case s.victim != nil && pod == s.victim.Name:
				s.line.Ended += n
			default:
				s.line.Wrongly += n
			}
		}
	}
	if s.line.Wrongly > 0 {
		s.t.Errorf("%d connections of pods that were well were ended", s.line.Wrongly)
	}
}

// allFailovers are those that were made after the fault.
func (s *serviceScene) allFailovers() ([]v1alpha1.Failover, error) {
	var list v1alpha1.FailoverList
	if err := s.api.List(s.t.Context(), &list, client.InNamespace(s.svc.Namespace)); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(f v1alpha1.Failover) bool { return f.CreationTimestamp.Add(time.Second).Before(s.began) }), nil
}

// failover is the victim's.
func (s *serviceScene) failover() (*v1alpha1.Failover, error) {
	list, err := s.allFailovers()
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Spec.Server == s.victim.Name {
			return &list[i], nil
		}
	}
	return nil, fmt.Errorf("there is no Failover of %s", s.victim.Name)
}

// decided waits for a Failover of the victim that is acted upon.
func (s *serviceScene) decided() *v1alpha1.Failover {
	s.t.Helper()
	var f *v1alpha1.Failover
	s.await("a Failover of "+s.victim.Name, time.Minute, func() (bool, error) {
		var err error
		if f, err = s.failover(); err != nil {
			return false, err
		}
		return f.Status.DecidedAt != nil, fmt.Errorf("%s is %+v", f.Name, f.Status)
	})
	return f
}

// after says how long after the fault something was; that it is not known, too.
func (s *serviceScene) after(at *metav1.MicroTime) string {
	if at == nil {
		return "?"
	}
	return seconds(at.Sub(s.began))
}

// held says why Rollcall moves nobody; empty: it does not hold back.
func (s *serviceScene) held() (string, error) {
	p, err := s.svc.presence(s.t.Context())
	if err != nil {
		return "", err
	}
	if c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionFrozen); c != nil && c.Status == metav1.ConditionTrue {
		return "Frozen " + c.Reason, nil
	}
	list, err := s.allFailovers()
	if err != nil {
		return "", err
	}
	for i := range list {
		if c := meta.FindStatusCondition(list[i].Status.Conditions, v1alpha1.ConditionProcessing); c != nil && c.Reason == v1alpha1.ReasonNoHeadroom {
			return "Failover " + c.Reason, nil
		}
	}
	return "", fmt.Errorf("the Presence says %s, %+v; there are %d Failovers", p.Status.Reason, p.Status.Counts, len(list))
}

// note notes what a Failover came to.
func (s *serviceScene) note(f *v1alpha1.Failover) {
	st := f.Status
	state := "?"
	if c := meta.FindStatusCondition(st.Conditions, v1alpha1.ConditionProcessing); c != nil {
		state = c.Reason
	}
	severed := "nobody asked to sever"
	if st.Severed != nil {
		severed = fmt.Sprintf("%d severed", st.Severed.Connections)
	}
	s.line.Failovers = append(s.line.Failovers, fmt.Sprintf("%s %s: %s, %d moved, %d pending, over after %s", f.Spec.Reason, state, severed, st.Moved, st.Pending, s.after(st.CompletedAt)))
}

// readiness notes when the pods' own readiness probes failed.
func (s *serviceScene) readiness() {
	said := "stayed Ready"
	at := s.world.line.first(s.began, podReady, s.victim.Name, func(r row) bool { return r["Ready"] != "true" })
	if !at.IsZero() {
		said = "not Ready after " + seconds(at.Sub(s.began))
	}
	s.line.Readiness = said
}

// keep writes down what was seen.
func (s *serviceScene) keep(r *servicesReport) {
	s.line.Failed = s.t.Failed()
	r.add(s.line)
	s.t.Log("\n" + s.line.text())
	ctx, cancel := lasting(s.t)
	defer cancel()
	objects, err := s.run(ctx, "", s.kubectl, "get", "presences,failovers,endpointslices,pods", "--namespace", s.svc.Namespace, "--output=yaml", "--show-managed-fields=false")
	if err != nil {
		s.t.Log(err)
	}
	var clients []byte
	if all, err := s.svc.ask(ctx, s.svc.crowd()); err != nil {
		s.t.Log(err)
	} else if clients, err = json.Marshal(all); err != nil {
		s.t.Error(err)
	}
	text := fmt.Sprintf("%s\nfault of %s at %s, mended %s later\n%s\n%s\n%s\n", s.line.text(), nameOf(s.victim), s.began.UTC().Format(time.RFC3339Nano),
		s.mended.Sub(s.began).Round(time.Millisecond), s.world.line.text(s.began), clients, objects)
	name := filepath.Join(*output, "services-"+strings.ReplaceAll(s.name, " ", "-")+".txt")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		s.t.Error(err)
	}
	if s.t.Failed() {
		s.logs()
	}
}

func nameOf(p *corev1.Pod) string {
	if p == nil {
		return "all pods"
	}
	return p.Name
}
