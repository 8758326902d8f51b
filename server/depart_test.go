package server_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/server"
)

func TestAServerThatEndsHasItsClientsGoElsewhereFirst(t *testing.T) {
	etcd := storetest.Start(t)
	slowly := func(c *server.Config) { c.DrainFor, c.DrainRate = patience, 4 }
	a, b := start(t, etcd.Endpoints(), "a", slowly), start(t, etcd.Endpoints(), "b")
	var clients []*v5
	for i := range 12 {
		clients = append(clients, must(t, a.addr(), id(fmt.Sprint("c", i))))
	}
	eventually(t, "a knows of b, and b of a", func() bool {
		return must(t, a.addr(), id("looks")).hints() != "" && must(t, b.addr(), id("looks")).hints() != ""
	})
	stopped := make(chan struct{})
	go func() { defer close(stopped); a.stop() }()
	eventually(t, "it is not ready any more", func() bool { return a.Ready() != nil })
	eventually(t, "nobody is sent to it", func() bool { return must(t, b.addr(), id("looks")).hints() == "" })
	if n := connect5(t, a.addr(), id("late")); n.err == nil || n.ack == nil || n.ack.ReasonCode != 0x9c || n.ack.Properties.ServerReference != b.addr() {
		t.Errorf("a newcomer was told %v, %v", n.ack, n.err)
	}
	for i, c := range clients {
		d := c.ends(t)
		if d.ReasonCode != 0x9c || d.Properties.ServerReference != b.addr() {
			t.Errorf("client %d was told %#x, %q", i, d.ReasonCode, d.Properties.ServerReference)
		}
		clients[i] = must(t, b.addr(), id(fmt.Sprint("c", i)))
	}
	select {
	case <-stopped: // it does not wait for the end of its time
	case <-time.After(patience):
		t.Fatal("it does not end, though nobody is left")
	}
	for i := range clients {
		onlineBeating(t, b, "phone", fmt.Sprint("c", i), clients[i].conn)
		for _, s := range history(t, etcd.Client(), "phone", fmt.Sprint("c", i)) {
			if s.Offline {
				t.Errorf("client %d was recorded offline", i)
			}
		}
	}
}

// hints are the other servers that a client was told of.
func (c *v5) hints() string { return c.ack.Properties.User.Get("rollcall-servers") }

// Whoever only listens would keep a server from ending.
func TestAServerThatIsReplacedEndsWhoeverIsConnected(t *testing.T) {
	p := newPKI(t)
	endpoints := storetest.Etcd(t)
	twin := func(incarnation string) (*server.Server, <-chan error) {
		s, err := server.New(server.Config{
			Name: "twin", Namespace: "rollcall-system", Incarnation: incarnation, Listen: "127.0.0.1:0", ListenTLS: "127.0.0.1:0",
			ListenWebSocket: "127.0.0.1:0", TLS: p.server.Server(false), Capacity: 10, Store: open(t, endpoints), Presences: known,
			Authenticator: clients{}, Logger: logger(t), Registerer: prometheus.NewRegistry(), Loops: loops(),
		})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		ctx, stop := context.WithCancel(context.Background())
		t.Cleanup(stop)
		go func() { ended <- s.Run(ctx) }()
		eventually(t, incarnation+" is ready", func() bool { return s.Ready() == nil })
		return s, ended
	}
	first, ended := twin("twin.1")
	overWeb(t, dialWeb(t, "ws://"+first.AddrWebSocket().String(), nil, "mqtt"), "web")
	must(t, first.Addr().String(), id("plain"))
	conn, err := tls.Dial("tcp", first.AddrTLS().String(), p.client.Client("rollcall"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(connect3bytes(4, "secure", "im/phone", "alice")); err != nil {
		t.Fatal(err)
	}
	hears(t, conn, accepted3, "over TLS")
	twin("twin.2")
	select {
	case err := <-ended:
		if !errors.Is(err, server.ErrReplaced) || first.Ready() == nil {
			t.Errorf("it ended with %v, and is ready: %v", err, first.Ready() == nil)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
}
