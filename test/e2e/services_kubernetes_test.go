package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rollcall-dev/rollcall/test/e2e/service"
)

const (
	plainNamespace = "shop-plain"
	// plainClients are how many use each service that only Kubernetes looks after. Answers
	// cost them ten times what is usual, so that a pod has as much to do as with ten times as many.
	plainClients, plainUnits = 30, 40
	// plainCalm is how long they have been answered without trouble before a fault.
	plainCalm = 5 * time.Second
	// plainWatched is how long what comes of a fault is looked at; for plainAlone, in which
	// every probe has had its say, nothing else is broken.
	plainWatched, plainAlone = time.Minute, 35 * time.Second
)

// probeKind is a way in which Kubernetes finds out that a pod hangs.
type probeKind struct {
	// name is its service's, what it is in words, yaml a line of the container's.
	name, what, yaml string
}

// probeKinds are as Kubernetes has them (every 10 s, 1 s of patience, 3 failures), but for the last.
var probeKinds = []probeKind{
	{"tcp-readiness", "`tcpSocket` readiness", "readinessProbe: {tcpSocket: {port: app}}"},
	{"http-readiness", "`httpGet` readiness", "readinessProbe: {httpGet: {path: /healthz, port: app}}"},
	{"http-liveness", "`httpGet` liveness", "livenessProbe: {httpGet: {path: /healthz, port: app}}"},
	{"hard-liveness", "`httpGet` liveness every 1 s, 2 failures", "livenessProbe: {httpGet: {path: /healthz, port: app}, periodSeconds: 1, timeoutSeconds: 1, failureThreshold: 2}"},
}

// besideKubernetes makes the same faults of services that only Kubernetes looks after,
// one for each kind of probe, all of them at the same time.
func (w *world) besideKubernetes(t *testing.T, r *servicesReport) {
	w.space(t, plainNamespace)
	w.line.alsoPodsOf(plainNamespace)
	var all []*plain
	for _, k := range probeKinds {
		all = append(all, &plain{served: w.deploy(t, workload{Namespace: plainNamespace, Name: k.name, Speech: service.HTTP, Probes: k.yaml}), kind: k})
	}
	for _, f := range serviceFaults {
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) { w.plainRound(t, r, all, f.name, f.hang) })
	}
	t.Run("all-three-overloaded-by-load", func(t *testing.T) { w.floodPlain(t, r) })
}

// plain is a service that only Kubernetes looks after.
type plain struct {
	*served
	kind probeKind
	// victim is the pod that was broken last, at began; on are its clients.
	victim *corev1.Pod
	on     []int
	began  time.Time
}

// plainRound makes one fault. What it broke is replaced at the next.
func (w *world) plainRound(t *testing.T, r *servicesReport, all []*plain, name string, hang hang) {
	over := w.turns(t)
	var services []*served
	for _, p := range all {
		services = append(services, p.served)
		if p.victim != nil {
			if err := p.delete(t.Context(), p.victim.Name); err != nil {
				t.Fatal(err)
			}
			p.victim = nil
		}
	}
	for _, p := range all {
		p.await(t)
	}
	w.fresh(t, plainClients, plainUnits, services...)
	over()
	calm := func() {
		for _, p := range all {
			p.calm(t, plainClients, plainCalm)
		}
	}
	calm()
	over = w.turns(t)
	calm()
	for _, p := range all {
		p.victim, p.on = p.choose(t)
		do, _ := hang(t, p.served, p.victim)
		p.began = time.Now()
		do()
	}
	last := all[len(all)-1].began
	for _, at := range []time.Duration{plainAlone, plainWatched} {
		if err := pause(t.Context(), at-time.Since(last)); err != nil {
			t.Fatal(err)
		}
		over()
	}
	for _, p := range all {
		text, err := p.said(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s, %s: %s", name, p.kind.name, text)
		r.addPlain(name, p.kind, text)
	}
}

// said is what Kubernetes did about the victim, and when its clients had answers again.
func (p *plain) said(ctx context.Context) (string, error) {
	first := func(so func(row) bool) time.Time { return p.line.first(p.began, podReady, p.victim.Name, so) }
	before := fmt.Sprint(restarts(p.victim))
	did := "stayed Ready"
	if at := first(func(r row) bool { return r["Restarts"] != before }); !at.IsZero() {
		did = "restarted after " + seconds(at.Sub(p.began))
	} else if at := first(func(r row) bool { return r["Ready"] != "true" }); !at.IsZero() {
		did = "not Ready after " + seconds(at.Sub(p.began))
	}
	clients, err := p.ask(ctx, p.crowd())
	if err != nil {
		return "", err
	}
	answers := "not within " + seconds(plainWatched)
	if took, ok := service.AnsweredWithin(of(clients, p.on), answeredShare, p.began, time.Now()); ok {
		answers = "after " + seconds(took)
	}
	return did + "; answers " + answers, nil
}

// await waits until all its pods are Ready.
func (s *served) await(t *testing.T) {
	t.Helper()
	if err := poll(t.Context(), "the pods of "+s.Name+" to be Ready", readyWithin, func() (bool, error) {
		err := s.takesClients(t.Context())
		return err == nil, err
	}); err != nil {
		t.Fatal(err)
	}
}

// restarts is how often its pods' containers were started anew.
func (s *served) restarts(ctx context.Context) (int, error) {
	pods, err := s.podsOf(ctx)
	n := 0
	for i := range pods {
		n += restarts(&pods[i])
	}
	return n, err
}
