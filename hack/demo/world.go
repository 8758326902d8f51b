package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/test/controlplane"
	"github.com/rollcall-dev/rollcall/test/process"
)

// The size of the demo, but for its clients.
const (
	servers     = 3
	agents      = 5
	controllers = 2
)

// world is everything that runs, and what was seen of it.
type world struct {
	options options
	line    *timeline
	figures figures

	root    string // of the module
	temp    *process.TempDir
	dir     string // temp's: all that is written
	block   block
	plane   *controlplane.ControlPlane
	etcd    *controlplane.Etcd
	spawner *process.Spawner
	api     client.WithWatch
	store   *store.Store
	clients *clientsView
	uids    map[string]string // pod → UID
	parts   map[string]*process.Process
	logs    []string
	tokens  string            // the servers' file of credentials
	kube    map[string]string // role → kubeconfig
}

func newWorld(ctx context.Context, o options) (*world, error) {
	w := &world{
		options: o, line: newTimeline(), clients: newClientsView(),
		spawner: process.NewSpawner(), uids: map[string]string{}, parts: map[string]*process.Process{},
	}
	klog.SetLogger(klog.NewKlogr().V(9)) // client-go's own notes are not part of the story
	err := w.start(ctx)
	if err != nil {
		defer w.close()
		if ctx.Err() == nil {
			err = fmt.Errorf("%w\nLogs:\n%s", err, w.logTails())
		}
		return nil, err
	}
	return w, nil
}

// start brings everything up, with a line for each step.
func (w *world) start(ctx context.Context) (err error) {
	if w.root, err = moduleRoot(); err != nil {
		return err
	}
	if w.temp, err = process.NewTempDir("", "rollcall-demo-"); err != nil {
		return err
	}
	w.dir = w.temp.Path()
	if w.block, err = findBlock(servers, agents); err != nil {
		return err
	}
	heading("Rollcall: %d heartbeat servers, %d node agents, %d controllers, %d clients, one kube-apiserver, two etcd", servers, agents, controllers, w.options.clients)
	w.step("starting etcd and kube-apiserver")
	if w.plane, err = controlplane.Start(ctx, controlplane.Config{Parent: w.dir}); err != nil {
		return err
	}
	if w.etcd, err = controlplane.StartEtcd(ctx, controlplane.EtcdConfig{Parent: w.dir}); err != nil {
		return err
	}
	if err := w.connect(ctx); err != nil {
		return err
	}
	w.step("installing the CRDs; making nodes and pods, as kubelets would")
	if err := w.plane.InstallCRDs(ctx, filepath.Join(w.root, "config", "crd", "bases")); err != nil {
		return err
	}
	var nodes []part
	for i := range agents {
		nodes = append(nodes, part{node: nodeName(i), ip: w.block.node(i)})
	}
	if err := createObjects(ctx, w.api, nodes); err != nil {
		return err
	}
	if err := w.credentials(ctx); err != nil {
		return err
	}
	w.step("starting the controllers")
	for i := range controllers {
		if err := w.startController(i); err != nil {
			return err
		}
	}
	if err := w.automatic(ctx); err != nil {
		return err
	}
	w.step("starting the heartbeat servers and the agents")
	for i := range servers {
		if err := w.startServer(ctx, i); err != nil {
			return err
		}
	}
	for i := range agents {
		if err := w.startAgent(ctx, i); err != nil {
			return err
		}
	}
	if err := w.waitFor(ctx, "three servers that are judged alive", 60*time.Second, func() bool { return w.judged(ctx, servers) }); err != nil {
		return err
	}
	w.step("connecting %d clients", w.options.clients)
	if err := w.startCrowd(); err != nil {
		return err
	}
	return w.waitFor(ctx, "every client to be connected, and counted", 60*time.Second, func() bool {
		return w.clients.total() == w.options.clients && w.counted(ctx) >= w.options.clients*99/100
	})
}

func (w *world) step(format string, args ...any) { w.line.say(time.Now(), "setup", format, args...) }

// connect makes the demo's own eyes: an API client and a store.
func (w *world) connect(ctx context.Context) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	var err error
	if w.api, err = client.NewWithWatch(w.plane.AdminConfig(), client.Options{Scheme: scheme}); err != nil {
		return err
	}
	w.store, err = store.Open(ctx, store.Config{Endpoints: []string{w.etcd.Endpoint()}, Logger: slog.New(slog.DiscardHandler)})
	return err
}

