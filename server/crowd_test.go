package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"runtime"
	"testing"
	"time"

	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/server"
)

var (
	pingreq   = []byte{0xc0, 0}
	pingresp  = []byte{0xd0, 0}
	accepted3 = []byte{0x20, 2, 0, 0} // CONNACK of version 3.1.1
)

// hears reads what a client must hear next.
func hears(t *testing.T, c net.Conn, want []byte, who string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: % x, %v", who, got, err)
	}
}

// Five thousand idle clients hold no goroutine; each is answered when it beats,
// and clients that we did not write come and go among them.
func TestFiveThousandIdleClients(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a while")
	}
	a := start(t, storetest.Etcd(t), "a", func(c *server.Config) { c.Capacity, c.ConnectRate = 10000, 1e6 })
	before := runtime.NumGoroutine()
	idle := make([]net.Conn, 5000)
	for i := range idle {
		c, err := net.Dial("tcp", a.addr())
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Minute))
		connect := connect3bytes(4, fmt.Sprintf("idle-%d", i), "im/phone", "alice")
		connect[10], connect[11] = 0, 0 // no keep-alive: the longest that the Presence allows
		if _, err := c.Write(connect); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		hears(t, c, accepted3, fmt.Sprint("client ", i))
		idle[i] = c
	}
	if loops() >= 0 && runtime.GOOS == "linux" {
		eventually(t, "idle clients hold no goroutine", func() bool { return runtime.NumGoroutine() < before+500 })
	}
	must(t, a.addr(), id("paho5"))
	three := mqtt3.NewClient(mqtt3.NewClientOptions().AddBroker("tcp://" + a.addr()).SetClientID("paho3").
		SetUsername("im/phone").SetPassword("bob").SetProtocolVersion(4))
	if token := three.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("paho.mqtt.golang: %v", token.Error())
	}
	three.Disconnect(0)
	mosquitto(t, a.addr())
	for i, c := range idle {
		if _, err := c.Write(pingreq); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
	}
	for i, c := range idle {
		hears(t, c, pingresp, fmt.Sprint("client ", i))
	}
}

// mosquitto publishes a beat with Debian's mosquitto_pub, where it is installed.
func mosquitto(t *testing.T, addr string) {
	t.Helper()
	pub, err := exec.LookPath("mosquitto_pub")
	if err != nil {
		t.Log("mosquitto_pub is not tried: apt-get install mosquitto-clients")
		return
	}
	host, port, _ := net.SplitHostPort(addr)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, version := range []string{"mqttv311", "mqttv5"} {
		out, err := exec.CommandContext(ctx, pub, "-h", host, "-p", port, "-V", version, "-i", "mosquitto", "-u", "im/phone", "-P", "alice",
			"-t", "$rollcall/beat", "-q", "1", "-m", `{"attributes":{"by":"mosquitto_pub"}}`).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("mosquitto_pub, %s: %v: %s", version, err, out)
		}
	}
}

// slow is an Authenticator that waits for a word about clients called "slow".
type slow struct {
	clients
	word chan struct{}
}

func (s slow) Authenticate(ctx context.Context, c server.Credentials) (server.Principal, error) {
	if c.ClientID == "slow" {
		select {
		case <-s.word:
		case <-ctx.Done():
			return server.Principal{}, ctx.Err()
		}
	}
	return s.clients.Authenticate(ctx, c)
}

func TestASlowAuthenticatorHoldsUpNobodyElse(t *testing.T) {
	release := slow{word: make(chan struct{})}
	a := start(t, storetest.Etcd(t), "a", func(c *server.Config) {
		c.Authenticator = release
		if c.Loops == 0 {
			c.Loops = 1 // so that both are of one loop
		}
	})
	waiting, other := dial(t, a.addr()), dial(t, a.addr())
	// What a client sends behind its CONNECT waits with it.
	waiting.send(append(connect3bytes(4, "slow", "im/phone", "alice"), pingreq...))
	other.send(connect3bytes(4, "quick", "im/phone", "alice"))
	hears(t, other.conn, accepted3, "the other")
	for range 100 {
		other.send(pingreq)
		hears(t, other.conn, pingresp, "the other")
	}
	close(release.word)
	hears(t, waiting.conn, accepted3, "who has waited")
	hears(t, waiting.conn, pingresp, "what came behind CONNECT")
}
