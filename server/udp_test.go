package server_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/rollcall-dev/rollcall/internal/datagram"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server"
)

// byDatagram makes a server take datagrams.
func byDatagram(files *pki) func(*server.Config) {
	return func(c *server.Config) {
		c.ListenTLS, c.ListenUDP, c.TLS = "127.0.0.1:0", "127.0.0.1:0", files.server.Server(false)
	}
}

// pocket is a client that beats by datagrams: it has closed its connection.
type pocket struct {
	t       *testing.T
	grant   datagram.Grant
	box     *datagram.Client
	conn    net.Conn
	counter uint32
	since   time.Time // of the grant's time
}

// pocketed connects a client over TLS, and closes the connection.
func pocketed(t *testing.T, files *pki, addr string, change ...func(*paho.Connect)) *pocket {
	t.Helper()
	c, p := bothWays(t, files, addr, change...)
	c.conn.Close()
	return p
}

// bothWays connects a client over TLS that is given a key.
func bothWays(t *testing.T, files *pki, addr string, change ...func(*paho.Connect)) (*v5, *pocket) {
	t.Helper()
	c := dialTLS(t, addr, files.client.Client(""), append([]func(*paho.Connect){withPassword("alice"), says(wire.PropUDP, "1")}, change...)...)
	if c.err != nil {
		t.Fatal(c.err)
	}
	p := &pocket{t: t, since: time.Now()}
	var err error
	if p.grant, err = datagram.ParseGrant(c.ack.Properties.User.Get(wire.PropUDP)); err != nil {
		t.Fatal(err)
	}
	if p.box, err = datagram.NewClient(p.grant.Session, p.grant.Key); err != nil {
		t.Fatal(err)
	}
	if p.conn, err = net.Dial("udp", p.grant.Address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.conn.Close() })
	return c, p
}

// says makes the next question.
func (p *pocket) says(k datagram.Kind, change ...func(*datagram.Message)) []byte {
	p.counter++
	m := datagram.Message{Kind: k, Counter: p.counter, Time: p.grant.Time + uint64(time.Since(p.since).Milliseconds())}
	for _, f := range change {
		f(&m)
	}
	b := make([]byte, datagram.Size)
	p.box.Seal(b, m)
	return b
}

func (p *pocket) send(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

// hears is the next answer.
func (p *pocket) hears() datagram.Message {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	b := make([]byte, 256)
	n, err := p.conn.Read(b)
	if err != nil {
		p.t.Fatalf("no answer: %v", err)
	}
	m, err := p.box.Open(b[:n])
	if err != nil {
		p.t.Fatalf("an answer of %d bytes: %v", n, err)
	}
	return m
}

// ask asks, and returns the answer.
func (p *pocket) ask(k datagram.Kind, change ...func(*datagram.Message)) datagram.Message {
	p.t.Helper()
	p.send(p.says(k, change...))
	m := p.hears()
	if m.Counter != p.counter {
		p.t.Fatalf("number %d was answered, want %d", m.Counter, p.counter)
	}
	return m
}

// asksPast is ask, where earlier questions may be answered first.
func (p *pocket) asksPast(k datagram.Kind) datagram.Message {
	p.t.Helper()
	p.send(p.says(k))
	for {
		if m := p.hears(); m.Counter == p.counter {
			return m
		}
	}
}

// told asks until the answer is of a kind.
func (p *pocket) told(k datagram.Kind) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("a beat is answered with kind %d", k), func() bool { return p.ask(datagram.Beat).Kind == k })
}

func TestBeatsByDatagramKeepAClientOnline(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	a := start(t, etcd.Endpoints(), "a", byDatagram(files))
	begun := time.Now()
	p := pocketed(t, files, a.AddrTLS().String(), user("im/late"), every(1)) // a lease of 6.5 s
	if p.grant.Address != a.AddrUDP().String() {
		t.Errorf("datagrams are to go to %s, the server takes them at %v", p.grant.Address, a.AddrUDP())
	}
	eventually(t, "it outlives its lease", func() bool {
		if m := p.ask(datagram.Beat); m.Kind != datagram.OK || m.Interval != 1000 {
			t.Fatalf("answered %+v", m)
		}
		return time.Since(begun) > 9*time.Second
	})
	elsewhere, err := net.Dial("udp", p.grant.Address) // a NAT has forgotten it
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	p.conn = elsewhere
	if m := p.ask(datagram.Beat); m.Kind != datagram.OK {
		t.Errorf("from another address: %+v", m)
	}
	if got := history(t, etcd.Client(), "late", "c"); len(got) != 1 || got[0].Offline {
		t.Errorf("recorded is %+v, want that it came", got)
	}
	if m := p.ask(datagram.Leave); m.Kind != datagram.OK {
		t.Errorf("its goodbye was answered %+v", m)
	}
	eventually(t, "it is offline", func() bool { s, _ := record(t, a.store, "late", "c"); return s.Offline })
	if s, _ := record(t, a.store, "late", "c"); s.LastSeen != s.Since {
		t.Errorf("recorded is %+v, want that it left on purpose", s)
	}
	if m := p.ask(datagram.Leave); m.Kind != datagram.Gone {
		t.Errorf("a second goodbye was answered %+v", m)
	}
	if n := a.metric("rollcall_server_datagrams_total", "answer", "gone"); n != 1 {
		t.Errorf("%v were answered that they are gone, want 1", n)
	}
}

