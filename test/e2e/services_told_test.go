package e2e

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/test/e2e/service"
)

func TestACrowdIsCalmWhenNobodyHadTroubleForLongEnough(t *testing.T) {
	now := time.Unix(1000, 0)
	ago := func(d time.Duration) []service.Turn {
		return []service.Turn{{At: now.Add(-time.Hour)}, {At: now.Add(-d), Pod: "a"}}
	}
	for _, c := range []struct {
		name   string
		client service.Client
		calm   bool
	}{
		{"answered, and never in trouble", service.Client{Pod: "a"}, true},
		{"nobody has answered", service.Client{}, false},
		{"trouble long ago", service.Client{Pod: "a", Turns: ago(time.Minute)}, true},
		{"trouble just now", service.Client{Pod: "a", Turns: ago(time.Second)}, false},
		{"an answer is late", service.Client{Pod: "a", Asking: now.Add(-2 * time.Second)}, false},
		{"an answer is on its way", service.Client{Pod: "a", Asking: now.Add(-time.Millisecond)}, true},
	} {
		if got := calmFor([]service.Client{{Pod: "b"}, c.client}, 30*time.Second, now); got != 1 && !c.calm || got != 2 && c.calm {
			t.Errorf("%s: %d of two are calm", c.name, got)
		}
	}
}

func TestWhatIsHeldAgainstTheBystander(t *testing.T) {
	at := time.Unix(1000, 0)
	state := func(presence, state string) change {
		return change{at: at, subject: subject{members, memberOf(presence, "pod-1")}, row: row{"State": state}}
	}
	for _, c := range []struct {
		name   string
		change change
		want   string
	}{
		{"one of its pods is Overloaded", state("bystander", "Overloaded"), "bystander/pod-1 was Overloaded at 00:16:40"},
		{"one of its pods is Dead", state("bystander", "Dead"), "was Dead"},
		{"one of its pods is Suspect, which is no verdict", state("bystander", "Suspect"), ""},
		{"a pod of another service is Overloaded", state("http", "Overloaded"), ""},
		{"a pod is not named any more", change{at: at, subject: subject{members, "bystander/pod-1"}}, ""},
		{"a Failover of its own", change{at: at, subject: subject{failovers, "bystander-6b-x7k4q"}, row: row{"State": "Moving"}}, "a Failover was made"},
		{"a Failover that is gone", change{at: at, subject: subject{failovers, "bystander-6b-x7k4q"}}, ""},
		{"another's Failover", change{at: at, subject: subject{failovers, "http-6b-x7k4q"}, row: row{"State": "Moving"}}, ""},
	} {
		got := accused([]change{c.change}, "bystander")
		if (len(got) > 0) != (c.want != "") || len(got) > 0 && !strings.Contains(got[0], c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestConnectionsOfPodsThatStayAreNotToBeEnded(t *testing.T) {
	all := []service.Client{
		{Failures: 2, Answers: map[string]int{"gone": 10, "here": 5}, Broken: map[string]int{"gone": 1, "": 1}},
		{Answers: map[string]int{"here": 7}, Broken: map[string]int{"here": 3}},
	}
	here := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "here"}}
	if got := strings.Join(broken(all, []corev1.Pod{here}), "; "); got != "3 connections of here were ended" {
		t.Errorf("broken says %q", got)
	}
	want := "Its 2 clients had 22 answers, and 2 questions failed. Connections that others ended: 1, of pods that a rolling update ended; 3, of pods that stayed; 1, on which nobody had answered yet."
	if got := fared(all, []corev1.Pod{here}); got != want {
		t.Errorf("fared says %q, want %q", got, want)
	}
	here.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 2}}
	if got := strings.Join(broken(nil, []corev1.Pod{here}), "; "); got != "here was started anew 2 times" {
		t.Errorf("broken says %q", got)
	}
}

