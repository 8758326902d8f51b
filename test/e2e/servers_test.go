package e2e

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/e2e/fault"
)

// stoppedFor is how long a server stays stopped: its liveness probe would have the
// process killed after 60 s, which is another fault.
const stoppedFor = 40 * time.Second

// servers and nodes are the two Presences that an installation makes itself.
const servers, nodes = "servers", "nodes"

// stopped stops a server's process, whose sockets go on accepting.
func stopped(t *testing.T, s *scene) {
	s.needFaults(t)
	victim := s.victim(t)
	s.begin()
	resume := s.fault(func() { s.signal(t, victim, "STOP") }, func() { s.signal(t, victim, "CONT") })
	s.line.say("OVERLOADED 1 after %s", seconds(s.said(presences, servers, time.Minute, row{"Overloaded": "1"})))
	s.movedAway(victim.Name, time.Minute)
	s.lasts(stoppedFor)
	s.podWas(victim.Name)
	resume()
	s.line.say("after it went on: HEALTHY again after %s", s.healthy(servers))
}

// severed stops a server that has clients which would wait for a minute before they
// looked elsewhere, where the severer runs.
func severed(t *testing.T, s *scene) {
	s.needFaults(t)
	s.must(s.upgrade("agent.sever.enabled=true", "--wait"))
	s.must(s.policy(t.Context(), func(f *v1alpha1.FailoverPolicy) { f.Sever.Mode = v1alpha1.SeverPaced }))
	s.must(s.people.come(t.Context(), s.home(t), mosquittoPod(patientName, patients, patientAlive)))
	s.must(s.allReady(t.Context()))
	victim := s.victim(t)
	s.line.say("%d clients of %d on it", s.witness.on(victim.Name), s.people.count)
	s.begin()
	resume := s.fault(func() { s.signal(t, victim, "STOP") }, func() { s.signal(t, victim, "CONT") })
	s.line.say("OVERLOADED 1 after %s", seconds(s.said(presences, servers, time.Minute, row{"Overloaded": "1"})))
	s.movedAway(victim.Name, stoppedFor)
	// The severer says it once more when it is asked no longer.
	s.await("the Failover to say how many connections were severed", 30*time.Second, func() (bool, error) {
		f, err := s.failover(victim.Name)
		if err != nil {
			return false, err
		}
		d := f.Status.Severed
		if d == nil || d.Connections == 0 {
			return false, fmt.Errorf("%s says %+v", f.Name, d)
		}
		s.line.say("%d connections severed", d.Connections)
		return true, nil
	})
	resume()
	s.line.say("after it went on: HEALTHY again after %s", s.healthy(servers))
	s.line.kubernetes("established connections stay")
}

// killed kills a server's process; the kubelet starts it anew.
func killed(t *testing.T, s *scene) {
	s.needFaults(t)
	victim := s.victim(t)
	before := restarts(victim)
	s.begin()
	s.signal(t, victim, "KILL")
	s.await(victim.Name+" to be started anew", time.Minute, func() (bool, error) {
		r := s.world.line.says(podReady, victim.Name)
		return r["Restarts"] == fmt.Sprint(before+1) && r["Ready"] == "true", fmt.Errorf("it is %v", r)
	})
	s.mend()
	s.await("everybody to be online", time.Minute, func() (bool, error) {
		n := s.witness.on("")
		return n == s.people.count, fmt.Errorf("%d are", n)
	})
	s.line.say("everybody online again after %s", seconds(time.Since(s.began)))
	s.saidOfServers()
	s.line.kubernetes("%s", s.unready(podReady, victim.Name))
}

// starved leaves a server 1 ms of CPU time in each second.
func starved(t *testing.T, s *scene) {
	s.needFaults(t)
	victim := s.victim(t)
	id := container(t, victim)
	s.begin()
	feed := s.fault(func() {
		s.must(fault.Quota(t.Context(), s.faults, victim.Spec.NodeName, id, 1000))
	}, func() {
		ctx, cancel := lasting(t)
		defer cancel()
		s.must(fault.Quota(ctx, s.faults, victim.Spec.NodeName, id, 0))
	})
	s.line.say("OVERLOADED 1 after %s", seconds(s.said(presences, servers, 2*time.Minute, row{"Overloaded": "1"})))
	s.movedAway(victim.Name, 2*time.Minute)
	s.podWas(victim.Name)
	feed()
	s.line.say("after it had its CPU again: HEALTHY after %s", s.healthy(servers))
}

