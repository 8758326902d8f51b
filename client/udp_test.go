package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/client/clienttest"
	"github.com/rollcall-dev/rollcall/internal/certificate"
	"github.com/rollcall-dev/rollcall/internal/certificate/certificatetest"
	"github.com/rollcall-dev/rollcall/internal/store"
)

// secureSite is some servers that take datagrams, and how to speak TLS with them.
func secureSite(t *testing.T, servers int) (*clienttest.Site, *tls.Config) {
	t.Helper()
	dir := t.TempDir()
	cert, key, ca := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")
	a := certificatetest.New(t, "test")
	a.Issue("rollcall", cert, key)
	a.Write(ca)
	files, err := certificate.New(certificate.Config{CA: ca, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return clienttest.Start(t, clienttest.Config{Servers: servers, Cert: cert, Key: key}), files.Client("")
}

// ways counts what a client has opened, and may lose what it sends.
type ways struct {
	mu        sync.Mutex
	open      map[string]int // by network
	asked     atomic.Int64   // datagrams that the client wanted to send
	answered  atomic.Int64
	lose      func(n int64) bool // of the n-th datagram; nil: none is lost
	connected atomic.Int64       // TCP connections, ever
}

type way struct {
	net.Conn
	w       *ways
	network string
	once    sync.Once
}

func (w *ways) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[string]int{}
	}
	w.open[network]++
	if network == "tcp" {
		w.connected.Add(1)
	}
	return &way{Conn: c, w: w, network: network}, nil
}

func (c *way) Write(b []byte) (int, error) {
	if c.network == "udp" {
		if n := c.w.asked.Add(1); c.w.lose != nil && c.w.lose(n) {
			return len(b), nil
		}
	}
	return c.Conn.Write(b)
}

func (c *way) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.network == "udp" && err == nil {
		c.w.answered.Add(1)
	}
	return n, err
}

func (c *way) Close() error {
	c.once.Do(func() {
		c.w.mu.Lock()
		defer c.w.mu.Unlock()
		c.w.open[c.network]--
	})
	return c.Conn.Close()
}

func (w *ways) count(network string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open[network]
}

// alone waits until the client lives by datagrams.
func (w *ways) alone(t *testing.T) {
	t.Helper()
	clienttest.Eventually(t, "the connection is closed, and datagrams are answered", func() bool {
		return w.count("tcp") == 0 && w.count("udp") == 1 && w.answered.Load() > 0
	})
}

// beating dials a client that beats by datagrams. Its events come to the channel.
func beating(t *testing.T, config *tls.Config, w *ways, id string, servers []string, change ...func(*client.Config)) (*client.Client, <-chan client.Event) {
	t.Helper()
	events := make(chan client.Event, 1000)
	c := client.Config{
		Servers: servers, Presence: clienttest.Presence, ClientID: id, Interval: time.Second, AckTimeout: time.Second,
		TLS: config, UDP: true, Dialer: w.dial, OnEvent: func(e client.Event) { events <- e },
	}
	for _, f := range change {
		f(&c)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	one, err := client.Dial(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = one.Close() }) // it may be closed already
	return one, events
}

// next waits for an event of a kind, past others.
func next(t *testing.T, events <-chan client.Event, kind client.Kind) client.Event {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		select {
		case e := <-events:
			if e.Kind == kind {
				return e
			}
		case <-limit.C:
			t.Fatalf("it was not told %s", kind)
		}
	}
}

// gone waits until a member is recorded offline.
func gone(t *testing.T, s *clienttest.Site, member string) {
	t.Helper()
	clienttest.Eventually(t, member+" is offline", func() bool {
		got, err := s.Store.ReadSessions(t.Context(), []store.SessionKey{{Namespace: "im", Presence: "android", Client: member}})
		return err == nil && got[0].Current != nil && got[0].Current.Offline
	})
}

func TestAClientThatBeatsByDatagrams(t *testing.T) {
	s, config := secureSite(t, 1)
	var w ways
	c, events := beating(t, config, &w, "c", s.Addresses())
	w.alone(t)
	before := w.answered.Load()
	clienttest.Eventually(t, "ten more beats are answered", func() bool { return w.answered.Load() >= before+10 })
	s.Recorded(t, "c", s.Servers[0].Name)
	if next(t, events, client.Connected); len(events) != 0 {
		t.Errorf("it was told %+v", <-events)
	}
	if n := w.connected.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	gone(t, s, "c")
	if n := w.count("udp"); n != 0 {
		t.Errorf("%d ways for datagrams are left", n)
	}
}

