package controllers

import (
	"os/exec"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestAHungServerIsEmptiedAndGetsItsShareBack(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAutomatic)
	w.watchClients()
	c, _ := w.controller("one")
	w.ready(c)
	hung, left, right := w.servers["server-2"], w.servers["server-0"], w.servers["server-1"]
	w.eventually("all servers are alive", func() bool {
		p := w.presence("servers")
		return says(p, v1alpha1.ConditionHealthy, "True", v1alpha1.ReasonAllAlive) && p.Status.Counts.Alive == 3 &&
			says(p, v1alpha1.ConditionReady, "True", v1alpha1.ReasonJudging) &&
			says(p, v1alpha1.ConditionFrozen, "False", v1alpha1.ReasonNotFrozen) &&
			says(p, v1alpha1.ConditionFewObservers, "False", v1alpha1.ReasonEnough)
	})
	w.eventually("all clients are counted", func() bool { return w.presence("apps").Status.Counts.Alive == 300 })

	// Some have left before two observers have spoken.
	left.takes(hung, 5, 0)
	w.hear(hung, wire.BandHung, "a")
	w.always("one observer moves nobody", 300*time.Millisecond, func() bool { return w.directive("server-2") == nil })
	second := time.Now()
	w.hear(hung, wire.BandHung, "b")
	directive, seen := w.directed("server-2")
	t.Logf("from the second hung observation to the directive: %v", seen.Sub(second))
	if !directive.Drain || directive.Incarnation != hung.record.Incarnation || len(directive.Targets) != 2 || directive.Rate <= 0 {
		t.Errorf("the directive is %+v", directive)
	}
	w.eventually("the label is turned", func() bool { return w.accepting("server-2") == "false" })
	t.Logf("to the label: %v", time.Since(second))
	fo := w.outcome("server-2", v1alpha1.FailoverOverloaded, v1alpha1.ReasonMoving)
	t.Logf("to the Failover's status: %v", time.Since(second))
	if fo.Spec.Clients != 100 || fo.Status.Receivers != 2 || fo.Spec.Evidence == "" || fo.Spec.DetectedAt == nil {
		t.Errorf("the Failover is %+v", fo.Spec)
	}
	w.eventually("the Presence says so", func() bool {
		p := w.presence("servers")
		return says(p, v1alpha1.ConditionHealthy, "False", v1alpha1.ReasonOverloaded) && *p.Status.Counts.Overloaded == 1 &&
			len(p.Status.NotAlive) == 1 && p.Status.NotAlive[0].Name == "server-2"
	})
	t.Logf("to the status of the Presence: %v", time.Since(second))
	w.eventually("its clients are orphaned, but for those who left", func() bool {
		p := w.presence("apps")
		return says(p, v1alpha1.ConditionHealthy, "False", v1alpha1.ReasonOrphaned) && p.Status.Counts.Suspect == 95 && p.Status.Counts.Alive == 205
	})

	left.takes(hung, 30, 10)
	w.eventually("progress is counted", func() bool {
		fo = w.failover("server-2", v1alpha1.FailoverOverloaded)
		return fo.Status.Moved == 40 && fo.Status.Pending == 60 && fo.Status.MovedBy == v1alpha1.MovedBy{Directive: 30, OwnTimeout: 10}
	})
	if fo.Status.FirstMovedAt == nil {
		t.Error("when the first was moved is not told")
	}
	hung.gone() // its lease ends: it is stopped
	right.takes(hung, 60, 0)
	fo = w.outcome("server-2", v1alpha1.FailoverOverloaded, v1alpha1.ReasonMoved)
	if fo.Status.Pending != 0 || fo.Status.Moved != 100 || fo.Status.CompletedAt == nil {
		t.Errorf("at the end its status is %+v", fo.Status)
	}
	wait := exec.CommandContext(t.Context(), w.cp.Kubectl(), "--kubeconfig", w.cp.AdminKubeconfig(), "-n", w.namespace,
		"wait", "--for=condition=Succeeded", "--timeout=60s", "failover/"+fo.Name)
	if out, err := wait.CombinedOutput(); err != nil {
		t.Errorf("kubectl wait: %v: %s", err, out)
	}
	w.eventually("nobody is counted twice", func() bool {
		p := w.presence("apps")
		return p.Status.Counts.Members == 300 && p.Status.Counts.Alive == 300
	})
	if w.directive("server-2") == nil || w.accepting("server-2") != "false" {
		t.Error("a server that does not answer was let in again")
	}

	// It wakes, has lost its sessions, and answers again.
	hung.record.Sessions = nil
	hung.register()
	w.hear(hung, wire.BandOK, "a", "b", "c")
	w.eventually("it is let in again", func() bool { return w.directive("server-2") == nil && w.accepting("server-2") == "true" })
	w.eventually("its share comes back", func() bool {
		a, b := w.directive("server-0"), w.directive("server-1")
		return a != nil && !a.Drain && a.Count > 0 || b != nil && !b.Drain && b.Count > 0
	})
	giver := left
	if w.directive("server-0") == nil {
		giver = right
	}
	back := w.outcome(giver.pod.Name, v1alpha1.FailoverReturned, v1alpha1.ReasonMoving)
	hung.takes(giver, int(*back.Spec.Count), 0)
	giver.holds(giver.record.Total() - int(*back.Spec.Count))
	w.outcome(giver.pod.Name, v1alpha1.FailoverReturned, v1alpha1.ReasonMoved)
	w.eventually("its directive is withdrawn", func() bool { return w.directive(giver.pod.Name) == nil })
	if w.accepting(giver.pod.Name) != "true" {
		t.Error("a server that only gave some clients away was taken out")
	}
}

