package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/client/clienttest"
	"github.com/rollcall-dev/rollcall/client/crowd"
	"github.com/rollcall-dev/rollcall/internal/store"
)

const (
	faultClients  = 60
	faultInterval = time.Second
	// faultAckTimeout is long, because a busy machine starves what answers.
	// ROLLCALL_TEST_ACK_TIMEOUT is for measuring.
	faultAckTimeout = 4 * time.Second
)

func ackTimeout(t testing.TB) time.Duration {
	t.Helper()
	value := os.Getenv("ROLLCALL_TEST_ACK_TIMEOUT")
	if value == "" {
		return faultAckTimeout
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// people are a crowd and what it has told.
type people struct {
	*crowd.Crowd
	site *clienttest.Site
	t    *testing.T

	mu    sync.Mutex
	lines []crowd.Line
}

// gather starts a crowd on a site and waits until all of it is connected.
func gather(t *testing.T, s *clienttest.Site) *people {
	t.Helper()
	p := &people{site: s, t: t}
	c, err := crowd.New(crowd.Config{
		Count: faultClients, Servers: s.Addresses(), Presence: clienttest.Presence, StartRate: 1000,
		Interval: faultInterval, AckTimeout: ackTimeout(t),
		OnLine: func(l crowd.Line) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.lines = append(p.lines, l)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Crowd = c
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	clienttest.Eventually(t, "everybody is connected", func() bool { return total(c.Snapshot()) == faultClients })
	p.recorded()
	return p
}

func total(s crowd.Snapshot) int {
	n := 0
	for _, k := range s.Connected {
		n += k
	}
	return n
}

// recorded waits until the records in etcd say what the clients say.
func (p *people) recorded() {
	p.t.Helper()
	var keys []store.SessionKey
	for n := range faultClients {
		keys = append(keys, store.SessionKey{Namespace: "im", Presence: "android", Client: fmt.Sprintf("crowd-%d", n)})
	}
	clienttest.Eventually(p.t, "the records follow", func() bool {
		got, err := p.site.Store.ReadSessions(p.t.Context(), keys)
		if err != nil {
			p.t.Fatal(err)
		}
		held := map[string]int{}
		for _, r := range got {
			if r.Current == nil || r.Current.Offline {
				return false
			}
			held[r.Current.Server]++
		}
		now := p.Snapshot().Connected
		for server, n := range now {
			if held[server] != n {
				return false
			}
		}
		return total(p.Snapshot()) == faultClients
	})
}

// left waits until nobody is on the first server and everybody is somewhere, for
// one of the reasons, and says how long it took: after the fault, and after the
// first beat that stayed unanswered.
func (p *people) left(begun time.Time, reasons string) {
	t, from := p.t, p.site.Servers[0].Name
	t.Helper()
	clienttest.Eventually(t, "everybody is elsewhere", func() bool {
		s := p.Snapshot()
		return s.Connected[from] == 0 && total(s) == faultClients
	})
	p.recorded()
	p.mu.Lock()
	defer p.mu.Unlock()
	var all, beat []time.Duration
	late := map[string]time.Time{}
	for _, l := range p.lines {
		switch l.Kind {
		case client.Offline:
			t.Errorf("%s went offline: %s", l.Client, l.Error)
		case client.Late:
			if _, ok := late[l.Client]; !ok {
				late[l.Client] = l.At.Add(-ackTimeout(t))
			}
		case client.Moved:
			if l.From != from || !strings.Contains(reasons, l.Reason) {
				t.Errorf("%s moved from %s (%s), want from %s (%s)", l.Client, l.From, l.Reason, from, reasons)
			}
			all = append(all, l.At.Sub(begun))
			if at, ok := late[l.Client]; ok {
				beat = append(beat, l.At.Sub(at))
			}
		}
	}
	say := func(what string, l []time.Duration) {
		if len(l) == 0 {
			return
		}
		slices.Sort(l)
		t.Logf("%s: %d clients, first %v, median %v, last %v", what, len(l),
			l[0].Round(time.Millisecond), l[len(l)/2].Round(time.Millisecond), l[len(l)-1].Round(time.Millisecond))
	}
	s := p.Snapshot()
	t.Logf("interval %v, answer timeout at most %v, want %v after a beat; moved %v, now %v", faultInterval, ackTimeout(t), ackTimeout(t)+time.Second, s.MovesBy, s.Connected)
	say("elsewhere after the fault", all)
	say("elsewhere after the first beat without an answer", beat)
}

func TestAServerThatIs(t *testing.T) {
	if testing.Short() {
		t.Skip("runs an etcd")
	}
	for _, fault := range []struct {
		name, reasons string
		begin         func(*testing.T, *clienttest.Site)
	}{
		{"stopped", "late", func(_ *testing.T, s *clienttest.Site) { s.Servers[0].Stop() }},
		{"killed", "broken", func(_ *testing.T, s *clienttest.Site) { s.Servers[0].Kill() }},
		{"slow", "late", func(t *testing.T, s *clienttest.Site) { s.Servers[0].Delay(2 * ackTimeout(t)) }},
		{"draining", "directed", drain},
	} {
		t.Run(fault.name, func(t *testing.T) {
			s := clienttest.Start(t, clienttest.Config{Servers: 3})
			p := gather(t, s)
			begun := time.Now()
			fault.begin(t, s)
			p.left(begun, fault.reasons)
		})
	}
}

// drain directs everybody from the first server to the last.
func drain(t *testing.T, s *clienttest.Site) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	leader, err := s.Store.Campaign(ctx, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.PutDirective(ctx, s.Servers[0].Name, store.Directive{
		Failover: "test/drain", Incarnation: clienttest.Incarnation("server-0"), Drain: true, Rate: 50, FirstWave: 2,
		Targets: []store.Target{{Server: s.Servers[2].Name, Address: s.Servers[2].Address, Weight: 1}},
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAServerThatIsALittleSlowIsNotLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("runs an etcd")
	}
	s := clienttest.Start(t, clienttest.Config{Servers: 2})
	p := gather(t, s)
	s.Servers[0].Delay(ackTimeout(t) / 8)
	<-time.After(4 * faultInterval)
	if got := p.Snapshot(); got.Moves != 0 {
		t.Errorf("%+v", got)
	}
}

func TestARealServerRefusesAndAnswersPublications(t *testing.T) {
	if testing.Short() {
		t.Skip("runs an etcd")
	}
	s := clienttest.Start(t, clienttest.Config{Servers: 1})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg := client.Config{Servers: s.Addresses(), Presence: clienttest.Presence, ClientID: "ann", Password: "wrong", AckTimeout: ackTimeout(t)}
	if _, err := client.Dial(ctx, cfg); !errors.Is(err, client.ErrCredentials) {
		t.Errorf("error %v, want ErrCredentials", err)
	}
	cfg.Password = ""
	c, err := client.Dial(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if address, server := c.Server(); address != s.Servers[0].Address || server != s.Servers[0].Name {
		t.Errorf("Server: %s %s", address, server)
	}
	if err := c.Publish(ctx, "$rollcall/beat", nil); err != nil {
		t.Error(err)
	}
	var refusal *client.Refusal
	if err := c.Publish(ctx, "$rollcall/report", []byte("{}")); !errors.As(err, &refusal) {
		t.Errorf("error %v, want a refusal: this client has no right to report", err)
	}
	key := []store.SessionKey{{Namespace: "im", Presence: "android", Client: "ann"}}
	recorded := func(offline bool) func() bool {
		return func() bool {
			got, err := s.Store.ReadSessions(t.Context(), key)
			return err == nil && got[0].Current != nil && got[0].Current.Offline == offline
		}
	}
	clienttest.Eventually(t, "it is recorded that the client is here", recorded(false))
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	begun := time.Now()
	clienttest.Eventually(t, "it is recorded that the client has left", recorded(true))
	t.Logf("offline %v after Close", time.Since(begun).Round(time.Millisecond))
}

// What a watcher is told while its server, and the one that it watches, come and go.
func TestAWatchOfRealServers(t *testing.T) {
	if testing.Short() {
		t.Skip("runs an etcd")
	}
	s := clienttest.Start(t, clienttest.Config{Servers: 2})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dial := func(id string, change func(*client.Config)) *client.Client {
		t.Helper()
		cfg := client.Config{Servers: s.Addresses(), Presence: clienttest.Presence, ClientID: id, Interval: time.Second, AckTimeout: ackTimeout(t)}
		if change != nil {
			change(&cfg)
		}
		c, err := client.Dial(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	watcher := dial("watcher", nil)
	told := make(chan client.Change, 100)
	go func() {
		for c, err := range watcher.Watch(ctx, clienttest.Presence, "") {
			if err != nil {
				c.Client = err.Error()
			}
			told <- c
		}
	}()
	until := func(what string, ok func(client.Change) bool) client.Change {
		t.Helper()
		for {
			select {
			case c := <-told:
				if ok(c) {
					return c
				}
			case <-ctx.Done():
				t.Fatalf("not told that %s", what)
			}
		}
	}
	until("this was all", func(c client.Change) bool { return c.Client == "" })
	ann := dial("ann", func(c *client.Config) { c.Attributes = map[string]string{"mood": "fine"} })
	came := until("ann is here", func(c client.Change) bool { return c.Client == "ann" && c.Online && c.Attributes["mood"] == "fine" })
	if err := ann.SetAttributes(ctx, map[string]string{"mood": "better"}); err != nil {
		t.Error(err)
	}
	until("ann is better", func(c client.Change) bool { return c.Attributes["mood"] == "better" && c.Revision > came.Revision })
	_, name := watcher.Server()
	for _, one := range s.Servers {
		if one.Name == name {
			one.Kill()
		}
	}
	until("everybody was told anew by the other server", func(c client.Change) bool { return c.Client == "" })
	// Nobody but a controller would say so of who went down with the other one.
	clienttest.Eventually(t, "ann is there too", func() bool {
		_, at := ann.Server()
		return at != "" && at != name
	})
	_, name = ann.Server()
	s.Recorded(t, "ann", name)
	if err := ann.Close(); err != nil {
		t.Error(err)
	}
	gone := until("ann is gone", func(c client.Change) bool { return c.Client == "ann" && !c.Online })
	if gone.Revision <= came.Revision {
		t.Errorf("gone at revision %d, came at %d", gone.Revision, came.Revision)
	}
}