func TestTheTollIsWhatIsNewSinceTheFirstLook(t *testing.T) {
	before := []service.Client{{Failures: 2, Answers: map[string]int{"a": 10}, Broken: map[string]int{"a": 1}}, {}}
	after := []service.Client{{Failures: 3, Answers: map[string]int{"a": 11, "b": 4}, Broken: map[string]int{"a": 1}}, {Broken: map[string]int{"b": 2}}}
	if got, want := tollOf(before, after), (toll{Ended: 2, Failed: 1, Answered: 5}); got != want {
		t.Errorf("it is %+v, want %+v", got, want)
	}
}

func TestTheTablesOfServices(t *testing.T) {
	r := &servicesReport{}
	r.add(serviceLine{Service: "websocket", Fault: "stopped"})
	r.add(serviceLine{Service: "http", Fault: "stopped", Decided: "2.0 s", Answered: "4.0 s"})
	r.add(serviceLine{Service: "http", Fault: "deadlocked"})
	r.addPlain("stopped", probeKinds[1], "not Ready after 25.0 s; answers not within 60.0 s")
	r.addToll("Rollcall: Frozen", toll{Failed: 7, Answered: 100})
	var order []string
	for _, l := range r.lines {
		order = append(order, l.Service+" "+l.Fault)
	}
	if got := strings.Join(order, ", "); got != "http stopped, http deadlocked, websocket stopped" {
		t.Errorf("the rows are %s", got)
	}
	want := "|---|---|---|---|---|---|\n| stopped | verdict after 2.0 s; answers after 4.0 s | - | not Ready after 25.0 s; answers not within 60.0 s | - | - |\n"
	if got := r.beside(); !strings.HasSuffix(got, want) {
		t.Errorf("it says\n%swant\n%s", got, want)
	}
	if got := r.floods(); !strings.HasSuffix(got, "| Rollcall: Frozen | 0 | 0 | 7 | 100 |\n") {
		t.Errorf("it says\n%s", got)
	}
}

func TestOnlyReadyEndpointsCount(t *testing.T) {
	yes, no := true, false
	s := &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{
		{Conditions: discoveryv1.EndpointConditions{Ready: &yes}}, {Conditions: discoveryv1.EndpointConditions{Ready: &no}}, {},
	}}
	if n := readyEndpoints(s); n != 2 {
		t.Errorf("%d are ready", n)
	}
}

func TestManifestsOfServices(t *testing.T) {
	adopted := workload{Namespace: "shop-grpc", Name: "grpc", Speech: service.GRPC, Accepting: true, Probes: soonNotReady}
	gated := workload{Namespace: "shop-web", Name: "web", Speech: service.HTTP, Gated: true}
	plain := workload{Namespace: "shop", Name: "web", Speech: service.HTTP, CPU: "200m", Probes: probeKinds[3].yaml}
	for _, c := range []struct {
		name    string
		l       workload
		has, no []string
	}{
		{"one that follows the label", adopted, []string{`{app: grpc, rollcall.dev/accepting: "true"}`, "[serve, -speech, grpc]", "probe: {grpc: {}}", "readinessProbe: {tcpSocket"}, []string{"resources"}},
		{"one that does not, with a limit", plain, []string{"selector: {app: web}", "resources: {limits: {cpu: 200m}}", "failureThreshold: 2", "probe: {http: {path: /healthz}}"}, []string{"accepting"}},
		{"one with a readiness gate", gated, []string{"      readinessGates: [{conditionType: rollcall.dev/accepting}]", "divert: ReadinessGate}", "selector: {app: web}"}, []string{"accepting:"}},
	} {
		text, err := c.l.manifest("image:dev")
		if err != nil {
			t.Fatal(err)
		}
		presence, err := c.l.presenceManifest()
		if err != nil {
			t.Fatal(err)
		}
		text += presence
		for _, part := range c.has {
			if !strings.Contains(text, part) {
				t.Errorf("%s lacks %q:\n%s", c.name, part, text)
			}
		}
		for _, part := range c.no {
			if strings.Contains(text, part) {
				t.Errorf("%s has %q:\n%s", c.name, part, text)
			}
		}
	}
}