// credentials gives each part what it needs to be let in, and no more.
func (w *world) credentials(ctx context.Context) (err error) {
	if err := grant(ctx, w.api, filepath.Join(w.root, "config", "rbac", "roles.yaml")); err != nil {
		return err
	}
	w.kube = map[string]string{}
	for _, role := range roles {
		if w.kube[role], err = w.plane.Kubeconfig(role); err != nil {
			return err
		}
	}
	return w.writeTokens()
}

// writeTokens gives every agent a credential of its own, and one to the crowd.
func (w *world) writeTokens() error {
	w.tokens = filepath.Join(w.dir, "tokens")
	var file strings.Builder
	add := func(principal, rights string) error {
		secret := rand.Text()
		fmt.Fprintf(&file, "%s %s %s\n", secret, principal, rights)
		return os.WriteFile(w.tokenFile(principal), []byte(secret), 0o600)
	}
	for i := range agents {
		if err := add(nodeName(i), "connect,report"); err != nil {
			return err
		}
	}
	if err := add("crowd", "connect"); err != nil {
		return err
	}
	return os.WriteFile(w.tokens, []byte(file.String()), 0o600)
}

func (w *world) tokenFile(principal string) string {
	return filepath.Join(w.dir, hex.EncodeToString([]byte(principal))+".token")
}

// automatic turns the servers' Presence from advice to action, once the
// controller has made it.
func (w *world) automatic(ctx context.Context) error {
	presence := &v1alpha1.Presence{}
	key := client.ObjectKey{Namespace: namespace, Name: "servers"}
	if err := w.waitFor(ctx, "the controller to make the Presence of the servers", 60*time.Second, func() bool { return w.api.Get(ctx, key, presence) == nil }); err != nil {
		return err
	}
	before := client.MergeFrom(presence.DeepCopy())
	presence.Spec.Servers.Failover.Mode = v1alpha1.ModeAutomatic
	return w.api.Patch(ctx, presence, before)
}

// judged tells whether the controller holds n servers alive, and is able to judge.
func (w *world) judged(ctx context.Context, n int32) bool {
	presence := &v1alpha1.Presence{}
	if w.api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "servers"}, presence) != nil {
		return false
	}
	ready := false
	for _, c := range presence.Status.Conditions {
		ready = ready || (c.Type == v1alpha1.ConditionReady && c.Status == "True")
	}
	return ready && presence.Status.Counts.Alive == n
}

// counted is how many clients the controller has counted: its status follows
// changes of 1 % at once, and smaller ones within half a minute.
func (w *world) counted(ctx context.Context) int {
	presence := &v1alpha1.Presence{}
	if w.api.Get(ctx, client.ObjectKey{Namespace: appNamespace, Name: appPresence}, presence) != nil {
		return 0
	}
	return int(presence.Status.Counts.Members)
}

func (w *world) startServer(ctx context.Context, i int) error {
	p := part{name: serverName(i), component: "server", node: nodeName(i), ip: w.block.server(i), portName: "mqtt", port: int32(w.block.mqtt)}
	if w.uids[p.name] == "" {
		uid, err := createPod(ctx, w.api, p)
		if err != nil {
			return err
		}
		w.uids[p.name] = string(uid)
	}
	address := fmt.Sprintf("%s:%d", p.ip, p.port)
	return w.spawn(p.name, nil, "server", "--faults",
		"--name", p.name, "--namespace", namespace, "--pod-uid", w.uids[p.name], "--node", p.node, "--zone", zone(i),
		"--listen", address, "--advertise", address, "--capacity", strconv.Itoa(3*w.options.clients),
		"--tokens", w.tokens, "--etcd", w.etcd.Endpoint(), "--kubeconfig", w.kube["rollcall-server"],
		"--http", fmt.Sprintf("%s:%d", p.ip, w.block.http))
}

