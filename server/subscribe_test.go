package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server"
)

// watchers knows "eve", who watches her own Presence, and im/quick where others
// says so, besides those that clients knows.
type watchers struct {
	clients
	others bool
}

func (w watchers) Authenticate(ctx context.Context, c server.Credentials) (server.Principal, error) {
	if string(c.Password) == "eve" {
		return server.Principal{Name: "eve", Rights: server.Connect | server.Watch}, nil
	}
	return w.clients.Authenticate(ctx, c)
}

func (w watchers) MayWatch(namespace, presence, principal string) bool {
	return w.others && namespace == "im" && presence == "quick" && principal == "eve"
}

func watched(c *server.Config) { c.Authenticator = watchers{others: true} }

// told is one message of a presence topic.
type told struct {
	client   string
	retained bool
	will     string // of a will, whose payload it is
	wire.PresenceState
}

// listener gathers what a subscriber is told.
type listener struct {
	t   testing.TB
	mu  sync.Mutex
	all []told
}

func (l *listener) take(topic string, payload []byte, retained bool, will string) {
	_, _, client, ok := wire.ParsePresenceTopic(topic)
	one := told{client: client, retained: retained}
	switch {
	case !ok:
		l.t.Errorf("told on %q", topic)
	case will != "":
		one.will = string(payload)
	default:
		if err := json.Unmarshal(payload, &one.PresenceState); err != nil {
			l.t.Errorf("told %q on %s", payload, topic)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, one)
}

// of is what was told of one client.
func (l *listener) of(client string) []told {
	l.mu.Lock()
	defer l.mu.Unlock()
	var got []told
	for _, m := range l.all {
		if m.client == client {
			got = append(got, m)
		}
	}
	return got
}

// becomes waits until the last that was told of a client is so.
func (l *listener) becomes(client string, state wire.State, server string) {
	l.t.Helper()
	eventually(l.t, fmt.Sprintf("%s is told to be %s at %s", client, state, server), func() bool {
		got := l.of(client)
		return len(got) > 0 && got[len(got)-1].State == state && got[len(got)-1].Server == server
	})
}

// subscribe subscribes a client of version 5.
func subscribe(t testing.TB, c *v5, options ...paho.SubscribeOptions) *listener {
	t.Helper()
	l := &listener{t: t}
	c.AddOnPublishReceived(func(r paho.PublishReceived) (bool, error) {
		l.take(r.Packet.Topic, r.Packet.Payload, r.Packet.Retain, r.Packet.Properties.User.Get(wire.PropWill))
		return true, nil
	})
	ack, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: options})
	if err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	for i, o := range options {
		if ack.Reasons[i] != min(o.QoS, 1) {
			t.Fatalf("%s was granted %#x", o.Topic, ack.Reasons[i])
		}
	}
	return l
}

func everyone(qos byte) paho.SubscribeOptions {
	return paho.SubscribeOptions{Topic: wire.PresenceTopic("im", "phone", "+"), QoS: qos}
}

func TestASubscriberIsToldWhoIsHereAndThenEveryChange(t *testing.T) {
	etcd := storetest.Start(t)
	a, b := start(t, etcd.Endpoints(), "a", watched), start(t, etcd.Endpoints(), "b", watched)
	c1 := must(t, a.addr(), id("c1"))
	online(t, a, "phone", "c1")
	w := must(t, b.addr(), id("w"), user("im/quick"), password("eve"))
	refused, err := w.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{everyone(1)}})
	if err == nil || refused.Reasons[0] != 0x87 {
		t.Errorf("who may not watch was granted %v", refused)
	}
	w = must(t, b.addr(), id("w"), password("eve"))
	online(t, b, "phone", "w")
	l := subscribe(t, w, everyone(2))
	l.becomes(wire.EveryClient, wire.StateCurrent, "")
	first, current := l.of("c1"), l.of(wire.EveryClient)
	if len(first) != 1 || !first[0].retained || first[0].State != wire.StateOnline || first[0].Server != a.name || first[0].Interval != 5000 || first[0].Since == 0 {
		t.Errorf("of c1 told %+v", first)
	}
	if len(current) != 1 || !current[0].retained || current[0].Online != 2 || current[0].Revision < first[0].Revision {
		t.Errorf("of the end told %+v", current)
	}
	must(t, a.addr(), id("c2"))
	l.becomes("c2", wire.StateOnline, a.name)
	moved := must(t, b.addr(), id("c1"))
	onlineBeating(t, b, "phone", "c1", moved.conn)
	l.becomes("c1", wire.StateOnline, b.name)
	_ = c1.conn.Close()
	if err := moved.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	l.becomes("c1", wire.StateOffline, b.name)
	got := l.of("c1")
	for i, m := range got[1:] {
		if m.retained || m.Revision <= got[i].Revision {
			t.Errorf("told %+v after %+v", m, got[i])
		}
	}
	if last := got[len(got)-1]; len(got) != 3 || last.LastSeen == 0 {
		t.Errorf("told %+v, want online, moved, offline", got)
	}
	if n := b.metric("rollcall_server_subscriptions", "", ""); n != 1 {
		t.Errorf("%v subscriptions are counted", n)
	}
	if _, err := w.Unsubscribe(t.Context(), &paho.Unsubscribe{Topics: []string{everyone(0).Topic}}); err != nil {
		t.Errorf("unsubscribe: %v", err)
	}
	eventually(t, "the subscription is over", func() bool { return b.metric("rollcall_server_subscriptions", "", "") == 0 })
}