func TestASessionThatHasEndedIsGone(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	d := &doorman{}
	a := start(t, etcd.Endpoints(), "a", byDatagram(files), func(c *server.Config) { c.Authenticator, c.RevalidateEvery = d, 20*time.Millisecond })
	b := start(t, etcd.Endpoints(), "b", byDatagram(files))

	silent := pocketed(t, files, a.AddrTLS().String(), id("silent"), user("im/quick"), every(1))
	eventually(t, "its lease ends", func() bool { s, _ := record(t, a.store, "quick", "silent"); return s.Offline })
	if m := silent.ask(datagram.Beat); m.Kind != datagram.Gone || m.Time != 0 || m.Interval != 0 {
		t.Errorf("once its lease is over: %+v", m)
	}

	first := pocketed(t, files, a.AddrTLS().String(), id("twice"))
	second := pocketed(t, files, a.AddrTLS().String(), id("twice"))
	if m := first.ask(datagram.Beat); m.Kind != datagram.Gone {
		t.Errorf("with the key of an earlier connection: %+v", m)
	}
	if m := second.ask(datagram.Beat); m.Kind != datagram.OK {
		t.Errorf("with that of the last: %+v", m)
	}

	moves := pocketed(t, files, a.AddrTLS().String(), id("moves"))
	online(t, a, "phone", "moves")
	moved := pocketed(t, files, b.AddrTLS().String(), id("moves"))
	eventually(t, "it is b's", func() bool {
		s, _ := record(t, b.store, "phone", "moves")
		return moved.ask(datagram.Beat).Kind == datagram.OK && s.Incarnation == b.config.Incarnation
	})
	moves.told(datagram.Gone)
	if s, _ := record(t, b.store, "phone", "moves"); s.Incarnation != b.config.Incarnation || s.Offline {
		t.Errorf("recorded is %+v, want that it is b's", s)
	}

	online(t, a, "phone", "twice")
	who := "alice"
	d.refused.Store(&who)
	second.told(datagram.Gone)
	eventually(t, "whose right was taken back is offline", func() bool { s, _ := record(t, a.store, "phone", "twice"); return s.Offline })
}

// lender gives every client a session in a fleet's name, but to those with one of their own.
type lender struct {
	taken atomic.Bool // the right to do so
}

func (l *lender) Authenticate(_ context.Context, c server.Credentials) (server.Principal, error) {
	if c.ClientID == "own" {
		return server.Principal{Name: "own", Rights: server.Connect | server.Watch}, nil
	}
	return server.Principal{Name: "fleet", Rights: server.Connect | server.Impersonate}, nil
}

func (l *lender) Revalidate(string, string, string) server.Rights {
	if l.taken.Load() {
		return server.Connect
	}
	return server.AllRights
}

func TestWhoMayNotSpeakForOthersAnyMoreIsGone(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	l := &lender{}
	a := start(t, etcd.Endpoints(), "a", byDatagram(files), func(c *server.Config) { c.Authenticator, c.RevalidateEvery = l, 20*time.Millisecond })
	lent, own := pocketed(t, files, a.AddrTLS().String(), id("lent")), pocketed(t, files, a.AddrTLS().String(), id("own"))
	for _, p := range []*pocket{lent, own} {
		if m := p.ask(datagram.Beat); m.Kind != datagram.OK {
			t.Fatalf("answered %+v", m)
		}
	}
	online(t, a, "phone", "lent")
	l.taken.Store(true)
	lent.told(datagram.Gone)
	eventually(t, "it is offline", func() bool { s, _ := record(t, a.store, "phone", "lent"); return s.Offline })
	if m := own.ask(datagram.Beat); m.Kind != datagram.OK {
		t.Errorf("who needs no such right: %+v", m)
	}
}

