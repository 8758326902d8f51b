package judge

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/evidence"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// manyServices is a Judge of so many Presences in one namespace, each with a
// Service of its own and three pods, all of which answer three agents in time.
func manyServices(b *testing.B, presences int) *Judge {
	const pods, nodes = 3, 3
	clock := func() time.Time { return time.Unix(1_800_000_000, 0) }
	ours := v1alpha1.Installation{Namespace: "rollcall-system"}
	s, book := &shelf{}, evidence.New(clock)
	observations := map[store.ObservationKey]store.Observation{}
	beats := map[store.SessionKey]store.Session{}
	for n := range nodes {
		node := fmt.Sprintf("node-%d", n)
		s.nodes = append(s.nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{corev1.LabelTopologyZone: node}}})
		for session := range 2 {
			beats[store.SessionKey{Namespace: ours.Namespace, Presence: "nodes", Client: fmt.Sprintf("%s:%d", node, session)}] = store.Session{Server: "rollcall-system/server-0"}
		}
	}
	for i := range presences {
		app := fmt.Sprintf("shop-%d", i)
		s.presences = append(s.presences, v1alpha1.Presence{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shops", Name: app, UID: types.UID(app)},
			Spec: v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
				Selector: metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": app, "app.kubernetes.io/part-of": "shop"}},
				Port:     intstr.FromString("web"), Probe: v1alpha1.ProbeSpec{HTTP: &v1alpha1.HTTPProbe{}},
				Overload: v1alpha1.OverloadSpec{Observers: 3},
				Failover: v1alpha1.FailoverPolicy{Mode: v1alpha1.ModeAutomatic},
			}},
		})
		s.services = append(s.services, corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shops", Name: app},
			Spec: corev1.ServiceSpec{
				ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("web")}},
				Selector: map[string]string{"app.kubernetes.io/name": app, "app.kubernetes.io/part-of": "shop", v1alpha1.AcceptingLabel: "true"},
			},
		})
		for n := range pods {
			p := corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shops", Name: fmt.Sprintf("%s-%d", app, n), UID: types.UID(fmt.Sprintf("%s-%d", app, n)), Labels: map[string]string{
					"app.kubernetes.io/name": app, "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/instance": app,
					"pod-template-hash": "6d4cf56db6", v1alpha1.AcceptingLabel: "true",
				}},
				Spec: corev1.PodSpec{
					NodeName:   fmt.Sprintf("node-%d", n%nodes),
					Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}}},
				},
				Status: corev1.PodStatus{
					Phase: corev1.PodRunning, PodIP: "10.0.0.1",
					Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
				},
			}
			s.pods = append(s.pods, p)
			for o := range nodes {
				by := fmt.Sprintf("node-%d", o)
				observations[store.ObservationKey{Server: "shops/" + p.Name, Observer: by}] = store.Observation{
					Observation: wire.Observation{Band: wire.BandOK, Answered: true, Answer: 900}, Node: by, Zone: by, Boot: 1, Seq: 1,
				}
			}
		}
	}
	book.UpdateServers(store.Update[string, store.Server]{Reset: true})
	book.UpdateObservations(store.Update[store.ObservationKey, store.Observation]{Reset: true, Put: observations})
	book.UpdateSuspicions(store.Update[store.SuspicionKey, store.Suspicion]{Reset: true})
	book.UpdateBeats(store.Update[store.SessionKey, store.Session]{Reset: true, Put: beats})
	book.UpdateDirectives(store.Update[string, store.Directive]{Reset: true})
	book.UpdatePause(store.Update[string, store.Pause]{Reset: true})
	book.UpdateAssignments(store.Update[string, store.Assignment]{Reset: true})
	book.UpdateDue(store.Update[string, store.Due]{Reset: true})
	book.UpdatePenalties(store.Update[string, store.Penalty]{Reset: true})
	j, err := New(Config{
		Book: book, Cache: s, Ledger: failover.NewLedger(s, ours, clock), Installation: ours,
		Leading: func() bool { return true }, Away: func(time.Time) time.Duration { return 0 }, Now: clock,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Publish: func(context.Context, *Result) {},
		GatesForbidden: func() bool { return false },
	})
	if err != nil {
		b.Fatal(err)
	}
	return j
}

// judged makes one judgement, in which all are well and have one Service that follows.
func judged(b *testing.B, j *Judge, presences int) {
	now := j.cfg.Now()
	r, err := j.judge(b.Context(), now)
	if err != nil {
		b.Fatal(err)
	}
	if len(r.Populations) != presences {
		b.Fatalf("%d Presences are judged", len(r.Populations))
	}
	last := r.Of("shops", fmt.Sprintf("shop-%d", presences-1))
	if state := r.State("shops/shop-0-2"); state != verdict.Alive || len(last.Pods) != 3 || len(last.Diversion.Following) != 1 {
		b.Fatalf("a server is %v, %d are of the last Presence, led to by %v", state, len(last.Pods), last.Diversion.Following)
	}
}

// BenchmarkEnrolment is what a change of any pod, Service or Presence costs, where so
// many Presences of services are in one namespace; the judgement that follows included.
func BenchmarkEnrolment(b *testing.B) {
	judgements(b, func(j *Judge) { j.stale.Store(true) })
}

// BenchmarkJudgement is what any other change costs: a word of an observer, or a
// second that has passed.
func BenchmarkJudgement(b *testing.B) {
	judgements(b, func(*Judge) {})
}

// judgements makes one after the other, a change before each.
func judgements(b *testing.B, change func(*Judge)) {
	for _, presences := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("presences=%d", presences), func(b *testing.B) {
			j := manyServices(b, presences)
			judged(b, j, presences)
			for b.Loop() {
				change(j)
				judged(b, j, presences)
			}
		})
	}
}
