package controllers

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/explain"
	"github.com/rollcall-dev/rollcall/controllers/failover"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

func TestDefaultPresencesAreMadeWhereAbsent(t *testing.T) {
	w := newWorld(t, 3)
	w.controller("one")
	w.eventually("both are made", func() bool {
		s, n := w.presence("servers"), w.presence("nodes")
		return s.Spec.Servers != nil && n.Spec.Nodes != nil &&
			says(s, v1alpha1.ConditionHealthy, "True", v1alpha1.ReasonAllAlive) && says(n, v1alpha1.ConditionAccepted, "True", v1alpha1.ReasonHonoured)
	})
	s := w.presence("servers")
	if s.Spec.Servers.Failover.Mode != v1alpha1.ModeAdvise || s.Status.Mode != "Advise" || s.Status.Subject != v1alpha1.SubjectServers {
		t.Errorf("the default is %+v with status %+v", s.Spec.Servers, s.Status)
	}
}

func TestPresencesThatAreNotHonouredSayWhy(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAutomatic)
	younger := w.presence("servers").DeepCopy()
	younger.ObjectMeta = metav1.ObjectMeta{Namespace: w.namespace, Name: "servers-too"}
	elsewhere := &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.cp.Namespace(t, "tenant"), Name: "nodes"},
		Spec:       v1alpha1.PresenceSpec{Nodes: &v1alpha1.NodesSpec{}},
	}
	w.create(younger)
	w.create(elsewhere)
	t.Cleanup(func() { _ = w.api.Delete(context.Background(), elsewhere) })
	w.controller("one")
	w.eventually("the younger of two is refused", func() bool {
		return says(w.presence("servers-too"), v1alpha1.ConditionAccepted, "False", v1alpha1.ReasonConflict) &&
			says(w.presence("servers"), v1alpha1.ConditionAccepted, "True", v1alpha1.ReasonHonoured)
	})
	w.eventually("a tenant's nodes are refused", func() bool {
		p := w.get(elsewhere.Namespace, "nodes")
		return says(p, v1alpha1.ConditionAccepted, "False", v1alpha1.ReasonForeign) && p.Status.Reason == v1alpha1.ReasonForeign
	})
}

func TestFewObserversAreToldOf(t *testing.T) {
	w := newWorld(t, 3)
	p := w.watchServers(v1alpha1.ModeAutomatic)
	c, _ := w.controller("one")
	w.ready(c)
	before := client.MergeFrom(p.DeepCopy())
	p.Spec.Servers.Overload.Observers = 5
	if err := w.api.Patch(t.Context(), p, before); err != nil {
		t.Fatal(err)
	}
	w.eventually("five are asked for, and three are there", func() bool {
		return says(w.presence("servers"), v1alpha1.ConditionFewObservers, "True", v1alpha1.ReasonFewNodes)
	})
}

func TestTheStopSwitchFreezesAndCancels(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAutomatic)
	c, _ := w.controller("one")
	w.ready(c)
	w.hear(w.servers["server-2"], wire.BandHung, "a", "b", "c")
	w.directed("server-2")
	if err := w.store.SetPause(t.Context(), store.Pause{By: "ada", Why: "a test", Since: time.Now()}); err != nil {
		t.Fatal(err)
	}
	w.outcome("server-2", v1alpha1.FailoverOverloaded, v1alpha1.ReasonCancelled)
	w.eventually("it is frozen", func() bool {
		return says(w.presence("servers"), v1alpha1.ConditionFrozen, "True", v1alpha1.ReasonPaused)
	})
	w.always("nothing begins", 300*time.Millisecond, func() bool { return len(w.failovers()) == 1 && w.directive("server-2") == nil })
	if err := w.store.ClearPause(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.directed("server-2")
}