func TestTheIntervalIsDeclaredByDatagram(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	a := start(t, etcd.Endpoints(), "a", byDatagram(files))
	p := pocketed(t, files, a.AddrTLS().String(), every(10))
	online(t, a, "phone", "c")
	for _, c := range []struct {
		name        string
		asked, want uint32
	}{
		{"longer", 20_000, 20_000},
		{"as before", 0, 20_000},
		{"longer than the longest", 61_000, 20_000},
		{"shorter than the shortest", 1_000, 5_000},
		{"the longest", 60_000, 60_000},
	} {
		if m := p.ask(datagram.Beat, func(m *datagram.Message) { m.Interval = c.asked }); m.Kind != datagram.OK || m.Interval != c.want {
			t.Errorf("%s: %d ms asked, and answered %+v", c.name, c.asked, m)
		}
		eventually(t, c.name+" is recorded", func() bool { s, _ := record(t, a.store, "phone", "c"); return s.Interval == int64(c.want) })
	}
}

func TestTheIntervalIsOneForBothWays(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	a := start(t, etcd.Endpoints(), "a", byDatagram(files))
	c, p := bothWays(t, files, a.AddrTLS().String(), every(10))
	online(t, a, "phone", "c")
	if m := p.ask(datagram.Beat, func(m *datagram.Message) { m.Interval = 20_000 }); m.Interval != 20_000 {
		t.Fatalf("answered %+v", m)
	}
	for _, step := range []struct {
		name, payload string
		want          uint32
	}{
		{"nothing of the interval", `{"attributes":{"a":"b"}}`, 20_000},
		{"another place", `{"network":"wifi"}`, 20_000},
		{"what CONNECT said", `{"interval":10000}`, 10_000},
	} {
		if _, err := c.Publish(t.Context(), &paho.Publish{Topic: wire.TopicBeat, QoS: 1, Payload: []byte(step.payload)}); err != nil {
			t.Fatal(err)
		}
		if m := p.ask(datagram.Beat); m.Interval != step.want {
			t.Errorf("its connection has said %s: %+v, want %d ms", step.name, m, step.want)
		}
		eventually(t, "that is recorded", func() bool { s, _ := record(t, a.store, "phone", "c"); return s.Interval == int64(step.want) })
	}
}

func TestIntervalsAreChangedAtAPace(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	a := start(t, etcd.Endpoints(), "a", byDatagram(files), func(c *server.Config) { c.ConnectRate, c.ConnectBurst = 1e-6, 1 })
	p := pocketed(t, files, a.AddrTLS().String(), every(10))
	for i, c := range []struct{ asked, want uint32 }{{20_000, 20_000}, {20_000, 20_000}, {10_000, 20_000}, {30_000, 20_000}} {
		if m := p.ask(datagram.Beat, func(m *datagram.Message) { m.Interval = c.asked }); m.Kind != datagram.OK || m.Interval != c.want {
			t.Errorf("beat %d: %d ms asked, and answered %+v, want %d ms", i, c.asked, m, c.want)
		}
	}
}

