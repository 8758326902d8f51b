package v1alpha1_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// age is the last column, which no test can know.
var age = regexp.MustCompile(`\d+s$`)

// kubectl returns what a person sees, without ages and without the blanks at
// the ends of lines.
func (a api) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"--kubeconfig", a.plane.AdminKubeconfig(), "--namespace", a.namespace}, args...)
	out, err := exec.CommandContext(t.Context(), a.plane.Kubectl(), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(age.ReplaceAllString(strings.TrimRight(line, " "), "AGE"), " ")
	}
	return strings.Join(lines, "\n")
}

func checkTable(t *testing.T, got, want string) {
	t.Helper()
	if want = strings.TrimSpace(want); got != want {
		t.Errorf("kubectl prints\n%s\nwant\n%s", got, want)
	}
}

func condition(kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, LastTransitionTime: metav1.NewTime(time.Unix(1, 0))}
}

func (a api) makePresence(t *testing.T, name string, spec v1alpha1.PresenceSpec, status v1alpha1.PresenceStatus) {
	t.Helper()
	p := &v1alpha1.Presence{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: a.namespace}, Spec: spec}
	if err := a.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	p.Status = status
	if err := a.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

func (a api) makeFailover(t *testing.T, name string, spec v1alpha1.FailoverSpec, status v1alpha1.FailoverStatus) {
	t.Helper()
	f := &v1alpha1.Failover{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: a.namespace}, Spec: spec}
	if err := a.Create(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	f.Status = status
	if err := a.Status().Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func TestPresenceTable(t *testing.T) {
	a := newAPI(t)
	one := int32(1)
	ready := condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonJudging)
	healthy := condition(v1alpha1.ConditionHealthy, metav1.ConditionTrue, v1alpha1.ReasonAllAlive)
	selector := metav1.LabelSelector{MatchLabels: map[string]string{"app": "broker"}}
	a.makePresence(t, "nodes", v1alpha1.PresenceSpec{Nodes: &v1alpha1.NodesSpec{}}, v1alpha1.PresenceStatus{
		Subject: v1alpha1.SubjectNodes, Mode: string(v1alpha1.OnDeadAdvise),
		Counts:     v1alpha1.PresenceCounts{Members: 12, Alive: 12},
		Conditions: []metav1.Condition{ready, healthy},
	})
	a.makePresence(t, "servers", v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{Selector: selector, Port: intstr.FromString("mqtt")}}, v1alpha1.PresenceStatus{
		Subject: v1alpha1.SubjectServers, Mode: string(v1alpha1.ModeAutomatic),
		Reason:     v1alpha1.ReasonOverloaded,
		Counts:     v1alpha1.PresenceCounts{Members: 3, Alive: 2, Overloaded: &one},
		Conditions: []metav1.Condition{ready, condition(v1alpha1.ConditionHealthy, metav1.ConditionFalse, v1alpha1.ReasonOverloaded)},
	})
	a.makePresence(t, "android", v1alpha1.PresenceSpec{Clients: &v1alpha1.ClientsSpec{}}, v1alpha1.PresenceStatus{
		Subject:    v1alpha1.SubjectClients,
		Counts:     v1alpha1.PresenceCounts{Members: 48211, Alive: 48071, Suspect: 140},
		Conditions: []metav1.Condition{ready, healthy},
	})
	a.makePresence(t, "unseen", v1alpha1.PresenceSpec{Clients: &v1alpha1.ClientsSpec{}}, v1alpha1.PresenceStatus{})
	const want = `
NAME      SUBJECT   MODE        MEMBERS   ALIVE   SUSPECT   OVERLOADED   DEAD   READY   HEALTHY   REASON       AGE
android   Clients               48211     48071   140                    0      True    True                   AGE
nodes     Nodes     Advise      12        12      0                      0      True    True                   AGE
servers   Servers   Automatic   3         2       0         1            0      True    False     Overloaded   AGE
unseen                                                                                                         AGE`
	checkTable(t, a.kubectl(t, "get", "presence"), want)
	checkTable(t, a.kubectl(t, "get", "prs"), want)
}

func TestFailoverTable(t *testing.T) {
	a := newAPI(t)
	a.makeFailover(t, "servers-2-k7x", v1alpha1.FailoverSpec{Presence: "servers", Server: "server-2", Reason: v1alpha1.FailoverOverloaded}, v1alpha1.FailoverStatus{
		Receivers: 2, Moved: 16021, Pending: 12,
		Conditions: []metav1.Condition{
			condition(v1alpha1.ConditionProcessing, metav1.ConditionTrue, v1alpha1.ReasonMoving),
			condition(v1alpha1.ConditionSucceeded, metav1.ConditionUnknown, v1alpha1.ReasonMoving),
		},
	})
	a.makeFailover(t, "unseen", v1alpha1.FailoverSpec{Presence: "servers", Server: "server-1"}, v1alpha1.FailoverStatus{})
	const want = `
NAME            FROM       REASON       TO    MOVED   PENDING   LOST   STATE    AGE
servers-2-k7x   server-2   Overloaded   2     16021   12        0      Moving   AGE
unseen          server-1   Drain                                                AGE`
	checkTable(t, a.kubectl(t, "get", "failovers"), want)
	checkTable(t, a.kubectl(t, "get", "fo"), want)
}

func TestCategoryHoldsBothKinds(t *testing.T) {
	a := newAPI(t)
	a.makePresence(t, "android", v1alpha1.PresenceSpec{Clients: &v1alpha1.ClientsSpec{}}, v1alpha1.PresenceStatus{})
	a.makeFailover(t, "drain", v1alpha1.FailoverSpec{Presence: "servers", Server: "server-2"}, v1alpha1.FailoverStatus{})
	got := a.kubectl(t, "get", "rollcall", "--output", "name")
	if want := "failover.rollcall.dev/drain\npresence.rollcall.dev/android"; got != want {
		t.Errorf("kubectl get rollcall prints %q, want %q", got, want)
	}
}