// upgraded replaces every server, one after the other.
func upgraded(t *testing.T, s *scene) {
	s.begin()
	s.must(s.upgrade("server.podAnnotations.upgraded=yes"))
	took := s.await("every server to be replaced", 6*time.Minute, func() (bool, error) {
		set, err := s.kube.AppsV1().StatefulSets(namespace).Get(t.Context(), release+"-server", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		st := set.Status
		return st.ObservedGeneration >= set.Generation && st.UpdatedReplicas == *set.Spec.Replicas && st.AvailableReplicas == *set.Spec.Replicas &&
			st.CurrentRevision == st.UpdateRevision, fmt.Errorf("the StatefulSet says %+v", st)
	})
	s.mend()
	s.line.say("all three replaced after %s", seconds(took))
	s.saidOfServers()
	told, err := s.people.heard(t.Context(), sdkName, s.began)
	s.must(err)
	s.line.say("clients of the SDK moved %d times, %d as told", told["Moved"], told["Moved directed"])
	s.line.kubernetes("the same, and connections end with their pods")
}

// upgrade sets one more value of the release.
func (s *scene) upgrade(value string, flags ...string) error {
	args := append([]string{"upgrade", release, s.root + "/charts/rollcall", "--namespace", namespace, "--reuse-values", "--timeout", "10m",
		"--set", value}, imageValues(s.t)...)
	_, err := s.run(s.t.Context(), "", s.helm, append(args, flags...)...)
	return err
}

// healthy waits until a Presence says so, and says how long after mending.
func (s *scene) healthy(presence string) string {
	s.t.Helper()
	s.await(presence+" to be healthy", 2*time.Minute, func() (bool, error) {
		r := s.world.line.says(presences, presence)
		return r["Healthy"] == "True" && r["Ready"] == "True", fmt.Errorf("it says %v", r)
	})
	return seconds(time.Since(s.mended))
}

// lasts waits until the fault is so old.
func (s *scene) lasts(d time.Duration) {
	s.t.Helper()
	s.must(pause(s.t.Context(), d-time.Since(s.began)))
}

// fault makes a fault, and returns what mends it, which is done once: when it is
// called, or when the case ends early, be it that the fault is half made.
func (s *scene) fault(do, mend func()) func() {
	done := false
	once := func() {
		if !done {
			done = true
			mend()
			s.mend()
		}
	}
	s.t.Cleanup(once)
	do()
	return once
}

// podWas notes what Kubernetes's own readiness knew of a server.
func (s *scene) podWas(name string) { s.line.kubernetes("%s", s.unready(podReady, name)) }

// unready says when a node or a pod turned not ready.
func (s *scene) unready(kind, name string) string {
	at := s.world.line.first(s.began, kind, name, func(r row) bool { return r["Ready"] != "True" && r["Ready"] != "true" })
	what := map[string]string{nodeReady: "the node", podReady: "the pod (httpGet, every 2 s, 3 failures)"}[kind]
	if at.IsZero() {
		return what + " stayed Ready"
	}
	return fmt.Sprintf("%s turned not Ready after %s", what, seconds(at.Sub(s.began)))
}

// saidOfServers notes every kind of trouble that the servers' Presence told.
func (s *scene) saidOfServers() { s.saidOf(servers, "Suspect", "Overloaded", "Dead") }

func (s *scene) saidOf(presence string, columns ...string) {
	quiet := true
	for _, column := range columns {
		at := s.world.line.first(s.began, presences, presence, func(r row) bool { return r[column] != "" && r[column] != "0" })
		if !at.IsZero() {
			quiet = false
			s.line.say("%s: %s after %s", presence, column, seconds(at.Sub(s.began)))
		}
	}
	if quiet {
		s.line.say("%s: nobody %v", presence, columns)
	}
}