func TestADrainSendsThoseAwayWhoBeatByDatagram(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	slowly := func(c *server.Config) { c.DrainFor = time.Hour }
	a, b := start(t, etcd.Endpoints(), "a", byDatagram(files), slowly), start(t, etcd.Endpoints(), "b", byDatagram(files))
	var clients []*pocket
	// One has a key, and never sends a datagram: nobody waits for it to hear of anything.
	pocketed(t, files, a.AddrTLS().String(), id("mute"), every(60))
	for i := range 4 {
		clients = append(clients, pocketed(t, files, a.AddrTLS().String(), id(fmt.Sprint("c", i))))
	}
	draining := func() (n int) {
		for _, p := range clients {
			switch m := p.ask(datagram.Beat); m.Kind {
			case datagram.Draining:
				n++
			case datagram.OK:
			default:
				t.Fatalf("answered %+v", m)
			}
		}
		return n
	}
	if n := draining(); n != 0 {
		t.Fatalf("%d are sent away before anybody says so", n)
	}
	l := lead(t, b.store)
	targets := []store.Target{{Server: b.name, Address: b.addr(), Weight: 1}}
	direct(t, l, a, store.Directive{Failover: "im/f1", Count: 3, Targets: targets, Rate: 100, FirstWave: 3})
	eventually(t, "three of them are told", func() bool { d := entry(t, b.store, a.name).Drain; return d != nil && d.Told == 3 && d.Done })
	if n := draining(); n != 3 {
		t.Errorf("%d are sent away, want 3", n)
	}
	if err := l.DeleteDirective(t.Context(), a.name, "im/f1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that is over", func() bool { return draining() == 0 })

	// Who was told, and has not heard of it yet, is told by that directive alone.
	direct(t, l, a, store.Directive{Failover: "im/f2", Count: 3, Targets: targets, Rate: 100, FirstWave: 3})
	eventually(t, "three are told once more", func() bool {
		d := entry(t, b.store, a.name).Drain
		return d != nil && d.Failover == "im/f2" && d.Told == 3
	})
	if err := l.DeleteDirective(t.Context(), a.name, "im/f2"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that is over, too", func() bool { return entry(t, b.store, a.name).Drain == nil })
	direct(t, l, a, store.Directive{Failover: "im/f3", Count: 1, Targets: targets, Rate: 100, FirstWave: 1})
	eventually(t, "one is told", func() bool {
		d := entry(t, b.store, a.name).Drain
		return d != nil && d.Failover == "im/f3" && d.Told == 1
	})
	if n := draining(); n != 1 {
		t.Errorf("%d are sent away, want 1", n)
	}
	if err := l.DeleteDirective(t.Context(), a.name, "im/f3"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nobody is sent away", func() bool { return draining() == 0 })

	stopped := make(chan struct{})
	go func() { defer close(stopped); a.stop() }()
	for i, p := range clients {
		p.told(datagram.Draining)
		to := pocketed(t, files, b.AddrTLS().String(), id(fmt.Sprint("c", i)))
		eventually(t, "it is b's", func() bool {
			s, _ := record(t, b.store, "phone", fmt.Sprint("c", i))
			return to.ask(datagram.Beat).Kind == datagram.OK && s.Incarnation == b.config.Incarnation
		})
	}
	select {
	case <-stopped: // it waits for nobody else
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	for i := range clients {
		for _, s := range history(t, etcd.Client(), "phone", fmt.Sprint("c", i)) {
			if s.Offline {
				t.Errorf("client %d was recorded offline", i)
			}
		}
	}
}

func TestAStoppedServerThatWakesLosesWhoHasGoneOn(t *testing.T) {
	etcd, files := storetest.Start(t), newPKI(t)
	b := start(t, etcd.Endpoints(), "b", byDatagram(files))
	t.Setenv(childTLS, files.cert+"\n"+files.key)
	a := startChild(t, etcd.Endpoints()[0])
	moves := pocketed(t, files, a.tls, id("moves"), user("im/quick"), every(3)) // a lease of 5 s
	stays := pocketed(t, files, a.tls, id("stays"), user("im/quick"), every(10))
	for _, p := range []*pocket{moves, stays} {
		if m := p.ask(datagram.Beat); m.Kind != datagram.OK {
			t.Fatalf("answered %+v", m)
		}
	}
	recordedBy(t, b.store, "child.1", "moves")
	recordedBy(t, b.store, "child.1", "stays")

	a.signal(syscall.SIGSTOP)
	stopped := time.Now()
	unread := func() { // it lies in the socket until the server wakes
		moves.send(moves.says(datagram.Beat))
		stays.send(stays.says(datagram.Beat))
	}
	unread()
	moved := pocketed(t, files, b.AddrTLS().String(), id("moves"), user("im/quick"), every(10))
	eventually(t, "it is b's", func() bool {
		s, _ := record(t, b.store, "quick", "moves")
		return moved.ask(datagram.Beat).Kind == datagram.OK && s.Incarnation == b.config.Incarnation
	})
	eventually(t, "it is stopped for longer than a lease", func() bool {
		moved.ask(datagram.Beat)
		return time.Since(stopped) > 6*time.Second
	})
	unread()
	a.signal(syscall.SIGCONT)
	// What lay there proves nothing. (What it sent from now on would: then it is there.)
	eventually(t, "who has moved is not counted there any more", func() bool {
		if m := stays.asksPast(datagram.Beat); m.Kind != datagram.OK {
			t.Fatalf("the one that stayed: %+v", m)
		}
		return entry(t, b.store, "rollcall-system/child").Sessions["im/quick"] == 1
	})
	if m := moves.asksPast(datagram.Beat); m.Kind != datagram.Gone {
		t.Errorf("who has moved: %+v", m)
	}
	checkMovedOnce(t, etcd.Client(), "moves", b)
	if got := history(t, etcd.Client(), "quick", "stays"); len(got) != 1 || got[0].Incarnation != "child.1" {
		t.Errorf("the one that stayed: %+v", got)
	}
}
