package server_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// raw is a client that says exactly what a test wants, and nothing else.
type raw struct {
	t    testing.TB
	conn net.Conn
}

func dial(t testing.TB, addr string) *raw {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * patience))
	return &raw{t, conn}
}

func (r *raw) send(b []byte) {
	r.t.Helper()
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatalf("send: %v", err)
	}
}

// packet reads a packet of version 5.
func (r *raw) packet() *packets.ControlPacket {
	r.t.Helper()
	p, err := packets.ReadPacket(r.conn)
	if err != nil {
		r.t.Fatalf("read: %v", err)
	}
	return p
}

func (r *raw) connack(want byte) *packets.Connack {
	r.t.Helper()
	c, ok := r.packet().Content.(*packets.Connack)
	if !ok || c.ReasonCode != want {
		r.t.Fatalf("answer %+v, want CONNACK with %#x", c, want)
	}
	return c
}

func (r *raw) disconnect() *packets.Disconnect {
	r.t.Helper()
	d, ok := r.packet().Content.(*packets.Disconnect)
	if !ok {
		r.t.Fatalf("answer is not DISCONNECT")
	}
	return d
}

// rest reads until the server closes: an orderly close, not a reset.
func (r *raw) rest() []byte {
	r.t.Helper()
	b, err := io.ReadAll(r.conn)
	if err != nil {
		r.t.Fatalf("the connection did not end as it should: %v", err)
	}
	return b
}

func connect5bytes(client, user, password string, keepAlive uint16) []byte {
	c := packets.NewControlPacket(packets.CONNECT)
	p := c.Content.(*packets.Connect)
	p.ProtocolName, p.ProtocolVersion, p.CleanStart, p.KeepAlive = "MQTT", 5, true, keepAlive
	p.ClientID, p.UsernameFlag, p.Username, p.PasswordFlag, p.Password = client, true, user, true, []byte(password)
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// connect3bytes is a CONNECT of version 3.1.1, or of another with its form.
func connect3bytes(level byte, client, user, password string) []byte {
	var body []byte
	add := func(s string) { body = append(append(body, byte(len(s)>>8), byte(len(s))), s...) }
	add("MQTT")
	body = append(body, level, 0xc2, 0, 20)
	add(client)
	add(user)
	add(password)
	return append([]byte{0x10, byte(len(body))}, body...)
}