func TestOneClientIsWatchedEvenWhileItIsAway(t *testing.T) {
	etcd := storetest.Start(t)
	a := start(t, etcd.Endpoints(), "a", watched)
	w := must(t, a.addr(), id("w"), password("eve"))
	topic := wire.PresenceTopic("im", "quick", "late") // another Presence than her own
	l := subscribe(t, w, paho.SubscribeOptions{Topic: topic, QoS: 0, RetainAsPublished: true})
	l.becomes("late", wire.StateOffline, "")
	must(t, a.addr(), id("late"), user("im/quick"))
	l.becomes("late", wire.StateOnline, a.name)
	if got := l.of("late"); len(got) != 2 || !got[0].retained || !got[1].retained {
		t.Errorf("told %+v, want both as published", got)
	}
	// Asked again, it is told again; or not, as asked.
	for _, c := range []struct {
		handling byte
		more     int
	}{{0, 1}, {1, 0}, {2, 0}} {
		before := len(l.of("late"))
		if _, err := w.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, RetainHandling: c.handling}}}); err != nil {
			t.Fatal(err)
		}
		if c.more > 0 { // before the change, which would be in it
			eventually(t, "it is told anew", func() bool { return len(l.of("late")) == before+c.more })
		}
		must(t, a.addr(), id("late"), user("im/quick"), every(uint16(3+c.handling))) // its interval changes
		eventually(t, "the change is told", func() bool {
			got := l.of("late")
			return got[len(got)-1].Interval == int64(3+c.handling)*1000
		})
		if got := l.of("late"); len(got) != before+c.more+1 {
			t.Errorf("retain handling %d: %d messages came, want %d", c.handling, len(got)-before, c.more+1)
		}
	}
}

func TestSubscriptionsAreBounded(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a", watched)
	w := must(t, a.addr(), id("w"), password("eve"))
	for i := range 17 {
		ack, _ := w.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: wire.PresenceTopic("im", "phone", fmt.Sprint("c", i))}}})
		if want := byte(0x97); (i == 16) != (ack.Reasons[0] == want) {
			t.Errorf("subscription %d was answered with %#x", i+1, ack.Reasons[0])
		}
	}
	if a.refused("subscriptions") != 1 {
		t.Error("the refusal was not counted")
	}
	for _, topic := range []string{"$rollcall/presence/#", "$rollcall/presence/im/+/+", "$rollcall/presence/im/phone/$current", "#"} {
		if ack, _ := w.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic}}}); ack.Reasons[0] != 0x8f {
			t.Errorf("%s was answered with %#x", topic, ack.Reasons[0])
		}
	}
}

// revisions are those of all that was ever written of the clients of im/phone,
// after from.
func revisions(t testing.TB, c *clientv3.Client, from, to int64) map[string][]int64 {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const root = "/rollcall/v1/sessions/im/phone/"
	all := map[string][]int64{}
	for r := range c.Watch(ctx, root, clientv3.WithPrefix(), clientv3.WithRev(from+1), clientv3.WithProgressNotify()) {
		for _, e := range r.Events {
			client := strings.TrimPrefix(string(e.Kv.Key), root)
			all[client] = append(all[client], e.Kv.ModRevision)
		}
		if n := len(r.Events); n > 0 && r.Events[n-1].Kv.ModRevision >= to {
			return all
		}
	}
	t.Fatal("the history could not be read")
	return nil
}

