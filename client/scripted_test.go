package client

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// world is a network of scripted servers, in memory. In a synctest bubble its
// time is the bubble's.
type world struct {
	mu      sync.Mutex
	servers map[string]*scripted
	dialled []arrival // every attempt, whoever answers
}

type arrival struct {
	at      time.Time
	address string
}

func newWorld(servers ...*scripted) *world {
	w := &world{servers: map[string]*scripted{}}
	for _, s := range servers {
		w.servers[s.address] = s
	}
	return w
}

// dial is a Config.Dialer: connection refused where there is no server.
func (w *world) dial(_ context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialled = append(w.dialled, arrival{time.Now(), address})
	s := w.servers[address]
	if s == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	go s.serve(theirs)
	return ours, nil
}

func (w *world) remove(s *scripted) {
	w.mu.Lock()
	delete(w.servers, s.address)
	w.mu.Unlock()
	s.hangUp()
}

func (w *world) attempts() []arrival {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]arrival(nil), w.dialled...)
}

// scripted is a heartbeat server that does as it is told.
type scripted struct {
	address string
	name    string

	mu       sync.Mutex
	hints    []wire.ServerHint // told in CONNACK; nil: no list
	refuse   *packets.Connack  // answered to CONNECT instead of success
	raw      []byte            // answered to CONNECT instead of any of these
	silent   bool              // no answer to CONNECT
	mute     bool              // no answer to anything else
	delay    time.Duration     // of every answer after CONNACK
	delays   []time.Duration   // of the next ones, instead
	puback   byte              // reason code
	suback   byte              // 0x80 and more: of each filter
	keep     uint16            // Server Keep Alive; 0: none
	key      string            // of signed beats; empty: they need not be
	signed   []string          // what came with the publications so far, where there is a key
	conns    map[net.Conn]*sync.Mutex
	connects []*packets.Connect
	pings    []time.Time
	byes     []byte        // reason codes of DISCONNECTs received
	held     time.Duration // the longest silence that the NAT on the way survives; 0: any
	limit    int           // the longest interval in seconds that may be declared; 0: any
	declared []declared
	taken    []publication
	filters  []string
}

// declared is an interval that a client has declared: in CONNECT, or later.
type declared struct {
	at      time.Time
	seconds int
}

func server(address string, hints ...wire.ServerHint) *scripted {
	return &scripted{address: address, name: "test/" + address[:1], hints: hints, conns: map[net.Conn]*sync.Mutex{}}
}

func (s *scripted) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *scripted) serve(c net.Conn) {
	defer c.Close()
	p, err := packets.ReadPacket(c)
	if err != nil {
		return
	}
	connect, ok := p.Content.(*packets.Connect)
	if !ok {
		return
	}
	writing := &sync.Mutex{}
	s.mu.Lock()
	s.connects = append(s.connects, connect)
	s.declared = append(s.declared, declared{time.Now(), int(connect.KeepAlive)})
	s.conns[c] = writing
	refuse, raw, silent := s.refuse, s.raw, s.silent
	ack := &packets.Connack{Properties: &packets.Properties{
		User: []packets.User{{Key: wire.PropServer, Value: s.name}, {Key: wire.PropIncarnation, Value: "uid.1"}},
	}}
	if s.hints != nil {
		ack.Properties.User = append(ack.Properties.User, packets.User{Key: wire.PropServers, Value: wire.FormatServers(s.hints)})
	}
	if s.key != "" {
		ack.Properties.User = append(ack.Properties.User, packets.User{Key: wire.PropBeatKey, Value: s.key})
	}
	if s.keep != 0 {
		ack.Properties.ServerKeepAlive = &s.keep
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}()
	switch {
	case raw != nil:
		_, _ = c.Write(raw)
		return
	case refuse != nil:
		_, _ = refuse.WriteTo(c)
		return
	case !silent:
		writing.Lock()
		_, _ = ack.WriteTo(c)
		writing.Unlock()
	}
	last := time.Now()
	forgotten := false // by the NAT
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			return
		}
		s.mu.Lock()
		forgotten = forgotten || s.held > 0 && time.Since(last) >= s.held
		last = time.Now()
		if forgotten {
			s.mu.Unlock()
			continue
		}
		mute, delay := s.mute || silent, s.delay
		var answer packets.Packet
		switch in := p.Content.(type) {
		case *packets.Pingreq:
			s.pings = append(s.pings, time.Now())
			answer = &packets.Pingresp{}
		case *packets.Publish:
			code := s.puback
			s.taken = append(s.taken, publication{time.Now(), in.Topic, in.Payload})
			if n, err := strconv.Atoi(string(in.Payload)); in.Topic == wire.TopicKeepAlive && err == nil {
				if s.limit > 0 && n > s.limit {
					code = packets.PubackPayloadFormatInvalid
				} else {
					s.declared = append(s.declared, declared{time.Now(), n})
				}
			}
			if s.key != "" {
				value := ""
				for _, u := range in.Properties.User {
					if u.Key == wire.PropSigned {
						value = u.Value
					}
				}
				s.signed = append(s.signed, value)
			}
			if in.QoS == 0 {
				break
			}
			answer = &packets.Puback{PacketID: in.PacketID, ReasonCode: code, Properties: &packets.Properties{}}
		case *packets.Subscribe:
			suback := &packets.Suback{PacketID: in.PacketID, Properties: &packets.Properties{}}
			for _, f := range in.Subscriptions {
				s.filters = append(s.filters, f.Topic)
				suback.Reasons = append(suback.Reasons, s.suback|f.QoS)
			}
			answer = suback
		case *packets.Unsubscribe:
			answer = &packets.Unsuback{PacketID: in.PacketID, Reasons: make([]byte, len(in.Topics)), Properties: &packets.Properties{}}
			s.filters = slices.DeleteFunc(s.filters, func(f string) bool { return slices.Contains(in.Topics, f) })
		case *packets.Disconnect:
			s.byes = append(s.byes, in.ReasonCode)
			s.mu.Unlock()
			return
		}
		if answer != nil && len(s.delays) > 0 {
			delay, s.delays = s.delays[0], s.delays[1:]
		}
		s.mu.Unlock()
		if mute || answer == nil {
			continue
		}
		send := func() {
			writing.Lock()
			defer writing.Unlock()
			_, _ = answer.WriteTo(c)
		}
		if delay == 0 {
			send()
		} else {
			time.AfterFunc(delay, send)
		}
	}
}

