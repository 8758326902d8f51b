package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/test/controlplane"
)

// patience is how long a condition is waited for, on two busy cores.
const patience = time.Minute

// world is an installation in which the servers and agents are played by the
// test: it writes into the store what they would.
type world struct {
	t         *testing.T
	cp        *controlplane.ControlPlane
	namespace string
	etcd      *storetest.Server
	store     *store.Store
	api       client.WithWatch
	nodes     []string
	boot      int64
	seq       int64
	said      map[string]wire.Report // by node
	servers   map[string]*server     // by pod

	mu         sync.Mutex
	directives map[string]store.Directive
	noted      chan struct{} // closed and made anew when directives has changed
}

// server is a heartbeat server that the test plays.
type server struct {
	w            *world
	pod          *corev1.Pod
	record       store.Server
	registration *store.Registration
}

// agents of a world: one in each zone, and none on a server's node.
var zones = []string{"a", "b", "c"}

// newWorld has an agent in each of three zones, and so many servers that hold
// 100 clients each. Nothing is judged before a controller runs.
func newWorld(t *testing.T, servers int) *world {
	t.Helper()
	cp := controlplane.ForTest(t)
	w := &world{
		t: t, cp: cp, namespace: cp.Namespace(t, "rollcall"), etcd: storetest.Start(t),
		boot: time.Now().UnixNano(), said: map[string]wire.Report{}, servers: map[string]*server{},
		directives: map[string]store.Directive{}, noted: make(chan struct{}),
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.api, err = client.NewWithWatch(cp.AdminConfig(), client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.clear)
	w.store = w.open()
	go w.follow(w.store.WatchDirectives(t.Context()))
	for _, zone := range zones {
		w.agent(w.namespace+"-"+zone, zone)
	}
	for i := range servers {
		w.serve(fmt.Sprintf("server-%d", i), 100)
	}
	for _, s := range w.servers {
		w.hear(s, wire.BandOK, zones...)
	}
	return w
}

// clear removes what another world's controller would look after: the API
// server is shared.
func (w *world) clear() {
	for _, o := range []client.Object{&v1alpha1.Presence{}, &v1alpha1.Failover{}, &corev1.Pod{}} {
		err := w.api.DeleteAllOf(context.Background(), o, client.InNamespace(w.namespace), client.GracePeriodSeconds(0))
		if err != nil {
			w.t.Errorf("clearing the world: %v", err)
		}
	}
}

// open connects to the world's etcd as another process would.
func (w *world) open() *store.Store {
	w.t.Helper()
	s, err := store.Open(w.t.Context(), store.Config{
		Endpoints: w.etcd.Endpoints(), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			w.t.Errorf("closing the store: %v", err)
		}
	})
	return s
}

func (w *world) follow(updates <-chan store.Update[string, store.Directive]) {
	for u := range updates {
		w.mu.Lock()
		if u.Reset {
			clear(w.directives)
		}
		for server, d := range u.Put {
			w.directives[server] = d
		}
		for _, server := range u.Deleted {
			delete(w.directives, server)
		}
		close(w.noted)
		w.noted = make(chan struct{})
		w.mu.Unlock()
	}
}

// directive that stands for a server; nil: none.
func (w *world) directive(pod string) *store.Directive {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d, ok := w.directives[w.namespace+"/"+pod]; ok {
		return &d
	}
	return nil
}

// directed waits for a directive, and tells when it was seen.
func (w *world) directed(pod string) (store.Directive, time.Time) {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		w.mu.Lock()
		d, ok := w.directives[w.namespace+"/"+pod]
		noted := w.noted
		w.mu.Unlock()
		if ok {
			return d, time.Now()
		}
		select {
		case <-noted:
		case <-deadline:
			w.t.Fatalf("%s got no directive within %v", pod, patience)
		}
	}
}

// agent makes a node whose agent is online.
func (w *world) agent(name, zone string) {
	w.t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone, "world": w.namespace},
	}}
	w.create(node)
	w.t.Cleanup(func() { _ = w.api.Delete(context.Background(), node) })
	w.nodes = append(w.nodes, name)
	w.said[name] = wire.Report{Node: name, Zone: zone, Boot: w.boot, Observations: map[string]wire.Observation{}}
	w.sessions(w.namespace+"/elsewhere", "elsewhere.1", "nodes", name+":0", name+":1")
}

// sessions writes sessions as a server would, with an interval of one second.
func (w *world) sessions(server, incarnation, presence string, clients ...string) {
	w.t.Helper()
	bucket, err := w.store.NewBucket(w.t.Context(), server, incarnation)
	if err != nil {
		w.t.Fatal(err)
	}
	var writes []store.SessionWrite
	for _, c := range clients {
		writes = append(writes, store.SessionWrite{
			Key:     store.SessionKey{Namespace: w.namespace, Presence: presence, Client: c},
			Session: store.Session{Server: server, Incarnation: incarnation, Since: time.Now().UnixMilli(), Interval: 1000},
			Bucket:  bucket.ID,
		})
	}
	if _, err := w.store.WriteSessions(w.t.Context(), writes); err != nil {
		w.t.Fatal(err)
	}
}

