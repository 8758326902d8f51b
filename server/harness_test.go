package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server"
)

// presences are those that the tests use.
type presences map[string]server.Presence

func (p presences) Lookup(namespace, name string) (server.Presence, bool) {
	found, ok := p[namespace+"/"+name]
	return found, ok
}

var known = presences{
	"im/quick": {Kind: server.Clients, MinInterval: time.Second, MaxInterval: 10 * time.Second, Grace: 500 * time.Millisecond},
	"im/late":  {Kind: server.Clients, MinInterval: time.Second, MaxInterval: 10 * time.Second, Grace: 5 * time.Second},
	"im/phone": {Kind: server.Clients, MinInterval: 5 * time.Second, MaxInterval: time.Minute, Grace: 5 * time.Second},
	"rollcall-system/nodes": {
		Kind: server.Nodes, MinInterval: time.Second, MaxInterval: time.Second, Grace: 5 * time.Second,
	},
	"rollcall-system/servers": {Kind: server.Servers, MinInterval: time.Second, MaxInterval: time.Minute},
}

// clients knows passwords: "agent", "alice", "bob" and "nobody", who has no rights.
type clients struct{}

func (clients) Authenticate(_ context.Context, c server.Credentials) (server.Principal, error) {
	switch name := string(c.Password); name {
	case "agent":
		return server.Principal{Name: name, Rights: server.Connect | server.Report}, nil
	case "alice", "bob":
		return server.Principal{Name: name, Rights: server.Connect}, nil
	case "nobody":
		return server.Principal{Name: name}, nil
	}
	return server.Principal{}, server.ErrCredentials
}

func logger(t testing.TB) *slog.Logger {
	if os.Getenv("ROLLCALL_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// patience is how long anything may take on a busy machine.
const patience = time.Minute

func open(t testing.TB, endpoints []string) *store.Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := store.Open(ctx, store.Config{Endpoints: endpoints, Logger: logger(t), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// running is a server that serves.
type running struct {
	*server.Server
	t        testing.TB
	name     string // "rollcall-system/…"
	config   server.Config
	store    *store.Store
	registry *prometheus.Registry
	stop     func() // and wait
}

func (r *running) addr() string { return r.Addr().String() }

// loops is the setting that all tests run with: ROLLCALL_TEST_LOOPS=-1 tries
// them with the standard library's listener.
func loops() int {
	n, _ := strconv.Atoi(os.Getenv("ROLLCALL_TEST_LOOPS"))
	return n
}

// start runs a server called name on an etcd of its own connection, until the
// test ends.
func start(t testing.TB, endpoints []string, name string, change ...func(*server.Config)) *running {
	t.Helper()
	registry := prometheus.NewRegistry()
	r := &running{t: t, name: "rollcall-system/" + name, store: open(t, endpoints), registry: registry}
	r.config = server.Config{
		Name: name, Namespace: "rollcall-system", Incarnation: fmt.Sprintf("%s.%d", name, time.Now().UnixNano()),
		Listen: "127.0.0.1:0", Capacity: 1000, Store: r.store, Presences: known, Authenticator: clients{},
		Logger: logger(t), Registerer: registry, Loops: loops(),
	}
	for _, c := range change {
		c(&r.config)
	}
	s, err := server.New(r.config)
	if err != nil {
		t.Fatalf("new server: %v", err)
	}
	r.Server = s
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("run %s: %v", name, err)
			}
		case <-time.After(patience):
			t.Errorf("%s does not end", name)
		}
	})
	t.Cleanup(r.stop)
	eventually(t, name+" is ready", func() bool { return s.Ready() == nil })
	return r
}

// eventually waits until what must come to pass does.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !f() {
		select {
		case <-deadline.C:
			t.Fatalf("it did not come to pass that %s", what)
		case <-again.C:
		}
	}
}

// record reads a client's record.
func record(t testing.TB, s *store.Store, presence, client string) (store.Session, int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	got, err := s.ReadSessions(ctx, []store.SessionKey{{Namespace: "im", Presence: presence, Client: client}})
	if err != nil {
		t.Fatalf("read %s: %v", client, err)
	}
	if got[0].Current == nil {
		return store.Session{}, 0
	}
	return *got[0].Current, got[0].Revision
}

// online waits until a client is recorded online at a server.
func online(t testing.TB, at *running, presence, client string) int64 {
	t.Helper()
	var revision int64
	eventually(t, client+" is online at "+at.name, func() bool {
		s, r := record(t, at.store, presence, client)
		revision = r
		return s.Incarnation == at.config.Incarnation && !s.Offline
	})
	return revision
}

