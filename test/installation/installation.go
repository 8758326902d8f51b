// Package installation runs all of Rollcall on one machine: every part a process
// of its own, before a real kube-apiserver and a real etcd. What a kubelet would
// do (pods and nodes in the API) it does itself. The demo tells a story with it,
// and tests break it.
package installation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/test/controlplane"
	"github.com/rollcall-dev/rollcall/test/process"
)

// startWithin bounds each step of the start that waits for Rollcall.
const startWithin = 3 * time.Minute

// Config says how large it is.
type Config struct {
	// Servers, Agents and Controllers are how many of each run; at least one.
	Servers, Agents, Controllers int
	// Capacity of each server, in sessions.
	Capacity int
	// Clients is the spec of the clients' Presence.
	Clients v1alpha1.ClientsSpec
	// Binary is rollcall; empty: what `make build` leaves in bin/.
	Binary string
	// Etcd is the endpoint that a part is to use, in place of etcd's own. Nil:
	// etcd's own.
	Etcd func(part, endpoint string) string
	// Step is told each step of the start, Waiting every few seconds what is
	// waited for. Nil: nobody.
	Step, Waiting func(what string)
}

func (c *Config) validate() error {
	if c.Servers < 1 || c.Agents < 1 || c.Controllers < 1 || c.Capacity < 1 {
		return errors.New("installation: Servers, Agents, Controllers and Capacity are at least 1")
	}
	if c.Etcd == nil {
		c.Etcd = func(_, endpoint string) string { return endpoint }
	}
	if c.Step == nil {
		c.Step = func(string) {}
	}
	if c.Waiting == nil {
		c.Waiting = func(string) {}
	}
	return nil
}

// Installation is everything that runs. Its methods may be called from one
// goroutine at a time.
type Installation struct {
	// Plane is the Kubernetes API, Etcd is Rollcall's own.
	Plane *controlplane.ControlPlane
	Etcd  *controlplane.Etcd
	// API and Store see everything.
	API   client.WithWatch
	Store *store.Store

	cfg     Config
	root    string // of the module
	temp    *process.TempDir
	block   block
	spawner *process.Spawner
	uids    map[string]string // pod → UID
	parts   map[string]*process.Process
	logs    []string
	tokens  string            // the servers' file of credentials
	kube    map[string]string // role → kubeconfig
}

// Start returns when the controller holds every server alive. Whatever it
// returns must be closed, with an error too.
func Start(ctx context.Context, cfg Config) (*Installation, error) {
	w := &Installation{cfg: cfg, spawner: process.NewSpawner(), uids: map[string]string{}, parts: map[string]*process.Process{}}
	if err := w.cfg.validate(); err != nil {
		return w, err
	}
	klog.SetLogger(klog.NewKlogr().V(9)) // client-go's own notes are of no interest here
	log.SetLogger(logr.Discard())
	return w, w.start(ctx)
}

func (w *Installation) start(ctx context.Context) (err error) {
	if w.root, err = moduleRoot(); err != nil {
		return err
	}
	if w.temp, err = process.NewTempDir("", "rollcall-"); err != nil {
		return err
	}
	if w.block, err = findBlock(w.cfg.Servers, w.cfg.Agents, w.cfg.Controllers); err != nil {
		return err
	}
	w.cfg.Step("starting etcd and kube-apiserver")
	if w.Plane, err = controlplane.Start(ctx, controlplane.Config{Parent: w.Dir()}); err != nil {
		return err
	}
	if w.Etcd, err = controlplane.StartEtcd(ctx, controlplane.EtcdConfig{Parent: w.Dir()}); err != nil {
		return err
	}
	if err := w.connect(ctx); err != nil {
		return err
	}
	w.cfg.Step("installing the CRDs; making nodes and pods, as kubelets would")
	if err := w.Plane.InstallCRDs(ctx, filepath.Join(w.root, "config", "crd", "bases")); err != nil {
		return err
	}
	var nodes []part
	for i := range w.cfg.Agents {
		nodes = append(nodes, part{node: NodeName(i), ip: w.block.node(i)})
	}
	if err := w.createObjects(ctx, nodes); err != nil {
		return err
	}
	if err := w.credentials(ctx); err != nil {
		return err
	}
	w.cfg.Step("starting the heartbeat servers and the agents")
	for i := range w.cfg.Servers {
		if err := w.StartServer(ctx, i); err != nil {
			return err
		}
	}
	for i := range w.cfg.Agents {
		if err := w.startAgent(ctx, i); err != nil {
			return err
		}
	}
	// Last: a judge that meets servers before anybody watches them takes most for
	// lost, and does nothing until they have been well for a while.
	w.cfg.Step("starting the controllers")
	for i := range w.cfg.Controllers {
		if err := w.StartController(i); err != nil {
			return err
		}
	}
	return w.WaitFor(ctx, "all servers to be judged alive", startWithin, func() bool { return w.Judged(ctx, w.cfg.Servers) })
}

// Dir is the directory with all that is written; Close removes it.
func (w *Installation) Dir() string { return w.temp.Path() }

// connect makes eyes of its own: an API client and a store.
func (w *Installation) connect(ctx context.Context) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	var err error
	if w.API, err = client.NewWithWatch(w.Plane.AdminConfig(), client.Options{Scheme: scheme}); err != nil {
		return err
	}
	w.Store, err = store.Open(ctx, store.Config{Endpoints: []string{w.Etcd.Endpoint()}, Logger: slog.New(slog.DiscardHandler)})
	return err
}

// Servers is the Presence of the servers, as the controller holds it now.
func (w *Installation) Servers(ctx context.Context) (*v1alpha1.Presence, error) {
	presence := &v1alpha1.Presence{}
	return presence, w.API.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: "servers"}, presence)
}

// Judged tells whether the controller holds n servers alive, and is able to judge.
func (w *Installation) Judged(ctx context.Context, n int) bool {
	presence, err := w.Servers(ctx)
	if err != nil {
		return false
	}
	ready := false
	for _, c := range presence.Status.Conditions {
		ready = ready || (c.Type == v1alpha1.ConditionReady && c.Status == "True")
	}
	return ready && presence.Status.Counts.Alive == int32(n)
}

// Counted is how many clients the controller has counted: its status follows
// changes of 1 % at once, and smaller ones within half a minute.
func (w *Installation) Counted(ctx context.Context) int {
	presence := &v1alpha1.Presence{}
	if w.API.Get(ctx, client.ObjectKey{Namespace: AppNamespace, Name: AppPresence}, presence) != nil {
		return 0
	}
	return int(presence.Status.Counts.Members)
}

// WaitFor polls until done, at most for so long. It fails at once when a part
// ends that nobody has ended.
func (w *Installation) WaitFor(ctx context.Context, what string, limit time.Duration, done func() bool) error {
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
			w.cfg.Waiting(what)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Close ends every part, the stopped ones too, and removes what was written.
func (w *Installation) Close() {
	if w.Store != nil {
		_ = w.Store.Close()
	}
	w.spawner.Close()
	if w.Etcd != nil {
		_ = w.Etcd.Stop()
	}
	if w.Plane != nil {
		_ = w.Plane.Stop()
	}
	if w.temp != nil {
		_ = w.temp.Remove()
	}
}

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
