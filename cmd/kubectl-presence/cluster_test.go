package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/explain"
	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

// world is a namespace of a real API server with objects made by hand.
type world struct {
	t  *testing.T
	cp *controlplane.ControlPlane
	// namespace holds the servers, system the controllers.
	namespace, system string
	api               client.WithWatch
	// clock stands still, for those who answer and for those who ask: how long a
	// busy machine takes between the two must not show.
	clock time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cp := controlplane.ForTest(t)
	w := &world{t: t, cp: cp, namespace: cp.Namespace(t, "im"), system: cp.Namespace(t, "system"), clock: time.Now()}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.api, err = client.NewWithWatch(cp.AdminConfig(), client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	return w
}

// run carries out a command line as a user, and returns what a person sees,
// without what no test can know.
func (w *world) run(kubeconfig string, args ...string) (status int, stdout, stderr string) {
	w.t.Helper()
	var out, err bytes.Buffer
	p := newPlugin(&out, &err)
	p.look, p.now = 20*time.Millisecond, func() time.Time { return w.clock }
	status = run(w.t.Context(), append(args, "--kubeconfig", kubeconfig, "-n", w.namespace, "--system-namespace", w.system), p)
	return status, w.stable(out.String()), w.stable(err.String())
}

var (
	suffixes = regexp.MustCompile(`(server-\d)-[a-z0-9]{5}\b`)
	ages     = regexp.MustCompile(`\b\d+(\.\d+)?m?s$`)
)

func (w *world) stable(s string) string {
	s = strings.NewReplacer(w.namespace, "im", w.system, "system", w.cp.URL(), "https://api").Replace(s)
	lines := strings.Split(suffixes.ReplaceAllString(s, "$1-xxxxx"), "\n")
	for i := range lines {
		lines[i] = ages.ReplaceAllString(lines[i], "AGE")
	}
	return strings.Join(lines, "\n")
}

// admin is run as an administrator, and says all that a person sees.
func (w *world) admin(args ...string) string {
	w.t.Helper()
	status, stdout, stderr := w.run(w.cp.AdminKubeconfig(), args...)
	return "$ kubectl presence " + strings.Join(args, " ") + "\n" + stdout + stderr + "status " + strconv.Itoa(status) + "\n"
}

func (w *world) create(o client.Object) {
	w.t.Helper()
	if err := w.api.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) status(o client.Object) {
	w.t.Helper()
	if err := w.api.Status().Update(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pod(namespace, name string, labels map[string]string, ports ...corev1.ContainerPort) *corev1.Pod {
	w.t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none", Ports: ports}}},
	}
	w.create(p)
	return p
}

func (w *world) presence(name string, labels map[string]string) *v1alpha1.Presence {
	w.t.Helper()
	p := &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec: v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
			Selector: metav1.LabelSelector{MatchLabels: labels}, Port: intstr.FromInt32(1883),
			Failover: v1alpha1.FailoverPolicy{Mode: v1alpha1.ModeAutomatic},
		}},
	}
	w.create(p)
	return p
}

// oracle answers as a controller would.
type oracle struct{ w *world }

func (o oracle) Explain(server string) (explain.Explanation, bool) {
	if server != o.w.namespace+"/server-2" {
		return explain.Explanation{}, false
	}
	a, b := verdict.Observer{Name: "node-4", Zone: "a"}, verdict.Observer{Name: "node-5", Zone: "b"}
	now := o.w.clock
	said := func(by verdict.Observer) verdict.Observation {
		return verdict.Observation{Observer: by, Band: "hung", Seen: now.Add(-3 * time.Second), Healthy: true, Online: true}
	}
	return explain.Explanation{
		Presence: o.w.namespace + "/servers", Mode: "Automatic",
		World: verdict.World{Now: now, Started: now.Add(-time.Hour), Warm: true},
		Evidence: verdict.ServerEvidence{
			Name: server, Incarnation: "u.1", Node: "node-2", NodeState: verdict.Alive, Lease: verdict.LeaseLive, Sessions: 100,
			Assigned: []verdict.Observer{a, b}, Observations: []verdict.Observation{said(a), said(b)},
		},
		Verdict: verdict.Verdict{
			State: verdict.Overloaded, Since: now.Add(-2 * time.Second), Reason: verdict.ReasonNotAnswering, Proven: true,
			Message: "Two wait for an answer", Incarnation: "u.1", Answered: true,
		},
	}, true
}

