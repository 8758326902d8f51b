package installation

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/test/process"
)

// The names of the i-th of each.

// ServerName is also its pod's.
func ServerName(i int) string { return fmt.Sprintf("server-%d", i) }

// ControllerName is also its id in the election.
func ControllerName(i int) string { return fmt.Sprintf("controller-%d", i) }

// AgentName is also its pod's.
func AgentName(i int) string { return fmt.Sprintf("agent-%d", i+1) }

// NodeName is that of the node on which agent i runs. Servers and controllers are
// spread over all nodes in turn.
func NodeName(i int) string { return fmt.Sprintf("node-%d", i+1) }

// credentials gives each part what it needs to be let in, and no more.
func (w *Installation) credentials(ctx context.Context) (err error) {
	if err := grant(ctx, w.API, filepath.Join(w.root, "config", "rbac", "roles.yaml")); err != nil {
		return err
	}
	w.kube = map[string]string{}
	for _, role := range roles {
		if w.kube[role], err = w.Plane.Kubeconfig(role); err != nil {
			return err
		}
	}
	return w.writeTokens()
}

// crowd is the principal of all clients.
const crowd = "crowd"

// writeTokens gives every agent a credential of its own, and one to the clients.
func (w *Installation) writeTokens() error {
	w.tokens = filepath.Join(w.Dir(), "tokens")
	var file strings.Builder
	add := func(principal, rights string) error {
		secret := rand.Text()
		fmt.Fprintf(&file, "%s %s %s\n", secret, principal, rights)
		return os.WriteFile(w.tokenFile(principal), []byte(secret), 0o600)
	}
	for i := range w.cfg.Agents {
		if err := add(NodeName(i), "connect,report"); err != nil {
			return err
		}
	}
	for i := range w.cfg.Servers {
		if err := add(ServerName(i), "connect,report"); err != nil {
			return err
		}
	}
	for i := range w.cfg.Controllers {
		if err := add(ControllerName(i), "connect,report"); err != nil {
			return err
		}
	}
	if err := add(crowd, "connect"); err != nil {
		return err
	}
	return os.WriteFile(w.tokens, []byte(file.String()), 0o600)
}

func (w *Installation) tokenFile(principal string) string {
	return filepath.Join(w.Dir(), hex.EncodeToString([]byte(principal))+".token")
}

// TokenFile holds the clients' credential.
func (w *Installation) TokenFile() string { return w.tokenFile(crowd) }

// Addresses of all servers, for those who have to find a first one.
func (w *Installation) Addresses() []string {
	var l []string
	for i := range w.cfg.Servers {
		l = append(l, fmt.Sprintf("%s:%d", w.block.server(i), w.block.mqtt))
	}
	return l
}

// StartServer starts the i-th server, or another incarnation of it.
func (w *Installation) StartServer(ctx context.Context, i int) error {
	on := i % w.cfg.Agents
	p := part{name: ServerName(i), component: "server", node: NodeName(on), ip: w.block.server(i), portName: "mqtt", port: int32(w.block.mqtt)}
	if w.uids[p.name] == "" {
		uid, err := createPod(ctx, w.API, p)
		if err != nil {
			return err
		}
		w.uids[p.name] = string(uid)
	}
	address := fmt.Sprintf("%s:%d", p.ip, p.port)
	return w.Spawn(p.name, nil, "server", "--faults",
		"--name", p.name, "--namespace", Namespace, "--pod-uid", w.uids[p.name], "--node", p.node, "--zone", w.zone(on), "--peer-token-file", w.tokenFile(p.name),
		"--listen", address, "--advertise", address, "--capacity", strconv.Itoa(w.cfg.Capacity),
		"--tokens", w.tokens, "--etcd", w.cfg.Etcd(p.name, w.Etcd.Endpoint()), "--kubeconfig", w.kube["rollcall-server"],
		"--http", w.serverHTTP(i))
}

func (w *Installation) serverHTTP(i int) string {
	return fmt.Sprintf("%s:%d", w.block.server(i), w.block.http)
}

