package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/agent/agenttest"
)

// idleEnv makes this test binary an agent of the cluster that it holds.
const idleEnv = "ROLLCALL_TEST_IDLE"

type idle struct {
	Nodes   []Node
	Agents  []Peer
	Servers []Target
}

// BenchmarkIdleAgent is what an agent costs that has three servers to probe,
// three peers to report on, and nothing to say: in a process of its own, for a
// while, whatever b.N.
func BenchmarkIdleAgent(b *testing.B) {
	const while = 20 * time.Second
	var c idle
	for i := range 4 {
		n := fmt.Sprintf("n%d", i)
		ip := fmt.Sprintf("127.0.0.%d", i+1)
		c.Nodes = append(c.Nodes, Node{Name: n, Zone: n, Address: ip})
		c.Agents = append(c.Agents, Peer{Node: n, GossipAddress: fmt.Sprintf("%s:%d", ip, 17946)})
	}
	for i := range 3 {
		name := fmt.Sprintf("rc/s-%d", i)
		c.Servers = append(c.Servers, Target{
			Name: name, Node: fmt.Sprintf("n%d", i), Address: agenttest.NewServer(b, name).Address,
			AnswerTime: 500 * time.Millisecond, Window: time.Second, Observers: 3, Presence: "rc/servers",
		})
	}
	for _, n := range c.Nodes[:3] {
		runIdle(b, c, n.Name)
	}
	child := runIdle(b, c, "n3") // it has no server of its own, so it probes all
	usage := func() (cpu time.Duration) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		if err != nil {
			b.Fatal(err)
		}
		var user, system int64
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		fmt.Sscan(fields[11], &user)
		fmt.Sscan(fields[12], &system)
		return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
	}
	<-time.After(3 * time.Second) // until it has begun
	cpu, at := usage(), time.Now()
	<-time.After(while)
	cpu, took := usage()-cpu, time.Since(at)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(100*float64(cpu)/float64(took), "%core")
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", child))
	if err != nil {
		b.Fatal(err)
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		var kind string
		var kB float64
		if fmt.Sscanf(lines.Text(), "%s %f kB", &kind, &kB); kind == "VmRSS:" || kind == "RssAnon:" {
			b.ReportMetric(kB/1024, strings.TrimSuffix(kind, ":")+"-MiB")
		}
	}
}

func runIdle(b *testing.B, c idle, node string) (pid int) {
	cluster, err := json.Marshal(c)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestIdle$")
	cmd.Env = append(os.Environ(), idleEnv+"="+node+" "+string(cluster))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// TestIdle is not a test but an agent in a process of its own.
func TestIdle(t *testing.T) {
	node, cluster, ok := strings.Cut(os.Getenv(idleEnv), " ")
	if !ok {
		t.Skip("only for BenchmarkIdleAgent")
	}
	var c idle
	if err := json.Unmarshal([]byte(cluster), &c); err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{
		Node: node, Cluster: &fakeCluster{snapshot: snapshot{c.Nodes, c.Agents, c.Servers}}, Presence: "rc/nodes",
		Gossip: GossipConfig{BindAddr: c.Nodes[node[1]-'0'].Address, BindPort: 17946, Key: []byte("0123456789abcdef")},
		Logger: logger(), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}