func (o oracle) Find(_ context.Context, id string, _ []string) ([]explain.Session, error) {
	if id != "phone-1" {
		return []explain.Session{}, nil
	}
	return []explain.Session{{
		Presence: o.w.namespace + "/android", Server: o.w.namespace + "/server-2", Online: true, Since: o.w.clock.Add(-time.Hour),
		Interval: metav1.Duration{Duration: 30 * time.Second},
	}}, nil
}

// controller serves a controller's questions. The API server doesn't proxy to
// the loopback, so it listens on every address of the machine.
func (w *world) controller() (port int) {
	w.t.Helper()
	h, err := explain.New(explain.Config{Judge: oracle{w}, Sessions: oracle{w}, ID: "controller-0", Leading: func() bool { return true }})
	if err != nil {
		w.t.Fatal(err)
	}
	mux := http.NewServeMux()
	h.Register(mux)
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		w.t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(mux)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	w.t.Cleanup(s.Close)
	return l.Addr().(*net.TCPAddr).Port
}

// proxiable is an address of this machine that the API server may proxy to.
func proxiable(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but the loopback, to which the API server doesn't proxy")
	return ""
}

func TestAgainstARealAPIServer(t *testing.T) {
	w := newWorld(t)
	broker := map[string]string{"app": "broker", v1alpha1.AcceptingLabel: "true"}
	for _, name := range []string{"server-1", "server-2", "server-3"} {
		w.pod(w.namespace, name, broker)
	}
	w.pod(w.namespace, "web-1", map[string]string{"app": "web"})
	servers := w.presence("servers", map[string]string{"app": "broker"})

	var b strings.Builder
	b.WriteString(w.admin("why", "server-9"))
	b.WriteString(w.admin("why", "web-1"))
	b.WriteString(w.admin("why", "server-2"))
	now := metav1.Now()
	servers.Status = v1alpha1.PresenceStatus{
		Subject: v1alpha1.SubjectServers, Mode: "Automatic", Reason: v1alpha1.ReasonOverloaded,
		Counts:   v1alpha1.PresenceCounts{Members: 3, Alive: 2, Overloaded: new(int32(1))},
		NotAlive: []v1alpha1.MemberStatus{{Name: "server-2", State: "Overloaded", Message: "Two wait for an answer"}},
		Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonHonoured, LastTransitionTime: now},
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonJudging, LastTransitionTime: now},
			{Type: v1alpha1.ConditionFrozen, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNotFrozen, LastTransitionTime: now},
		},
	}
	w.status(servers)
	b.WriteString(w.admin("why", "server-2"))
	b.WriteString(w.admin("why", "pod/server-1"))
	b.WriteString(w.admin("who", "phone-1"))

	b.WriteString(w.admin("drain", "server-9"))
	b.WriteString(w.admin("drain", "web-1"))
	b.WriteString(w.admin("drain", "server-1", "--presence", "web"))
	b.WriteString(w.admin("pause", "pod/server-1", "--why", "load test"))
	b.WriteString(w.admin("pause", "pod/server-1"))
	b.WriteString(w.admin("drain", "server-1"))
	b.WriteString(w.admin("resume", "pod/server-1"))
	b.WriteString(w.admin("resume", "pod/server-1"))
	b.WriteString(w.admin("drain", "server-1"))
	b.WriteString(w.admin("drain", "server-1"))
	b.WriteString(w.admin("pause", "servers"))
	b.WriteString(w.admin("pause", "brokers"))
	b.WriteString(w.admin("resume", "servers"))
	golden(t, "apiserver", b.String())
}

