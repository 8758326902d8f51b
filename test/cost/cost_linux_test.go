package cost

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/test/installation"
)

const (
	nodes = 3
	// settles is how long the parts are left alone before they are measured: until the
	// sampler counts connections every 30 s only. measured is for how long they are.
	settles  = 75 * time.Second
	measured = time.Minute
	patience = 2 * time.Minute

	// others is an installation that owns the pods: no agent probes them, since nobody
	// but their own node reaches them here.
	others = "cost"
	// binaryEnv names another rollcall to measure than bin/rollcall.
	binaryEnv = "COST_BINARY"
)

// usage is what a process has used.
type usage struct {
	at       time.Time
	cpu      time.Duration // in user and in kernel mode, all threads
	switches int64         // how often a thread of it waited
}

func used(b *testing.B, pid int) usage {
	b.Helper()
	var ts unix.Timespec
	const schedClock = 2 // clock_getcpuclockid(3)
	if err := unix.ClockGettime(int32(^pid<<3|schedClock), &ts); err != nil {
		b.Fatalf("read the CPU clock of process %d: %v", pid, err)
	}
	u := usage{at: time.Now(), cpu: time.Duration(ts.Nano())}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, task := range tasks {
		u.switches += field(task, "voluntary_ctxt_switches:")
	}
	return u
}

// field reads a number of a status file of /proc; 0: it is not there any more.
func field(path, name string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n
		}
	}
	return 0
}

// measure lets processes run for a while, and reports the mean of each kind.
func measure(b *testing.B, kinds map[string][]int) {
	b.Helper()
	before := map[int]usage{}
	for _, pids := range kinds {
		for _, pid := range pids {
			before[pid] = used(b, pid)
		}
	}
	<-time.After(measured)
	sum := 0.0
	for kind, pids := range kinds {
		var core, wakes, resident, private float64
		for _, pid := range pids {
			now, was := used(b, pid), before[pid]
			took := now.at.Sub(was.at)
			core += 100 * float64(now.cpu-was.cpu) / float64(took)
			wakes += float64(now.switches-was.switches) / took.Seconds()
			status := fmt.Sprintf("/proc/%d/status", pid)
			resident += float64(field(status, "VmRSS:")) / 1024
			private += float64(field(status, "RssAnon:")) / 1024
		}
		n := float64(len(pids))
		sum += core / n
		b.ReportMetric(core/n, kind+"-%core")
		b.ReportMetric(wakes/n, kind+"-waits/s")
		b.ReportMetric(resident/n, kind+"-MiB")
		b.ReportMetric(private/n, kind+"-anon-MiB")
	}
	if len(kinds) > 1 {
		b.ReportMetric(sum, "node-%core")
	}
	b.ReportMetric(0, "ns/op")
}

// started is an installation of three nodes, each with a heartbeat server and an agent.
func started(ctx context.Context, b *testing.B) *installation.Installation {
	w, err := installation.Start(ctx, installation.Config{
		Servers: nodes, Agents: nodes, Controllers: 1, Capacity: 1000, Binary: os.Getenv(binaryEnv),
	})
	b.Cleanup(w.Close)
	if err != nil {
		b.Fatalf("%v (make bench-agent looks for what it needs)\nLogs:\n%s", err, w.LogTails())
	}
	return w
}

func agents(w *installation.Installation) (pids []int) {
	for i := range nodes {
		pids = append(pids, w.Part(installation.AgentName(i)).PID())
	}
	return pids
}

// BenchmarkIdleNode is what an agent costs of three, with nothing to say. It is for
// -benchtime 1x: it takes its time by itself.
func BenchmarkIdleNode(b *testing.B) {
	w := started(b.Context(), b)
	<-time.After(settles / 5)
	measure(b, map[string][]int{"agent": agents(w)})
}

// BenchmarkBusyNode is what a node's agent and its sampler (the severer's process) cost
// with a hundred pods that are watched and ten thousand connections. Only root may.
func BenchmarkBusyNode(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("only root makes pods' network namespaces")
	}
	ctx := b.Context()
	dir := populate(ctx, b)
	w := started(ctx, b)
	announce(ctx, b, w)
	web := free(b)
	err := w.Spawn("severer", nil, "sever", "--node", installation.NodeName(0), "--zone", "zone-1", "--namespace", others,
		"--netns", dir, "--presence", installation.Namespace+"/nodes", "--servers", strings.Join(w.Addresses(), ","),
		"--token-file", filepath.Join(w.Dir(), hex.EncodeToString([]byte(installation.NodeName(0)))+".token"),
		"--kubeconfig", w.Plane.AdminKubeconfig(), "--http", web)
	if err != nil {
		b.Fatal(err)
	}
	err = w.WaitFor(ctx, "the kernel's word on every pod", patience, func() bool { return well(ctx, web) == pods })
	if err != nil {
		b.Fatalf("%v\nLogs:\n%s", err, w.LogTails())
	}
	<-time.After(settles)
	measure(b, map[string][]int{"agent": {w.Part(installation.AgentName(0)).PID()}, "sampler": {w.Part("severer").PID()}})
	if n := well(ctx, web); n != pods {
		b.Errorf("in the end %d pods of %d are well", n, pods)
	}
}

// announce makes the pods known to the API, with a Presence that selects them.
func announce(ctx context.Context, b *testing.B, w *installation.Installation) {
	label := map[string]string{"app": "cost"}
	if err := w.API.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: others}}); err != nil {
		b.Fatal(err)
	}
	for pod := range pods {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: others, Name: fmt.Sprintf("pod-%d", pod), Labels: label},
			Spec: corev1.PodSpec{NodeName: installation.NodeName(0), Containers: []corev1.Container{{
				Name: "web", Image: "web", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: port}},
			}}},
		}
		if err := w.API.Create(ctx, p); err != nil {
			b.Fatal(err)
		}
		address, _ := addressOf(pod)
		p.Status = corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: address.String(), PodIPs: []corev1.PodIP{{IP: address.String()}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}},
		}
		if err := w.API.Status().Update(ctx, p); err != nil {
			b.Fatal(err)
		}
	}
	err := w.API.Create(ctx, &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: others, Name: "web", Labels: map[string]string{v1alpha1.InstallationLabel: others}},
		Spec: v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
			Selector: metav1.LabelSelector{MatchLabels: label}, Port: intstr.FromString("web"),
			Probe: v1alpha1.ProbeSpec{HTTP: &v1alpha1.HTTPProbe{}},
		}},
	})
	if err != nil {
		b.Fatal(err)
	}
}

// free is an address that nobody listens on.
func free(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// well is how many pods' kernels say that all is well, as the sampler's metrics have it.
func well(ctx context.Context, address string) int {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return 0
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0 // it has not begun
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), `rollcall_kernel_servers{word="ok"} `); found {
			n, _ := strconv.Atoi(value)
			return n
		}
	}
	return 0
}
