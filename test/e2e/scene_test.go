package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// readyWithin is how long everything may take to be Ready again. A node that was
// powered off has its pods to start, and Kubernetes waits longer and longer
// before it starts one again.
const readyWithin = 5 * time.Minute

// scene is one fault: what was broken and when, and what came of it.
type scene struct {
	*world
	t    *testing.T
	name string
	// began is when the fault was made; mended when it was taken back.
	began, mended time.Time
	// away is the one node that may be held dead; empty: none may.
	away   string
	line   line
	before map[string]float64
}

// scene runs one case: everything is Ready before, the fault is made and mended by
// f, nobody is declared offline, and everything is Ready again.
func (w *world) scene(t *testing.T, name string, f func(t *testing.T, s *scene)) {
	t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
		if err := w.allReady(t.Context()); err != nil {
			t.Fatalf("not everything was Ready before: %v", err)
		}
		s := &scene{world: w, t: t, name: name, began: time.Now(), line: line{Fault: name}}
		s.before = s.orphaned()
		started := s.began
		defer func() { s.keep(started) }()
		f(t, s)
		if s.mended.IsZero() {
			s.mended = time.Now()
		}
		if err := w.allReady(t.Context()); err != nil {
			t.Errorf("not everything is Ready again: %v", err)
		} else {
			s.line.Again = seconds(time.Since(s.mended))
		}
		s.nobodyOffline(started)
		s.onlyAwayWasDead(started)
	})
}

// begin marks the moment of the fault.
func (s *scene) begin() { s.began = time.Now() }

// mend marks the moment from which everything can become Ready again.
func (s *scene) mend() { s.mended = time.Now() }

// must ends the case when something that it needs has failed.
func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// await waits for what must come to pass, and returns how long after the fault it
// was seen.
func (s *scene) await(what string, limit time.Duration, done func() (bool, error)) time.Duration {
	s.t.Helper()
	if err := poll(s.t.Context(), what, limit, done); err != nil {
		s.t.Fatal(err)
	}
	return time.Since(s.began)
}

// said is how long after the fault a line first said so; it must have.
func (s *scene) said(kind, name string, limit time.Duration, columns row) time.Duration {
	s.t.Helper()
	so := func(r row) bool {
		for c, v := range columns {
			if r[c] != v {
				return false
			}
		}
		return true
	}
	s.await(fmt.Sprintf("%s %s to say %v", kind, name, columns), limit, func() (bool, error) {
		if s.world.line.first(s.began, kind, name, so).IsZero() {
			return false, fmt.Errorf("it says %v", s.world.line.says(kind, name))
		}
		return true, nil
	})
	return s.world.line.first(s.began, kind, name, so).Sub(s.began)
}