func TestControllersAreAskedThroughTheAPIServer(t *testing.T) {
	w := newWorld(t)
	address, port := proxiable(t), w.controller()
	w.pod(w.namespace, "server-2", map[string]string{"app": "broker"})
	w.presence("servers", map[string]string{"app": "broker"})
	c := w.pod(w.system, "controller-0", controllerLabels, corev1.ContainerPort{Name: httpPortName, ContainerPort: int32(port)})
	c.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}}
	w.status(c)
	// Another replica that is away must not be in the way.
	away := w.pod(w.system, "controller-1", controllerLabels, corev1.ContainerPort{Name: httpPortName, ContainerPort: 1})
	away.Status = c.Status
	w.status(away)

	var b strings.Builder
	b.WriteString(w.admin("why", "server-2"))
	b.WriteString(w.admin("who", "phone-1"))
	b.WriteString(w.admin("who", "phone-1", "-o", "json"))
	b.WriteString(w.admin("who", "phone-2", "--presence", "android"))
	golden(t, "proxied", regexp.MustCompile(`"since": ".*"`).ReplaceAllString(b.String(), `"since": "TIME"`))
	if yaml := w.admin("why", "server-2", "-o", "yaml"); !strings.Contains(yaml, "state: Overloaded") || !strings.Contains(yaml, "failovers: []") {
		t.Error(yaml)
	}
}

func TestAControllerIsAskedWithoutTheAPIServer(t *testing.T) {
	w := newWorld(t)
	direct := "http://127.0.0.1:" + strconv.Itoa(w.controller())
	gone := w.admin("why", "server-2", "--server", "https://127.0.0.1:1", "--controller", direct)
	if !strings.Contains(gone, "is Overloaded") || !strings.Contains(gone, "Failovers could not be read") || !strings.HasSuffix(gone, "status 0\n") {
		t.Error(gone)
	}
	who := w.admin("who", "phone-1", "--server", "https://127.0.0.1:1", "--controller", direct)
	if !strings.Contains(who, "im/server-2") || !strings.HasSuffix(who, "status 0\n") {
		t.Error(who)
	}
	unknown := w.admin("why", "server-7", "--server", "https://127.0.0.1:1", "--controller", direct)
	if !strings.Contains(unknown, "judges no server im/server-7") || !strings.HasSuffix(unknown, "status 1\n") {
		t.Error(unknown)
	}
}

func TestADrainIsFollowedToItsEnd(t *testing.T) {
	w := newWorld(t)
	w.pod(w.namespace, "server-2", map[string]string{"app": "broker"})
	w.presence("servers", map[string]string{"app": "broker"})
	// A controller that ends every Failover in two steps.
	watch, err := w.api.Watch(t.Context(), &v1alpha1.FailoverList{}, client.InNamespace(w.namespace))
	if err != nil {
		t.Fatal(err)
	}
	ends := []string{v1alpha1.ReasonMoved, v1alpha1.ReasonTimedOut}
	played := make(chan error, 1)
	go func() {
		played <- func() error {
			for e := range watch.ResultChan() {
				fo, ok := e.Object.(*v1alpha1.Failover)
				switch {
				case !ok || !open(fo):
					continue
				case state(fo) == "":
					fo.Status = v1alpha1.FailoverStatus{Receivers: 1, Pending: 7, Conditions: progress(metav1.ConditionTrue, v1alpha1.ReasonMoving, "")}
				default:
					fo.Status = v1alpha1.FailoverStatus{Receivers: 1, Moved: 7, Conditions: progress(metav1.ConditionFalse, ends[0], "That was all.")}
					ends = ends[1:]
				}
				if err := w.api.Status().Update(context.WithoutCancel(t.Context()), fo); err != nil {
					return err
				}
				if len(ends) == 0 {
					return nil
				}
			}
			return nil
		}()
	}()
	for _, want := range []struct {
		status int
		says   []string
	}{
		{0, []string{"failover.rollcall.dev/server-2-xxxxx created", "Moved", "That was all.", "kubectl delete failover server-2-xxxxx -n im"}},
		{exitFailed, []string{"error: the drain has ended without success (TimedOut): That was all."}},
	} {
		status, stdout, stderr := w.run(w.cp.AdminKubeconfig(), "drain", "server-2", "--wait")
		if status != want.status {
			t.Errorf("status %d, want %d: %s%s", status, want.status, stdout, stderr)
		}
		for _, s := range want.says {
			if !strings.Contains(stdout+stderr, s) {
				t.Errorf("%s%s lacks %q", stdout, stderr, s)
			}
		}
	}
	watch.Stop()
	if err := <-played; err != nil {
		t.Error(err)
	}
}

