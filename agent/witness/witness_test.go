package witness

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/agent/agenttest"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

const patience = 30 * time.Second

func open(t *testing.T, endpoints []string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Endpoints: endpoints, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func config(s *store.Store) Config {
	return Config{
		Name: store.ServerObserver("im/b"), Node: "n1", Zone: "z1", Boot: 7, Presence: "im/nodes",
		Token: func(context.Context) (string, error) { return "", nil },
		Store: s, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
}

// said is what etcd holds of what one observer says, as it changes.
type said struct {
	t       *testing.T
	updates <-chan store.Update[store.ObservationKey, store.Observation]
	all     map[store.ObservationKey]store.Observation
}

func (s *said) until(what string, done func(o store.Observation, there bool) bool) {
	s.t.Helper()
	key := store.ObservationKey{Server: "im/a", Observer: "server:im:b"}
	deadline := time.After(patience)
	for {
		if o, there := s.all[key]; done(o, there) {
			return
		}
		select {
		case u := <-s.updates:
			if u.Reset {
				clear(s.all)
			}
			for k, o := range u.Put {
				s.all[k] = o
			}
			for _, k := range u.Deleted {
				delete(s.all, k)
			}
		case <-deadline:
			s.t.Fatalf("%s: not within %v, etcd holds %+v", what, patience, s.all)
		}
	}
}

func TestAPartObservesWhereItIsAssignedTo(t *testing.T) {
	etcd := storetest.Start(t)
	own, leader := open(t, etcd.Endpoints()), open(t, etcd.Endpoints())
	a := agenttest.NewServer(t, "im/a")
	w, err := New(config(own))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()

	term, err := leader.Campaign(t.Context(), "leader")
	if err != nil {
		t.Fatal(err)
	}
	assign := func(names ...string) {
		t.Helper()
		to := store.Assignment{Address: a.Address, AnswerTime: 500, Window: 1000}
		for _, n := range names {
			to.StandIns = append(to.StandIns, store.StandIn{Name: n, Node: "n1", Boot: 7})
		}
		if err := term.PutAssignment(t.Context(), "im/a", to); err != nil {
			t.Fatal(err)
		}
	}
	s := &said{t: t, updates: leader.WatchObservations(t.Context()), all: map[store.ObservationKey]store.Observation{}}
	band := func(want wire.Band) func(store.Observation, bool) bool {
		return func(o store.Observation, there bool) bool { return there && o.Band == want }
	}

	assign("server:im:somebody", "server:im:b")
	s.until("it is answered", band(wire.BandOK))
	if o := s.all[store.ObservationKey{Server: "im/a", Observer: "server:im:b"}]; o.Boot != 7 || o.Zone != "z1" {
		t.Errorf("it says %+v", o)
	}
	for _, c := range a.Connects() {
		if !strings.HasPrefix(c.ClientID, "probe:n1:") || c.UserName != "im/nodes" {
			t.Errorf("it comes in as %q of %q", c.ClientID, c.UserName)
		}
	}
	a.Hang()
	s.until("it waits for answers", band(wire.BandHung))
	a.Resume()
	s.until("it is answered again", band(wire.BandOK))
	assign("server:im:somebody")
	s.until("it is not asked any more", func(_ store.Observation, there bool) bool { return !there })
	assign("server:im:b")
	s.until("it is asked again", band(wire.BandOK))

	stop()
	s.until("it says nothing once it has ended", func(_ store.Observation, there bool) bool { return !there })
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	s := new(store.Store)
	for what, spoil := range map[string]func(*Config){
		"without a name":     func(c *Config) { c.Name = "" },
		"without a machine":  func(c *Config) { c.Node = "" },
		"without a life":     func(c *Config) { c.Boot = 0 },
		"without a store":    func(c *Config) { c.Store = nil },
		"of no Presence":     func(c *Config) { c.Presence = "nodes" },
		"a machine too long": func(c *Config) { c.Node = strings.Repeat("n", 253) },
	} {
		c := config(s)
		spoil(&c)
		if _, err := New(c); err == nil {
			t.Errorf("a witness %s is made", what)
		}
	}
}