func (w *world) startAgent(ctx context.Context, i int) error {
	p := part{name: fmt.Sprintf("agent-%d", i+1), component: "agent", node: nodeName(i), ip: w.block.agent(i), portName: "gossip", port: int32(w.block.gossip)}
	if _, err := createPod(ctx, w.api, p); err != nil {
		return err
	}
	return w.spawn(p.name, nil, "agent",
		"--node", p.node, "--zone", zone(i), "--namespace", namespace, "--servers", w.addresses(),
		"--gossip-bind", fmt.Sprintf("%s:%d", p.ip, p.port), "--token-file", w.tokenFile(p.node),
		"--kubeconfig", w.kube["rollcall-agent"], "--http", fmt.Sprintf("%s:%d", p.ip, w.block.http))
}

func (w *world) startController(i int) error {
	name := fmt.Sprintf("controller-%d", i)
	return w.spawn(name, nil, "controller", "--id", name, "--namespace", namespace,
		"--etcd", w.etcd.Endpoint(), "--kubeconfig", w.kube["rollcall-controller"])
}

func (w *world) startCrowd() error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	go w.clients.read(read)
	return w.spawn("crowd", write, "crowd", "--count", strconv.Itoa(w.options.clients), "--presence", appNamespace+"/"+appPresence,
		"--servers", w.addresses(), "--token-file", w.tokenFile("crowd"), "--interval", "5s", "--ack-timeout", "1s")
}

// addresses of all servers, for those who have to find a first one.
func (w *world) addresses() string {
	var l []string
	for i := range servers {
		l = append(l, fmt.Sprintf("%s:%d", w.block.server(i), w.block.mqtt))
	}
	return strings.Join(l, ",")
}

// spawn runs one part of Rollcall as a process of its own; its log is a file.
func (w *world) spawn(name string, stdout io.Writer, args ...string) error {
	path := filepath.Join(w.dir, name+".log")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	binary := w.options.binary
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
	w.parts[name], w.logs = p, append(w.logs, path)
	return nil
}

// answerDelay makes every answer of a server late.
func (w *world) answerDelay(ctx context.Context, i int, delay time.Duration) error {
	target := fmt.Sprintf("http://%s:%d/debug/answer-delay?delay=%s", w.block.server(i), w.block.http, url.QueryEscape(delay.String()))
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, target, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", target, response.Status)
	}
	return nil
}

// waitFor polls until done, at most for so long, and says every few seconds
// what it waits for. It fails at once when a part ends.
func (w *world) waitFor(ctx context.Context, what string, limit time.Duration, done func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	said := begin
	for !done() {
		for name, p := range w.parts {
			if !p.Running() {
				return fmt.Errorf("%s ended by itself: %w", name, p.Err())
			}
		}
		if time.Since(begin) > limit {
			return fmt.Errorf("waited %s for %s", limit, what)
		}
		if time.Since(said) > 3*time.Second {
			said = time.Now()
			w.line.say(said, "…", "waiting for %s", what)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// kubectl runs kubectl and returns what it prints.
func (w *world) kubectl(ctx context.Context, args ...string) string {
	out, err := exec.CommandContext(ctx, w.plane.Kubectl(), append([]string{"--kubeconfig", w.plane.AdminKubeconfig()}, args...)...).CombinedOutput()
	if err != nil && len(out) == 0 {
		return err.Error() + "\n"
	}
	return string(out)
}

// logTails is the end of every part's log, for a person who has to find out why.
func (w *world) logTails() string {
	var b strings.Builder
	for _, path := range w.logs {
		raw, _ := os.ReadFile(path)
		lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
		fmt.Fprintf(&b, "--- %s\n%s\n", filepath.Base(path), bytes.Join(lines[max(0, len(lines)-8):], []byte("\n")))
	}
	return b.String()
}

// close ends every part, the stopped ones too, and removes what was written.
func (w *world) close() {
	if w.store != nil {
		_ = w.store.Close()
	}
	w.spawner.Close()
	if w.etcd != nil {
		_ = w.etcd.Stop()
	}
	if w.plane != nil {
		_ = w.plane.Stop()
	}
	if w.temp != nil {
		_ = w.temp.Remove()
	}
}

func serverName(i int) string { return fmt.Sprintf("server-%d", i) }
func nodeName(i int) string   { return fmt.Sprintf("node-%d", i+1) }

// moduleRoot is the directory with go.mod, at or above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run it inside the repository (no go.mod was found)")
		}
		dir = filepath.Dir(dir)
	}
}