func TestAdviseRecordsAndDoesNothing(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAdvise)
	c, _ := w.controller("one")
	w.ready(c)
	w.hear(w.servers["server-1"], wire.BandHung, "a", "b", "c")
	fo := w.outcome("server-1", v1alpha1.FailoverOverloaded, v1alpha1.ReasonAdvised)
	if !failover.Finished(fo) {
		t.Error("advice is not finished at once")
	}
	w.always("nothing is done, and it is said once", time.Second, func() bool {
		return w.directive("server-1") == nil && w.accepting("server-1") == "true" && len(w.failovers()) == 1
	})
}

func TestNothingIsDoneWhenTwoOfThreeServersAreLost(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAutomatic)
	c, _ := w.controller("one")
	w.ready(c)
	w.hear(w.servers["server-0"], wire.BandHung, "a")
	w.hear(w.servers["server-1"], wire.BandHung, "a")
	// Both at once: the second word on each in one report.
	w.both("b", wire.BandHung, w.servers["server-0"], w.servers["server-1"])
	w.eventually("it is frozen", func() bool {
		p := w.presence("servers")
		return says(p, v1alpha1.ConditionFrozen, "True", v1alpha1.ReasonTooManyLost) && *p.Status.Counts.Overloaded == 2
	})
	w.always("nothing is done", 500*time.Millisecond, func() bool {
		return len(w.failovers()) == 0 && w.directive("server-0") == nil && w.directive("server-1") == nil
	})
}

func TestANewLeaderTakesAFailoverOverMidway(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAutomatic)
	first, stop := w.controller("one")
	w.ready(first)
	w.eventually("it leads", first.Leading)
	second, _ := w.controller("two")
	w.ready(second)
	hung := w.servers["server-2"]
	w.hear(hung, wire.BandHung, "a", "b")
	w.servers["server-0"].takes(hung, 10, 0)
	w.eventually("some have moved", func() bool {
		fo := w.failover("server-2", v1alpha1.FailoverOverloaded)
		return fo != nil && fo.Status.Moved == 10
	})
	if second.Leading() {
		t.Fatal("both lead")
	}
	stop()
	w.eventually("the standby leads", second.Leading)
	w.servers["server-1"].takes(hung, 90, 0)
	fo := w.outcome("server-2", v1alpha1.FailoverOverloaded, v1alpha1.ReasonMoved)
	if fo.Status.Moved != 100 || len(w.failovers()) != 1 {
		t.Errorf("%d Failovers, moved %d", len(w.failovers()), fo.Status.Moved)
	}
}