func TestClientsOfALostServerWhoComeToNoOtherGoOffline(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAutomatic)
	w.watchClients()
	c, _ := w.controller("one")
	w.ready(c)
	dead := w.servers["server-2"]
	dead.holds(2)
	w.sessions(dead.name(), dead.record.Incarnation, "apps", "phone-1", "phone-2")
	w.eventually("they are counted", func() bool { return w.presence("apps").Status.Counts.Members == 202 })
	dead.gone()
	w.hear(dead, wire.BandRefused, "a", "b", "c")
	w.outcome("server-2", v1alpha1.FailoverDead, v1alpha1.ReasonMoving)
	offline := func() int {
		n := 0
		found, err := w.store.ReadSessions(t.Context(), []store.SessionKey{
			{Namespace: w.namespace, Presence: "apps", Client: "phone-1"}, {Namespace: w.namespace, Presence: "apps", Client: "phone-2"},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Current != nil && f.Current.Offline {
				n++
			}
		}
		return n
	}
	w.always("nobody is offline while they are being moved", 2500*time.Millisecond, func() bool { return offline() == 0 })
	w.servers["server-0"].takes(dead, 0, 2) // two others: these two are not known to be anywhere
	w.outcome("server-2", v1alpha1.FailoverDead, v1alpha1.ReasonMoved)
	w.eventually("then they go offline", func() bool { return offline() == 2 })
}

func TestACopyOfAPodOfTheSameNameIsNotTheServer(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAutomatic)
	c, _ := w.controller("one")
	w.ready(c)
	old := w.servers["server-2"]
	if err := w.api.Delete(t.Context(), old.pod, deleteNow); err != nil {
		t.Fatal(err)
	}
	w.eventually("it is a member no more", func() bool { return w.presence("servers").Status.Counts.Members == 2 })
	// A new pod, that is still starting, while the record of the old one lives.
	w.create(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "server-2", Labels: old.pod.Labels},
		Spec:       old.pod.Spec,
	})
	w.eventually("the new one is a member", func() bool { return w.presence("servers").Status.Counts.Members == 3 })
	w.hear(old, wire.BandRefused, "a", "b", "c")
	w.always("nothing is done about one that is starting", 500*time.Millisecond, func() bool { return len(w.failovers()) == 0 })
}

func TestHistoryIsKeptShort(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAutomatic)
	c, _ := w.controller("one")
	w.ready(c)
	for i := range failover.History + 3 {
		w.create(&v1alpha1.Failover{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: fmt.Sprintf("nobody-%d", i)},
			Spec:       v1alpha1.FailoverSpec{Presence: "servers", Server: "nobody"},
		})
	}
	w.eventually("the newest that are finished are left", func() bool {
		all := w.failovers()
		for _, fo := range all {
			if failover.Outcome(&fo) != v1alpha1.ReasonCancelled {
				return false
			}
		}
		return len(all) == failover.History
	})
}

func TestAServerWhosePresenceIsDeletedIsLetInAgain(t *testing.T) {
	w := newWorld(t, 3)
	p := w.watchServers(v1alpha1.ModeAutomatic)
	c, _ := w.controller("one")
	w.ready(c)
	w.hear(w.servers["server-2"], wire.BandHung, "a", "b", "c")
	w.directed("server-2")
	w.eventually("the label is turned", func() bool { return w.accepting("server-2") == "false" })
	if err := w.api.Delete(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	w.outcome("server-2", v1alpha1.FailoverOverloaded, v1alpha1.ReasonCancelled)
	w.eventually("nothing of it stays", func() bool {
		return w.directive("server-2") == nil && w.accepting("server-2") == "true"
	})
}

func TestPeopleMayAskWhyAndWhere(t *testing.T) {
	w := newWorld(t, 3)
	w.watchServers(v1alpha1.ModeAdvise)
	w.watchClients()
	c, _ := w.controller("one")
	w.ready(c)
	mux := http.NewServeMux()
	c.Handle(mux)
	ask := func(question string) (int, string) {
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, question, http.NoBody))
		return answer.Code, answer.Body.String()
	}
	server := w.servers["server-1"]
	w.hear(server, wire.BandHung, "a")
	w.eventually("why one is suspected is told", func() bool {
		code, body := ask(explain.JudgementPath + "?server=" + server.name())
		return code == http.StatusOK && strings.Contains(body, `"state":"Suspect"`) && strings.Contains(body, `"controller":"one"`)
	})
	w.sessions(server.name(), server.record.Incarnation, "apps", "phone-1")
	if code, body := ask(explain.SessionsPath + "?client=phone-1"); code != http.StatusOK || !strings.Contains(body, server.name()) {
		t.Errorf("where a client is: %d %s", code, body)
	}
}