// onlineBeating waits likewise, while the client beats: a server that did not
// know the client's last record when it read its CONNECT needs another packet.
func onlineBeating(t testing.TB, at *running, presence, client string, conn net.Conn) int64 {
	t.Helper()
	eventually(t, client+" is online at "+at.name, func() bool {
		ping(t, conn)
		s, _ := record(t, at.store, presence, client)
		return s.Incarnation == at.config.Incarnation && !s.Offline
	})
	return online(t, at, presence, client)
}

// history is everything that was ever written about a client, oldest first.
func history(t testing.TB, c *clientv3.Client, presence, client string) []store.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	path := "/rollcall/v1/sessions/im/" + presence + "/" + client
	var all []store.Session
	for opts := []clientv3.OpOption(nil); ; {
		got, err := c.Get(ctx, path, opts...)
		if err != nil {
			t.Fatalf("history of %s: %v", client, err)
		}
		if len(got.Kvs) == 0 {
			return all
		}
		var s store.Session
		if err := json.Unmarshal(got.Kvs[0].Value, &s); err != nil {
			t.Fatalf("history of %s: %v", client, err)
		}
		all = slices.Insert(all, 0, s)
		opts = []clientv3.OpOption{clientv3.WithRev(got.Kvs[0].ModRevision - 1)}
	}
}

// entry is a server's own record.
func entry(t testing.TB, s *store.Store, name string) store.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return (<-s.WatchServers(ctx)).Put[name]
}

// v5 is a client of version 5 that we did not write.
type v5 struct {
	*paho.Client
	conn net.Conn
	ack  *paho.Connack
	err  error
	gone chan *paho.Disconnect // nil where the connection just ended
}

// connect5 connects a client, or not: see err and ack.
func connect5(t testing.TB, addr string, change ...func(*paho.Connect)) *v5 {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	c := &v5{conn: conn, gone: make(chan *paho.Disconnect, 8)}
	c.Client = paho.NewClient(paho.ClientConfig{
		Conn:               packets.NewThreadSafeConn(conn),
		PacketTimeout:      patience,
		OnServerDisconnect: func(d *paho.Disconnect) { c.gone <- d },
		OnClientError:      func(error) { c.gone <- nil },
	})
	cp := &paho.Connect{
		ClientID: "c", KeepAlive: 5, CleanStart: true, UsernameFlag: true, Username: "im/phone",
		PasswordFlag: true, Password: []byte("alice"), Properties: &paho.ConnectProperties{RequestProblemInfo: true},
	}
	for _, f := range change {
		f(cp)
	}
	c.ack, c.err = c.Client.Connect(t.Context(), cp) // its end is the client's
	t.Cleanup(func() { conn.Close() })
	return c
}

func id(name string) func(*paho.Connect)    { return func(c *paho.Connect) { c.ClientID = name } }
func user(name string) func(*paho.Connect)  { return func(c *paho.Connect) { c.Username = name } }
func password(p string) func(*paho.Connect) { return func(c *paho.Connect) { c.Password = []byte(p) } }
func every(seconds uint16) func(*paho.Connect) {
	return func(c *paho.Connect) { c.KeepAlive = seconds }
}
func says(key, value string) func(*paho.Connect) {
	return func(c *paho.Connect) { c.Properties.User.Add(key, value) }
}

// must connects a client that is let in.
func must(t testing.TB, addr string, change ...func(*paho.Connect)) *v5 {
	t.Helper()
	c := connect5(t, addr, change...)
	if c.err != nil {
		t.Fatalf("connect: %v", c.err)
	}
	return c
}

// ends waits for the server to end the connection, and tells the reason code
// that it gave; 0 where it gave none.
func (c *v5) ends(t testing.TB) *paho.Disconnect {
	t.Helper()
	select {
	case d := <-c.gone:
		if d == nil {
			return &paho.Disconnect{Properties: &paho.DisconnectProperties{}}
		}
		return d
	case <-time.After(patience):
		t.Fatal("the server does not end the connection")
		return nil
	}
}

// refused counts what a server has refused.
func (r *running) refused(reason string) float64 {
	return r.metric("rollcall_server_refusals_total", "reason", reason)
}

func (r *running) metric(name, label, value string) float64 {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name || label != "" && (len(m.GetLabel()) != 1 || m.GetLabel()[0].GetValue() != value) {
				continue
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	r.t.Fatalf("there is no metric %s{%s=%q}", name, label, value)
	return 0
}