func TestAReplicaThatDoesNotLeadWritesNothing(t *testing.T) {
	w := newWorld(t, 3)
	release := w.occupy()
	p := w.watchServers(v1alpha1.ModeAutomatic)
	c, _ := w.controller("standby")
	w.ready(c)
	w.hear(w.servers["server-2"], wire.BandHung, "a", "b", "c")
	w.eventually("it judges", func() bool {
		return c.judge.Last().State(w.servers["server-2"].name()).Bad()
	})
	w.always("it writes nothing", 500*time.Millisecond, func() bool {
		return len(w.failovers()) == 0 && w.directive("server-2") == nil && w.accepting("server-2") == "true" &&
			w.presence("servers").ResourceVersion == p.ResourceVersion && w.presence("nodes").Name == ""
	})
	// Warm as it is, it acts as soon as it leads.
	release()
	w.directed("server-2")
}

func TestAPersonDrainsAServer(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAdvise) // a person's word goes before the mode
	c, _ := w.controller("one")
	w.ready(c)
	drain := &v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "by-hand"},
		Spec:       v1alpha1.FailoverSpec{Presence: "servers", Server: "server-1"},
	}
	w.create(drain)
	d, _ := w.directed("server-1")
	if !d.Drain || len(d.Targets) != 2 || d.Failover != w.namespace+"/by-hand" {
		t.Errorf("the directive is %+v", d)
	}
	w.eventually("the label is turned", func() bool { return w.accepting("server-1") == "false" })
	drained := w.servers["server-1"]
	w.servers["server-0"].takes(drained, 50, 0)
	w.servers["server-2"].takes(drained, 49, 0)
	drained.record.Ended = 1 // one has said goodbye meanwhile
	drained.holds(0)
	fo := w.outcome("server-1", v1alpha1.FailoverDrain, v1alpha1.ReasonMoved)
	if fo.Status.Moved != 99 || fo.Status.Lost != 1 || fo.Status.Pending != 0 {
		t.Errorf("at the end its status is %+v", fo.Status)
	}
	w.always("it stays out though it is alive", 1500*time.Millisecond, func() bool {
		return w.directive("server-1") != nil && w.accepting("server-1") == "false"
	})
	if err := w.api.Delete(t.Context(), fo); err != nil {
		t.Fatal(err)
	}
	w.eventually("deleting the Failover lets it in again", func() bool {
		return w.directive("server-1") == nil && w.accepting("server-1") == "true"
	})
}

func TestAFailoverThatIsDeletedIsCancelled(t *testing.T) {
	w := newWorld(t, 3)
	p := w.watchServers(v1alpha1.ModeAutomatic)
	c, _ := w.controller("one")
	w.ready(c)
	w.hear(w.servers["server-2"], wire.BandHung, "a", "b", "c")
	w.directed("server-2")
	w.eventually("the label is turned", func() bool { return w.accepting("server-2") == "false" })
	// Off, so that it isn't decided again at once.
	patch := client.MergeFrom(p.DeepCopy())
	p.Spec.Servers.Failover.Mode = v1alpha1.ModeOff
	if err := w.api.Patch(t.Context(), p, patch); err != nil {
		t.Fatal(err)
	}
	w.outcome("server-2", v1alpha1.FailoverOverloaded, v1alpha1.ReasonCancelled)
	w.eventually("the server is let in again", func() bool {
		return w.directive("server-2") == nil && w.accepting("server-2") == "true"
	})
	w.create(&v1alpha1.Failover{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "by-hand"},
		Spec:       v1alpha1.FailoverSpec{Presence: "servers", Server: "server-0"},
	})
	w.directed("server-0")
	if err := w.api.DeleteAllOf(t.Context(), &v1alpha1.Failover{}, client.InNamespace(w.namespace)); err != nil {
		t.Fatal(err)
	}
	w.eventually("that of the deleted is withdrawn too", func() bool {
		return w.directive("server-0") == nil && w.accepting("server-0") == "true"
	})
}