func TestAClientWhoseDatagramsAreLostStaysOnItsConnection(t *testing.T) {
	s, config := secureSite(t, 1)
	w := ways{lose: func(int64) bool { return true }}
	c, events := beating(t, config, &w, "c", s.Addresses())
	clienttest.Eventually(t, "it gives up trying", func() bool { return w.asked.Load() == 3 })
	if err := c.Publish(t.Context(), "$rollcall/beat", nil); err != nil {
		t.Error(err)
	}
	if next(t, events, client.Connected); len(events) != 0 || w.count("tcp") != 1 {
		t.Errorf("%d events, %d connections", len(events), w.count("tcp"))
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	gone(t, s, "c")
}

func TestSingleLostDatagramsAreForgiven(t *testing.T) {
	s, config := secureSite(t, 2)
	w := ways{lose: func(n int64) bool { return n > 1 && n%3 == 0 }}
	_, events := beating(t, config, &w, "c", s.Addresses(), func(c *client.Config) { c.Misses = 4 })
	w.alone(t)
	clienttest.Eventually(t, "twenty beats are answered", func() bool { return w.answered.Load() >= 20 })
	next(t, events, client.Connected)
	for len(events) > 0 {
		if e := <-events; e.Kind != client.Late {
			t.Errorf("it was told %+v", e)
		}
	}
	if n := w.connected.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestAClientThatBeatsByDatagramsLeavesAServerThatFails(t *testing.T) {
	for _, fault := range []struct {
		name string
		do   func(*clienttest.Server)
	}{
		{"stopped", (*clienttest.Server).Stop},
		{"killed", (*clienttest.Server).Kill},
		{"slow", func(s *clienttest.Server) { s.Delay(time.Minute) }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			s, config := secureSite(t, 2)
			var w ways
			_, events := beating(t, config, &w, "c", s.Addresses())
			at := next(t, events, client.Connected)
			w.alone(t)
			old, other := s.Servers[0], s.Servers[1]
			if at.Server == other.Name {
				old, other = other, old
			}
			s.Recorded(t, "c", old.Name)
			begun := time.Now()
			fault.do(old)
			e := next(t, events, client.Moved)
			t.Logf("moved after %v", time.Since(begun))
			if e.Server != other.Name || e.Previous != old.Name || e.Reason != "broken" {
				t.Errorf("told %+v, want that it has moved to %s, without accusing anybody", e, other.Name)
			}
			w.alone(t)
			s.Recorded(t, "c", other.Name)
		})
	}
}

func TestAClientThatBeatsByDatagramsIsSentElsewhere(t *testing.T) {
	s, config := secureSite(t, 2)
	var w ways
	_, events := beating(t, config, &w, "c", s.Addresses()[:1])
	next(t, events, client.Connected)
	w.alone(t)
	s.Recorded(t, "c", s.Servers[0].Name)
	leader, err := s.Store.Campaign(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = leader.Resign(context.Background()) }()
	to := s.Servers[1]
	if err := leader.PutDirective(t.Context(), s.Servers[0].Name, store.Directive{
		Failover: "test/drain", Term: leader.Term(), Incarnation: clienttest.Incarnation("server-0"), Drain: true, Rate: 10, FirstWave: 10,
		Targets: []store.Target{{Server: to.Name, Address: to.Address, Weight: 1}},
	}); err != nil {
		t.Fatal(err)
	}
	if e := next(t, events, client.Moved); e.Server != to.Name || e.Reason != "directed" {
		t.Errorf("told %+v, want that it was directed to %s", e, to.Name)
	}
	s.Recorded(t, "c", to.Name)
}

func TestAClientThatNeedsAConnectionGetsOne(t *testing.T) {
	s, config := secureSite(t, 1)
	var w ways
	c, events := beating(t, config, &w, "c", s.Addresses())
	next(t, events, client.Connected)
	w.alone(t)
	for i := range 2 {
		if err := c.SetAttributes(t.Context(), map[string]string{"room": fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
		if e := next(t, events, client.Connected); e.Reason != client.ReasonNeeded {
			t.Errorf("told %+v, want that it was needed", e)
		}
		w.alone(t)
	}
	ctx, stop := context.WithCancel(t.Context())
	told := make(chan client.Change)
	go func() {
		defer close(told)
		for change, err := range c.Watch(ctx, clienttest.Presence, "") {
			if err != nil {
				t.Error(err)
			}
			told <- change
		}
	}()
	if first := <-told; first.Client != "c" || !first.Online {
		t.Errorf("told %+v, want that it is online itself", first)
	}
	if w.count("tcp") != 1 {
		t.Error("who watches has no connection")
	}
	stop()
	for range told {
	}
	w.alone(t)
}

func TestAClientThatIsForgottenComesBack(t *testing.T) {
	s, config := secureSite(t, 1)
	var w, another ways
	_, events := beating(t, config, &w, "c", s.Addresses())
	next(t, events, client.Connected)
	w.alone(t)
	second, _ := beating(t, config, &another, "c", s.Addresses(), func(c *client.Config) { c.UDP = false })
	if err := second.Close(); err != nil { // it is offline by that, and the first is gone
		t.Logf("the second was taken over already: %v", err)
	}
	if e := next(t, events, client.Connected); !errors.Is(e.Err, client.ErrForgotten) {
		t.Errorf("told %+v, want that its server had forgotten it", e)
	}
	w.alone(t)
	s.Recorded(t, "c", s.Servers[0].Name)
}

func TestDatagramsNeedTLS(t *testing.T) {
	err := client.Config{Servers: []string{"a:1"}, Presence: "im/android", ClientID: "c", UDP: true}.Validate()
	if err == nil || err.Error() != "UDP: needs TLS, over which alone a server gives keys" {
		t.Errorf("%v", err)
	}
}
