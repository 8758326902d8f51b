package e2e

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// etcdAwayFor is how long all of etcd is away, once all its members have ended.
const etcdAwayFor = 20 * time.Second

// leaderKilled stops a server, and kills the leader while its clients are moved.
func leaderKilled(t *testing.T, s *scene) {
	s.needFaults(t)
	victim := s.victim(t)
	leader, err := s.leader(t.Context())
	s.must(err)
	s.begin()
	resume := s.fault(func() { s.signal(t, victim, "STOP") }, func() { s.signal(t, victim, "CONT") })
	s.await("a Failover to be in progress", time.Minute, func() (bool, error) {
		f, err := s.failover(victim.Name)
		if err != nil {
			return false, err
		}
		if f.Status.CompletedAt != nil {
			t.Fatalf("%s was over before the leader could be killed", f.Name)
		}
		return true, nil
	})
	s.signal(t, leader, "KILL")
	s.line.say("the leader was killed after %s", seconds(time.Since(s.began)))
	led := s.await("another leader", time.Minute, func() (bool, error) {
		now, err := s.leader(t.Context())
		if err != nil {
			return false, err
		}
		return now.Name != leader.Name || restarts(now) > restarts(leader), fmt.Errorf("%s still says that it leads", now.Name)
	})
	s.line.say("another led after %s", seconds(led))
	s.movedAway(victim.Name, 90*time.Second)
	s.line.kubernetes("-")
	resume()
	s.line.say("after the server went on: HEALTHY again after %s", s.healthy(servers))
}

// etcdLost kills one member, and then has all of them end.
func etcdLost(t *testing.T, s *scene) {
	s.needFaults(t)
	s.begin()
	member := s.pod(t, release+"-etcd-0")
	s.signal(t, member, "KILL")
	s.await("the member to be started anew", 2*time.Minute, func() (bool, error) {
		pod, err := s.kube.CoreV1().Pods(namespace).Get(t.Context(), member.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return restarts(pod) > restarts(member) && ready(pod), fmt.Errorf("it is %+v", pod.Status.ContainerStatuses)
	})
	s.saidOfServers()
	s.never(servers, "Dead")
	s.line.say("one member: back after %s", seconds(time.Since(s.began)))

	all := time.Now()
	back := s.fault(func() { s.scaleEtcd(t, 0) }, func() { s.scaleEtcd(t, 3) })
	s.await("all members to end", 2*time.Minute, func() (bool, error) {
		members, err := s.part(t.Context(), "etcd")
		return err == nil && len(members) == 0, fmt.Errorf("%d are left: %w", len(members), err)
	})
	s.must(pause(t.Context(), etcdAwayFor))
	if at := s.world.line.first(all, presences, servers, func(r row) bool { return r["Ready"] == "False" }); at.IsZero() {
		s.line.say("all members: nothing new while they were away, for nobody leads and nobody writes")
	} else {
		s.line.say("all members: READY False after %s", seconds(at.Sub(all)))
	}
	back()
	s.await("a leader", 2*time.Minute, func() (bool, error) {
		_, err := s.leader(t.Context())
		return err == nil, err
	})
	s.line.say("a controller led again %s after they were wanted again", seconds(time.Since(s.mended)))
	s.noFailover()
	s.line.kubernetes("-")
}

func (s *scene) scaleEtcd(t *testing.T, members int) {
	t.Helper()
	ctx, cancel := lasting(t)
	defer cancel()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, members)
	if _, err := s.kube.AppsV1().StatefulSets(namespace).Patch(ctx, release+"-etcd", types.MergePatchType, patch, metav1.PatchOptions{}, "scale"); err != nil {
		t.Fatal(err)
	}
}

// apiStopped stops the API server; nothing may come of it.
func apiStopped(t *testing.T, s *scene) {
	s.needFaults(t)
	s.begin()
	resume := s.fault(func() { s.must(s.faults.StopAPI(t.Context())) }, func() {
		ctx, cancel := lasting(t)
		defer cancel()
		if err := s.faults.ResumeAPI(ctx); err != nil {
			t.Error(err)
		}
	})
	s.lasts(*awayFor)
	if s.world.line.away().IsZero() {
		t.Error("the API server answered all the time: the fault was not made")
	}
	resume()
	s.await("the API server to answer", time.Minute, func() (bool, error) {
		return s.world.line.away().IsZero(), fmt.Errorf("it does not")
	})
	s.line.say("nothing could be asked for %s", seconds(time.Since(s.began)))
	s.must(s.allReady(t.Context()))
	s.never(nodes, "Dead")
	s.never(servers, "Dead")
	s.never(servers, "Overloaded")
	s.saidOfServers()
	s.noFailover()
	s.line.kubernetes("nodes may turn Unknown once it is back")
}