// serve makes a pod, and the record of the server in it.
func (w *world) serve(name string, clients int) *server {
	w.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Labels: map[string]string{
			"app.kubernetes.io/component": "server", v1alpha1.AcceptingLabel: "true",
		}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "server", Image: "none"}}},
	}
	w.create(pod)
	s := &server{w: w, pod: pod, record: store.Server{
		Incarnation: string(pod.UID) + ".1", Address: name + ".example:1883", Capacity: 1000,
		Sessions: map[string]int{w.namespace + "/apps": clients}, Takeovers: map[string]store.Takeovers{},
	}}
	w.servers[name] = s
	s.register()
	return s
}

func (s *server) name() string { return s.w.namespace + "/" + s.pod.Name }

func (s *server) register() {
	s.w.t.Helper()
	r, err := s.w.store.Register(s.w.t.Context(), s.name(), s.record)
	if err != nil {
		s.w.t.Fatal(err)
	}
	s.registration = r
	s.w.t.Cleanup(func() { _ = r.Close(context.Background()) })
}

// gone ends the server's lease.
func (s *server) gone() {
	s.w.t.Helper()
	if err := s.registration.Close(s.w.t.Context()); err != nil {
		s.w.t.Fatal(err)
	}
}

// holds rewrites the record: so many clients.
func (s *server) holds(clients int) {
	s.w.t.Helper()
	s.record.Sessions = map[string]int{s.w.namespace + "/apps": clients}
	s.update()
}

// takes rewrites the record: so many more have come from another, in all so
// many by directive and by their own time-out.
func (s *server) takes(from *server, directive, ownTimeout int) {
	s.w.t.Helper()
	was := s.record.Takeovers[from.record.Incarnation]
	more := directive + ownTimeout - was.Total()
	takeovers := map[string]store.Takeovers{}
	for origin, t := range s.record.Takeovers {
		takeovers[origin] = t
	}
	takeovers[from.record.Incarnation] = store.Takeovers{Directive: directive, Late: ownTimeout}
	s.record.Takeovers = takeovers
	s.holds(s.record.Total() + more)
}

func (s *server) update() {
	s.w.t.Helper()
	if err := s.registration.Update(s.w.t.Context(), s.record); err != nil {
		s.w.t.Fatal(err)
	}
}

// hear makes the agents of some zones report a band of a server.
func (w *world) hear(s *server, band wire.Band, from ...string) {
	w.t.Helper()
	for _, zone := range from {
		w.both(zone, band, s)
	}
}

// controller runs a replica until the test ends, or stop is called.
func (w *world) controller(id string) (c *Controllers, stop func()) {
	w.t.Helper()
	return w.controllerAs(id, w.cp.AdminConfig())
}

// controllerAs is the same, with other rights.
func (w *world) controllerAs(id string, config *rest.Config) (c *Controllers, stop func()) {
	w.t.Helper()
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	c, err := New(Config{
		Store: w.open(), RestConfig: config, Namespace: w.namespace, ID: id,
		Logger:     slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("replica", id),
		Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("controller %s: %v", id, err)
		}
	})
	w.t.Cleanup(stop)
	return c, stop
}

// ready waits until a replica is warm.
func (w *world) ready(c *Controllers) {
	w.t.Helper()
	w.eventually("the replica is ready", func() bool { return c.Ready() == nil })
}

// watchServers makes the Presence that most tests are about.
func (w *world) watchServers(mode v1alpha1.FailoverMode) *v1alpha1.Presence {
	w.t.Helper()
	p := &v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "servers"},
		Spec: v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{
			Selector: metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/component": "server"}},
			Port:     port("mqtt"), Probe: v1alpha1.ProbeSpec{MQTT: &v1alpha1.MQTTProbe{}},
			Overload: v1alpha1.OverloadSpec{Recovery: metav1.Duration{Duration: time.Second}},
			Failover: v1alpha1.FailoverPolicy{Mode: mode},
		}},
	}
	w.create(p)
	return p
}

// watchClients makes the Presence of the clients.
func (w *world) watchClients() {
	w.t.Helper()
	w.create(&v1alpha1.Presence{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "apps"},
		Spec: v1alpha1.PresenceSpec{Clients: &v1alpha1.ClientsSpec{
			Grace: &metav1.Duration{Duration: 500 * time.Millisecond},
		}},
	})
}

func (w *world) create(o client.Object) {
	w.t.Helper()
	if err := w.api.Create(w.t.Context(), o); err != nil {
		w.t.Fatal(err)
	}
}

// both makes the agent of one zone say the same of two servers in one report.
func (w *world) both(zone string, band wire.Band, servers ...*server) {
	w.t.Helper()
	node := w.namespace + "-" + zone
	r := w.said[node]
	observations := map[string]wire.Observation{}
	for server, o := range r.Observations {
		observations[server] = o
	}
	for _, s := range servers {
		observations[s.name()] = wire.Observation{
			Band: band, Since: time.Now(), Address: s.record.Address, Incarnation: s.record.Incarnation, Answer: 1000,
		}
	}
	w.seq++
	r.Seq, r.Observations = w.seq, observations
	w.said[node] = r
	if err := w.store.PutReport(w.t.Context(), r); err != nil {
		w.t.Fatal(err)
	}
}