func TestRightsThatAreMissingAreNamed(t *testing.T) {
	w := newWorld(t)
	bob, err := w.cp.Kubeconfig("bob")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"why", "server-2"}, {"drain", "server-2"}, {"pause", "servers"}, {"who", "phone-1"}} {
		status, stdout, stderr := w.run(bob, args...)
		if status != exitFailed || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "ask an administrator") {
			t.Errorf("%v: %d, %q, %q", args, status, stdout, stderr)
		}
	}
}

func TestWhatIsWrongIsOneSentenceWithItsRemedy(t *testing.T) {
	none := httptest.NewServer(http.NotFoundHandler())
	defer none.Close()
	there := []string{"--kubeconfig", "/dev/null", "-n", "im", "--server"}
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"no subcommand", []string{}, exitUsage, "a subcommand is needed"},
		{"an unknown subcommand", []string{"when"}, exitUsage, `unknown command "when"`},
		{"an unknown flag", []string{"why", "--now"}, exitUsage, "unknown flag"},
		{"no server", []string{"why"}, exitUsage, "exactly one server is needed"},
		{"two servers", []string{"drain", "a", "b"}, exitUsage, "exactly one server is needed"},
		{"a format that there isn't", []string{"why", "a", "-o", "wide"}, exitUsage, "is not json or yaml"},
		{"a table in JSON", []string{"drain", "a", "-o", "json", "--wait"}, exitUsage, "leave out --output"},
		{"two namespaces", append([]string{"why", "x/server-2"}, append(there, none.URL)...), exitUsage, "contradict each other"},
		{"a controller's address that is none", []string{"why", "a", "--controller", "10.0.0.1:8080"}, exitUsage, "write http://host:port"},
		{"a client id that can't be one", []string{"who", "a/b"}, exitUsage, "can't be the id of a client"},
		{"a kind that there isn't", append([]string{"pause", "node/a"}, append(there, none.URL)...), exitUsage, "neither a Presence nor a pod"},
		{"a kind that is not adopted", append([]string{"adopt", "deployment/web"}, append(there, none.URL)...), exitUsage, "is no Service: write its name"},
		{"no time to wait", []string{"adopt", "web", "--timeout", "0s"}, exitUsage, "give a positive one"},
		{"a kubeconfig that is not there", []string{"why", "a", "--kubeconfig", "/dev/null/none"}, exitUsage, "kubeconfig can't be used"},
		{"a cluster without Rollcall", append([]string{"why", "a"}, append(there, none.URL)...), exitFailed, "has no such resource: choose the cluster with --context, or install Rollcall's CRDs"},
		{"the same, for one object", append([]string{"pause", "a"}, append(there, none.URL)...), exitFailed, "install Rollcall's CRDs"},
		{"the same, for a Service", append([]string{"adopt", "a"}, append(there, "http://127.0.0.1:1")...), exitFailed, "doesn't answer"},
		{"an API server that is away", append([]string{"why", "a"}, append(there, "http://127.0.0.1:1")...), exitFailed, "doesn't answer"},
		{"the same, for a pause", append([]string{"pause", "a"}, append(there, "http://127.0.0.1:1")...), exitFailed, "rollcall pause --etcd ENDPOINTS stops everything without it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, err bytes.Buffer
			status := run(t.Context(), tt.args, newPlugin(&out, &err))
			said := err.String()
			if status != tt.status || out.Len() > 0 || strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, "error: ") || !strings.Contains(said, tt.says) {
				t.Errorf("status %d, %q%q, want %d and %q", status, out.String(), said, tt.status, tt.says)
			}
		})
	}
}