func TestNothingIsLostOrDoubledWhileClientsMove(t *testing.T) {
	etcd := storetest.Start(t)
	a, b := start(t, etcd.Endpoints(), "a", watched), start(t, etcd.Endpoints(), "b", watched)
	child := startChild(t, etcd.Endpoints()[0])
	ones := make([]*listener, 2)
	for i, at := range []*running{a, b} { // one that acknowledges, and one that doesn't
		w := must(t, at.addr(), id(fmt.Sprint("w", i)), password("eve"), user("im/phone"))
		ones[i] = subscribe(t, w, everyone(byte(i)))
		ones[i].becomes(wire.EveryClient, wire.StateCurrent, "")
	}
	const n = 20
	addresses := []string{a.addr(), b.addr(), child.addr}
	random := rand.New(rand.NewPCG(1, 2))
	conns := make([]*v5, n)
	for range 6 * n {
		i := random.IntN(n)
		conns[i] = must(t, addresses[random.IntN(len(addresses))], id(fmt.Sprint("c", i)))
		ping(t, conns[i].conn)
	}
	// The third server stops, and its clients go elsewhere.
	child.signal(syscall.SIGSTOP)
	for i := range n {
		conns[i] = must(t, addresses[i%2], id(fmt.Sprint("c", i)))
		onlineBeating(t, []*running{a, b}[i%2], "phone", fmt.Sprint("c", i), conns[i].conn)
	}
	for i := range n / 2 {
		if err := conns[i].Disconnect(&paho.Disconnect{}); err != nil {
			t.Fatal(err)
		}
	}
	var last int64
	for i := range n / 2 {
		eventually(t, "it is offline", func() bool {
			s, revision := record(t, a.store, "phone", fmt.Sprint("c", i))
			last = max(last, revision)
			return s.Offline
		})
	}
	truth := revisions(t, etcd.Client(), 0, last)
	for i, l := range ones {
		from := l.of(wire.EveryClient)[0].Revision
		for c := range n {
			name := fmt.Sprint("c", c)
			want := slices.DeleteFunc(slices.Clone(truth[name]), func(r int64) bool { return r <= from })
			var got []int64
			eventually(t, "all is told of "+name, func() bool {
				got = nil
				for _, m := range l.of(name) {
					got = append(got, m.Revision)
				}
				return len(got) >= len(want)
			})
			if !slices.Equal(got, want) {
				t.Errorf("subscriber %d was told %v of %s, want %v", i, got, name, want)
			}
		}
	}
}

func TestASubscriberOf311IsToldToo(t *testing.T) {
	etcd := storetest.Start(t)
	a := start(t, etcd.Endpoints(), "a", watched)
	must(t, a.addr(), id("c1"))
	online(t, a, "phone", "c1")
	l := &listener{t: t}
	w := mqtt3.NewClient(mqtt3.NewClientOptions().AddBroker("tcp://" + a.addr()).SetClientID("w").SetUsername("im/phone").SetPassword("eve").
		SetProtocolVersion(4).SetAutoReconnect(false).SetOrderMatters(true))
	if token := w.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("connect: %v", token.Error())
	}
	defer w.Disconnect(0)
	token := w.Subscribe(everyone(1).Topic, 1, func(_ mqtt3.Client, m mqtt3.Message) { l.take(m.Topic(), m.Payload(), m.Retained(), "") })
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("subscribe: %v", token.Error())
	}
	l.becomes("c1", wire.StateOnline, a.name)
	must(t, a.addr(), id("c2"))
	l.becomes("c2", wire.StateOnline, a.name)
}

func TestSubscribersOutliveARestartOfTheStore(t *testing.T) {
	etcd := storetest.Start(t)
	a := start(t, etcd.Endpoints(), "a", watched)
	c := must(t, a.addr(), id("c1"))
	online(t, a, "phone", "c1")
	w := must(t, a.addr(), id("w"), password("eve"))
	l := subscribe(t, w, everyone(1))
	l.becomes("c1", wire.StateOnline, a.name)
	etcd.Stop()
	etcd.Restart()
	ping(t, c.conn)
	must(t, a.addr(), id("c2"))
	l.becomes("c2", wire.StateOnline, a.name)
	for _, m := range l.of("c1") {
		if m.State != wire.StateOnline {
			t.Errorf("told %+v of who was here all the time", m)
		}
	}
}