// failover is the newest one of a server that was made after the fault.
func (s *scene) failover(server string) (*v1alpha1.Failover, error) {
	var list v1alpha1.FailoverList
	if err := s.api.List(s.t.Context(), &list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var found *v1alpha1.Failover
	for i := range list.Items {
		f := &list.Items[i]
		if f.Spec.Server != server || f.CreationTimestamp.Add(time.Second).Before(s.began) || f.Spec.Reason == v1alpha1.FailoverReturned || f.Spec.Reason == v1alpha1.FailoverRebalance {
			continue
		}
		if found == nil || found.CreationTimestamp.Before(&f.CreationTimestamp) {
			found = f
		}
	}
	if found == nil {
		return nil, fmt.Errorf("there is no Failover of %s", server)
	}
	return found, nil
}

// movedAway waits until a Failover of a server is over and none of the clients
// is recorded there any more, and notes what it said. Whom it counts as lost is
// noted only: agents' own sessions are among them, and who of the clients is
// declared offline is looked at in etcd.
func (s *scene) movedAway(server string, limit time.Duration) {
	s.t.Helper()
	var f *v1alpha1.Failover
	elsewhere := s.await("the clients of "+server+" to be elsewhere", limit, func() (bool, error) {
		if n := s.witness.on(server); n > 0 {
			f, err := s.failover(server)
			if err != nil {
				return false, err
			}
			return false, fmt.Errorf("%d are recorded there, among them %v; %s is %+v, asked to sever %+v, severed %+v", n, s.witness.some(server),
				f.Name, f.Status, f.Status.Sever, f.Status.Severed)
		}
		n := s.witness.on("")
		return n == s.people.count, fmt.Errorf("%d of %d are recorded at all", n, s.people.count)
	})
	s.await("a Failover of "+server+" to end", limit, func() (bool, error) {
		var err error
		if f, err = s.failover(server); err != nil {
			return false, err
		}
		return f.Status.CompletedAt != nil, fmt.Errorf("%s is %+v", f.Name, f.Status)
	})
	s.noteFailover(f)
	s.line.say("all elsewhere after %s", seconds(elsewhere))
}

// noteFailover notes what a Failover came to.
func (s *scene) noteFailover(f *v1alpha1.Failover) {
	st := f.Status
	state := ""
	for _, c := range st.Conditions {
		if c.Type == v1alpha1.ConditionProcessing {
			state = c.Reason
		}
	}
	text := fmt.Sprintf("%s %s: %d moved (%d told, %d by themselves, %d otherwise), %d lost", f.Spec.Reason, state, st.Moved,
		st.MovedBy.Directive, st.MovedBy.OwnTimeout, st.MovedBy.Severed, st.Lost)
	if st.DecidedAt != nil {
		text += ", decided after " + seconds(st.DecidedAt.Sub(s.began))
	}
	if st.FirstMovedAt != nil {
		text += ", first moved after " + seconds(st.FirstMovedAt.Sub(s.began))
	}
	if st.CompletedAt != nil {
		text += ", over after " + seconds(st.CompletedAt.Sub(s.began))
	}
	s.line.Failovers = append(s.line.Failovers, text)
}

// noFailover checks that none was made for a fault that must move nobody.
func (s *scene) noFailover() {
	s.t.Helper()
	for _, c := range s.world.line.since(s.began) {
		if c.kind == failovers && c.row != nil && c.row["Reason"] != "Rebalance" && c.row["Reason"] != "Returned" {
			s.t.Errorf("a Failover was made that should not have been: %s %v", c.name, c.row)
			return
		}
	}
	s.line.Failovers = append(s.line.Failovers, "none")
}

// never checks that a Presence has counted nobody in a column since the fault.
func (s *scene) never(presence, column string) {
	s.t.Helper()
	at := s.world.line.first(s.began, presences, presence, func(r row) bool { return r[column] != "" && r[column] != "0" })
	if !at.IsZero() {
		s.t.Errorf("%s said %s after %s", presence, column, seconds(at.Sub(s.began)))
	}
}

// orphaned is how many clients each controller's process has declared offline.
func (s *scene) orphaned() map[string]float64 {
	s.t.Helper()
	pods, err := s.part(s.t.Context(), "controller")
	s.must(err)
	declared := map[string]float64{}
	for i := range pods {
		v, err := s.metric(s.t.Context(), pods[i].Name, "rollcall_orphans_offline_total")
		s.must(err)
		// A process that was replaced is another one.
		declared[fmt.Sprintf("%s (%s, restart %d)", pods[i].Name, pods[i].UID, restarts(&pods[i]))] = v
	}
	return declared
}

// nobodyOffline checks that none of the clients, all of whom stay, was ever
// declared offline: in etcd, and by the counters of controllers.
func (s *scene) nobodyOffline(from time.Time) {
	s.t.Helper()
	declared := s.witness.declared(from)
	s.line.Offline = len(declared)
	if len(declared) > 0 {
		s.t.Errorf("%d clients were declared offline that are here:\n%s", len(declared), strings.Join(declared[:min(10, len(declared))], "\n"))
	}
	for name, v := range s.orphaned() {
		if grown := v - s.before[name]; grown > 0 {
			s.t.Errorf("%s counts %v clients that it has declared offline", name, grown)
		}
	}
}

// onlyAwayWasDead checks that no node was ever held dead but that which the fault is of.
func (s *scene) onlyAwayWasDead(from time.Time) {
	s.t.Helper()
	for _, node := range heldDead(s.world.line.since(from)) {
		if node != s.away {
			s.t.Errorf("%s was held dead, and the fault is of %q", node, s.away)
		}
	}
}

// keep writes down what was seen.
func (s *scene) keep(started time.Time) {
	told, err := s.people.heard(context.WithoutCancel(s.t.Context()), sdkName, started)
	if err != nil {
		s.t.Logf("What clients of the SDK say is not known: %v", err)
	}
	s.line.Failed = s.t.Failed()
	s.report.lines = append(s.report.lines, s.line)
	text := fmt.Sprintf("%s\nfault at %s, mended %s later\n%s\nclients of the SDK told: %v\noffline: %q\n", s.line.text(),
		s.began.UTC().Format(time.RFC3339Nano), s.mended.Sub(s.began).Round(time.Millisecond), s.world.line.text(s.began), told, s.witness.declared(started))
	s.t.Log("\n" + s.line.text())
	name := filepath.Join(*output, strings.ReplaceAll(s.name, " ", "-")+".txt")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		s.t.Error(err)
	}
	if s.t.Failed() {
		s.logs()
	}
}

// logs keeps what the parts have logged, of a case that failed.
func (s *scene) logs() {
	ctx, cancel := lasting(s.t)
	defer cancel()
	for _, component := range []string{"controller", "server", "agent", "sever"} {
		pods, err := s.part(ctx, component)
		if err != nil {
			s.t.Log(err)
			return
		}
		s.keepLogs(ctx, pods)
	}
	clients, err := s.kube.CoreV1().Pods(peopleNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		s.t.Log(err)
		return
	}
	s.keepLogs(ctx, clients.Items)
}

func (s *scene) keepLogs(ctx context.Context, pods []corev1.Pod) {
	for i := range pods {
		for _, previous := range []bool{true, false} {
			raw, err := s.kube.CoreV1().Pods(pods[i].Namespace).GetLogs(pods[i].Name, &corev1.PodLogOptions{Previous: previous, Timestamps: true}).DoRaw(ctx)
			if err != nil {
				continue // there was no earlier one, or its node is gone
			}
			suffix := map[bool]string{true: ".previous", false: ""}[previous]
			name := filepath.Join(*output, strings.ReplaceAll(s.name, " ", "-")+"."+pods[i].Name+suffix+".log")
			if err := os.WriteFile(name, raw, 0o644); err != nil {
				s.t.Log(err)
			}
		}
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