func (w *Installation) startAgent(ctx context.Context, i int) error {
	p := part{name: AgentName(i), component: "agent", node: NodeName(i), ip: w.block.agent(i), portName: "gossip", port: int32(w.block.gossip)}
	if _, err := createPod(ctx, w.API, p); err != nil {
		return err
	}
	return w.Spawn(p.name, nil, "agent",
		"--node", p.node, "--zone", w.zone(i), "--namespace", Namespace, "--servers", strings.Join(w.Addresses(), ","),
		"--gossip-bind", fmt.Sprintf("%s:%d", p.ip, p.port), "--token-file", w.tokenFile(p.node),
		"--kubeconfig", w.kube["rollcall-agent"], "--http", fmt.Sprintf("%s:%d", p.ip, w.block.http))
}

// StartController starts the i-th controller.
func (w *Installation) StartController(i int) error {
	name, on := ControllerName(i), i%w.cfg.Agents
	return w.Spawn(name, nil, "controller", "--id", name, "--namespace", Namespace,
		"--node", NodeName(on), "--zone", w.zone(on), "--token-file", w.tokenFile(name),
		"--etcd", w.cfg.Etcd(name, w.Etcd.Endpoint()), "--kubeconfig", w.kube["rollcall-controller"],
		"--http", w.controllerHTTP(i))
}

func (w *Installation) controllerHTTP(i int) string {
	return fmt.Sprintf("%s:%d", w.block.controller(i), w.block.http)
}

// Spawn runs rollcall as a process of its own, called name; its log is a file.
// What it prints goes there too, unless stdout takes it.
func (w *Installation) Spawn(name string, stdout io.Writer, args ...string) error {
	path := filepath.Join(w.Dir(), name+".log")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	binary := w.cfg.Binary
	if binary == "" {
		binary = filepath.Join(w.root, "bin", "rollcall")
	}
	cmd := exec.Command(binary, append(args, "--log-format", "text")...)
	cmd.Stdout, cmd.Stderr = file, file
	if stdout != nil {
		cmd.Stdout = stdout
	}
	p, err := w.spawner.Start(cmd)
	if err != nil {
		return fmt.Errorf("starting %s: %w (make build makes bin/rollcall)", name, err)
	}
	if w.parts[name] == nil {
		w.logs = append(w.logs, path)
	}
	w.parts[name] = p
	return nil
}

// Part is the process of that name, nil where there is none.
func (w *Installation) Part(name string) *process.Process { return w.parts[name] }

// Kill ends a part, which WaitFor then does not miss.
func (w *Installation) Kill(name string) {
	w.parts[name].Kill()
	delete(w.parts, name)
}

// AnswerDelay makes every answer of the i-th server late.
func (w *Installation) AnswerDelay(ctx context.Context, i int, delay time.Duration) error {
	target := fmt.Sprintf("http://%s/debug/answer-delay?delay=%s", w.serverHTTP(i), url.QueryEscape(delay.String()))
	_, err := w.ask(ctx, http.MethodPut, target)
	return err
}

// ServerMetric reads a metric of the i-th server, by its whole name with labels.
func (w *Installation) ServerMetric(ctx context.Context, i int, name string) (float64, error) {
	return w.metric(ctx, w.serverHTTP(i), name)
}

// ControllerMetric is the same of the i-th controller.
func (w *Installation) ControllerMetric(ctx context.Context, i int, name string) (float64, error) {
	return w.metric(ctx, w.controllerHTTP(i), name)
}

func (w *Installation) metric(ctx context.Context, address, name string) (float64, error) {
	raw, err := w.ask(ctx, http.MethodGet, "http://"+address+"/metrics")
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), name+" "); found {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.Join(fmt.Errorf("there is no metric %s", name), lines.Err())
}

func (w *Installation) ask(ctx context.Context, method, target string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", target, response.Status)
	}
	return io.ReadAll(response.Body)
}

// Kubectl runs kubectl and returns what it prints.
func (w *Installation) Kubectl(ctx context.Context, args ...string) string {
	out, err := exec.CommandContext(ctx, w.Plane.Kubectl(), append([]string{"--kubeconfig", w.Plane.AdminKubeconfig()}, args...)...).CombinedOutput()
	if err != nil && len(out) == 0 {
		return err.Error() + "\n"
	}
	return string(out)
}

// LogTails is the end of every part's log, for a person who has to find out why.
func (w *Installation) LogTails() string {
	var b strings.Builder
	for _, path := range w.logs {
		raw, _ := os.ReadFile(path)
		lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
		fmt.Fprintf(&b, "--- %s\n%s\n", filepath.Base(path), bytes.Join(lines[max(0, len(lines)-8):], []byte("\n")))
	}
	return b.String()
}
