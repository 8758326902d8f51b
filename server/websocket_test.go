package server_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server"
)

func onWeb(c *server.Config) { c.ListenWebSocket = "127.0.0.1:0" }

// dialWeb is a WebSocket to a server.
func dialWeb(t *testing.T, url string, client *http.Client, protocols ...string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, url, //nolint:bodyclose // there is none after an upgrade
		&websocket.DialOptions{HTTPClient: client, Subprotocols: protocols})
	if err != nil {
		t.Fatalf("dial %s: %v", url, err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

// overWeb is a client of version 5 on a WebSocket.
func overWeb(t *testing.T, conn *websocket.Conn, name string) *v5 {
	t.Helper()
	c := &v5{conn: websocket.NetConn(t.Context(), conn, websocket.MessageBinary), gone: make(chan *paho.Disconnect, 8)}
	c.Client = paho.NewClient(paho.ClientConfig{
		Conn:               packets.NewThreadSafeConn(c.conn),
		OnServerDisconnect: func(d *paho.Disconnect) { c.gone <- d },
		OnClientError:      func(error) { c.gone <- nil },
	})
	c.ack, c.err = c.Client.Connect(t.Context(), &paho.Connect{
		ClientID: name, KeepAlive: 5, CleanStart: true, UsernameFlag: true, Username: "im/phone", PasswordFlag: true, Password: []byte("alice"),
	})
	if c.err != nil {
		t.Fatalf("connect %s: %v", name, c.err)
	}
	return c
}

func TestClientsConnectOverWebSocket(t *testing.T) {
	p := newPKI(t)
	a := start(t, storetest.Etcd(t), "a", onWeb, func(c *server.Config) { c.ListenWebSocketTLS, c.TLS = "127.0.0.1:0", p.server.Server(false) })
	over := &http.Client{Transport: &http.Transport{TLSClientConfig: p.client.Client("rollcall")}}
	t.Cleanup(over.CloseIdleConnections)
	for name, dial := range map[string]func() *websocket.Conn{
		"plain": func() *websocket.Conn { return dialWeb(t, "ws://"+a.AddrWebSocket().String()+"/mqtt", nil, "mqtt") },
		"secure": func() *websocket.Conn {
			return dialWeb(t, "wss://"+a.AddrWebSocketTLS().String()+"/any/path", over, "other", "mqtt")
		},
	} {
		c := overWeb(t, dial(), name)
		online(t, a, "phone", name)
		if _, err := c.Publish(t.Context(), &paho.Publish{Topic: wire.TopicBeat, QoS: 1, Payload: []byte(`{"attributes":{"over":"web"}}`)}); err != nil {
			t.Errorf("%s: beat: %v", name, err)
		}
		eventually(t, "what it says is recorded", func() bool {
			s, _ := record(t, a.store, "phone", name)
			return s.Attributes["over"] == "web"
		})
		must(t, a.addr(), id(name)) // takes it over
		if d := c.ends(t); d.ReasonCode != 0x8e {
			t.Errorf("%s: told %#x, want session taken over", name, d.ReasonCode)
		}
	}
	// A client that we did not write, of version 3.1.1.
	three := mqtt3.NewClient(mqtt3.NewClientOptions().AddBroker("ws://" + a.AddrWebSocket().String() + "/mqtt").SetClientID("three").
		SetUsername("im/phone").SetPassword("bob").SetProtocolVersion(4).SetAutoReconnect(false))
	if token := three.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("paho.mqtt.golang: %v", token.Error())
	}
	online(t, a, "phone", "three")
	three.Disconnect(1000) // 0: it would not wait until it has said so
	eventually(t, "it has left", func() bool { s, _ := record(t, a.store, "phone", "three"); return s.Offline })
}

func TestPacketsMayBeCutAnywhereInFrames(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a", onWeb)
	conn := dialWeb(t, "ws://"+a.AddrWebSocket().String(), nil, "mqtt")
	r := &raw{t, websocket.NetConn(t.Context(), conn, websocket.MessageBinary)}
	all := append(connect3bytes(4, "c", "im/phone", "alice"), pingreq...)
	for _, b := range all { // a frame for each byte
		r.send([]byte{b})
	}
	hears(t, r.conn, accepted3, "in pieces")
	hears(t, r.conn, pingresp, "in pieces")
	r.send(append(append([]byte{}, pingreq...), pingreq...)) // two packets in a frame
	hears(t, r.conn, pingresp, "together")
	hears(t, r.conn, pingresp, "together")
}

func TestWhatIsNoMQTTOverWebSocketIsRefused(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a", onWeb)
	url := "ws://" + a.AddrWebSocket().String()
	ends := func(c *websocket.Conn) {
		t.Helper()
		if _, _, err := c.Read(t.Context()); err == nil {
			t.Error("it was answered")
		}
	}
	ends(dialWeb(t, url, nil))
	ends(dialWeb(t, url, nil, "graphql"))
	if a.refused("subprotocol") != 2 {
		t.Errorf("%v were counted", a.refused("subprotocol"))
	}
	text := dialWeb(t, url, nil, "mqtt")
	if err := text.Write(t.Context(), websocket.MessageText, connect3bytes(4, "c", "im/phone", "alice")); err != nil {
		t.Fatal(err)
	}
	ends(text)
	resp, err := http.Get("http://" + a.AddrWebSocket().String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a plain request was answered with %s", resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()
	// Who says nothing is sent away like everybody else.
	ends(dialWeb(t, url, nil, "mqtt"))
	if a.refused("timeout") != 1 {
		t.Errorf("%v were counted", a.refused("timeout"))
	}
}

// MQTT.js, where node finds it: NODE_PATH=$(npm root -g), after npm install -g mqtt.
func TestMQTTJSOverWebSocket(t *testing.T) {
	if out, err := exec.Command("node", "-e", "require('mqtt')").CombinedOutput(); err != nil {
		reason, _, _ := strings.Cut(string(out), "\n")
		t.Skipf("SKIPPED: node has no MQTT.js (npm install -g mqtt, NODE_PATH=$(npm root -g)): %v %s", err, reason)
	}
	a := start(t, storetest.Etcd(t), "a", onWeb, watched)
	host, port, _ := net.SplitHostPort(a.AddrWebSocket().String())
	for _, version := range []int{4, 5} {
		script := fmt.Sprintf(`
			const c = require('mqtt').connect('ws://%s:%s/mqtt', {protocolVersion: %d, clientId: 'js%d', username: 'im/phone', password: 'eve', reconnectPeriod: 0});
			c.on('error', e => { console.log(e); process.exit(1) });
			c.on('connect', () => c.subscribe('$rollcall/presence/im/phone/+', {qos: 1}));
			c.on('message', (topic, payload) => {
				if (!topic.endsWith('$current')) return;
				c.publish('$rollcall/beat', '{"attributes":{"by":"js"}}', {qos: 1}, e => { console.log(e || 'ok'); c.end(); });
			});`, host, port, version, version)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		out, err := exec.CommandContext(ctx, "node", "-e", script).CombinedOutput()
		cancel()
		if err != nil || strings.TrimSpace(string(out)) != "ok" {
			t.Errorf("version %d: %v: %s", version, err, out)
		}
	}
}