// publish sends what a presence topic says.
func (s *scripted) publish(client string, state wire.PresenceState, retain bool) {
	payload, _ := json.Marshal(state)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, writing := range s.conns {
		writing.Lock()
		_, _ = (&packets.Publish{
			Topic: wire.PresenceTopic("im", "android", client), Payload: payload, Retain: retain, Properties: &packets.Properties{},
		}).WriteTo(c)
		writing.Unlock()
	}
}

// tell sends a DISCONNECT to every client and closes.
func (s *scripted) tell(code byte, properties *packets.Properties) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, writing := range s.conns {
		writing.Lock()
		_, _ = (&packets.Disconnect{ReasonCode: code, Properties: properties}).WriteTo(c)
		writing.Unlock()
		_ = c.Close()
	}
}

func (s *scripted) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// left returns the PropLeft of the last CONNECT.
func (s *scripted) left() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.connects[len(s.connects)-1].Properties.User {
		if u.Key == wire.PropLeft {
			return u.Value
		}
	}
	return ""
}

// seen returns the CONNECTs, the times of the PINGREQs and the reason codes of the
// DISCONNECTs that came so far.
func (s *scripted) seen() (connects []*packets.Connect, pings []time.Time, byes []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.connects), slices.Clone(s.pings), slices.Clone(s.byes)
}

func (s *scripted) subscribed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.filters)
}

func (s *scripted) connected() int {
	connects, _, _ := s.seen()
	return len(connects)
}

func (s *scripted) publications() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.taken)
}

func (s *scripted) pinged() int {
	_, pings, _ := s.seen()
	return len(pings)
}

// subject is a client under test and what it tells.
type subject struct {
	*Client
	t      *testing.T
	events chan Event
	begun  time.Time
}

// start makes a client of the world's servers (all of them, or those given),
// with an interval of 5 s without jitter and an AckTimeout of 1 s.
func (w *world) start(t *testing.T, change func(*Config), servers ...string) *subject {
	t.Helper()
	s := &subject{t: t, events: make(chan Event, 1000), begun: time.Now()}
	cfg := Config{
		Servers: servers, Presence: "im/android", ClientID: "ann",
		Interval: 5 * time.Second, Jitter: -1, AckTimeout: time.Second,
		Dialer: w.dial, OnEvent: func(e Event) { s.events <- e },
	}
	if len(servers) == 0 {
		for a := range w.servers {
			cfg.Servers = append(cfg.Servers, a)
		}
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Client = c
	t.Cleanup(func() { _ = c.Close() }) // where a test ends early
	return s
}

// expect waits for the next event.
func (s *subject) expect(kind Kind, address string) Event {
	s.t.Helper()
	select {
	case e := <-s.events:
		if e.Kind != kind || e.Address != address {
			s.t.Fatalf("after %v: %s at %q (%s, %v), want %s at %q", time.Since(s.begun), e.Kind, e.Address, e.Reason, e.Err, kind, address)
		}
		return e
	case <-time.After(time.Hour):
		s.t.Fatalf("nothing happened for an hour, want %s at %q", kind, address)
	}
	return Event{}
}

// quiet lets d pass, in which nothing may be told.
func (s *subject) quiet(d time.Duration) {
	s.t.Helper()
	select {
	case e := <-s.events:
		s.t.Fatalf("after %v: %s at %q (%s, %v), want nothing for %v", time.Since(s.begun), e.Kind, e.Address, e.Reason, e.Err, d)
	case <-time.After(d):
	}
}

func (s *subject) close() {
	s.t.Helper()
	if err := s.Close(); err != nil {
		s.t.Errorf("Close: %v", err)
	}
}

// bubble runs a test in a synctest bubble, which ends only when every
// goroutine in it has: a leak is a failure.
func bubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

func hint(address string, load int) wire.ServerHint {
	return wire.ServerHint{Address: address, Load: load}
}
