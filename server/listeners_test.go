package server_test

import (
	"bytes"
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/server"
)

// Plain TCP is carried by event loops of our own, or by the standard library: clients
// must not be able to tell which.
func TestBothCarriersOfPlainTCPDoTheSame(t *testing.T) {
	for name, loops := range map[string]int{"event loops": 2, "the standard library": -1} {
		t.Run(name, func(t *testing.T) {
			a := start(t, storetest.Etcd(t), "a", func(c *server.Config) { c.Loops = loops })
			for _, c := range carried {
				t.Run(c.name, func(t *testing.T) { c.run(t, a) })
			}
			eventually(t, "nobody is left", func() bool { return a.metric("rollcall_server_connections", "", "") == 0 })
		})
	}
}

var carried = []struct {
	name string
	run  func(t *testing.T, a *running)
}{
	{"packets may be cut anywhere", func(t *testing.T, a *running) {
		r := dial(t, a.addr())
		for _, b := range append(connect3bytes(4, "cut", "im/phone", "alice"), pingreq...) {
			r.send([]byte{b})
		}
		hears(t, r.conn, accepted3, "in pieces")
		hears(t, r.conn, pingresp, "in pieces")
	}},
	{"packets may come together, behind CONNECT too", func(t *testing.T, a *running) {
		r := dial(t, a.addr())
		const n = 5000 // more than is read at once
		r.send(append(connect3bytes(4, "many", "im/phone", "alice"), bytes.Repeat(pingreq, n)...))
		hears(t, r.conn, accepted3, "together")
		hears(t, r.conn, bytes.Repeat(pingresp, n), "together")
	}},
	{"what is no CONNECT is refused", func(t *testing.T, a *running) {
		before := a.refused("not-connect")
		r := dial(t, a.addr())
		r.send(pingreq)
		if got := r.rest(); len(got) != 0 || a.refused("not-connect") != before+1 {
			t.Errorf("answered with % x, and counted %v", got, a.refused("not-connect")-before)
		}
	}},
	{"a malformed packet ends the connection with its reason", func(t *testing.T, a *running) {
		r := dial(t, a.addr())
		r.send(connect5bytes("bad", "im/phone", "alice", 5))
		r.connack(0)
		r.send([]byte{0x32, 0xff, 0xff, 0xff, 0xff}) // a length in five bytes
		if d := r.disconnect(); d.ReasonCode != 0x81 {
			t.Errorf("told %#x", d.ReasonCode)
		}
		r.rest()
	}},
	{"a packet that is too long ends the connection with its reason", func(t *testing.T, a *running) {
		r := dial(t, a.addr())
		r.send(connect5bytes("long", "im/phone", "alice", 5))
		r.connack(0)
		r.send([]byte{0x32, 0x80, 0x80, 0x04})
		if d := r.disconnect(); d.ReasonCode != 0x95 {
			t.Errorf("told %#x", d.ReasonCode)
		}
		r.rest()
	}},
	{"the second of two takes the session over", func(t *testing.T, a *running) {
		first, second := dial(t, a.addr()), dial(t, a.addr())
		first.send(connect5bytes("twice", "im/phone", "alice", 5))
		first.connack(0)
		second.send(connect5bytes("twice", "im/phone", "alice", 5))
		second.connack(0)
		if d := first.disconnect(); d.ReasonCode != 0x8e {
			t.Errorf("told %#x", d.ReasonCode)
		}
		first.rest()
		second.send(pingreq)
		hears(t, second.conn, pingresp, "the second")
	}},
	{"a client that has said all still hears the answer", func(t *testing.T, a *running) {
		r := dial(t, a.addr())
		r.send(append(connect3bytes(4, "half", "im/phone", "alice"), pingreq...))
		if err := r.conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := r.rest(); !bytes.Equal(got, append(append([]byte{}, accepted3...), pingresp...)) {
			t.Errorf("answered with % x", got)
		}
		if s, _ := record(t, a.store, "phone", "half"); s.Offline {
			t.Error("its session ended with its connection")
		}
	}},
	{"a goodbye closes the connection, and the member is offline", func(t *testing.T, a *running) {
		r := dial(t, a.addr())
		r.send(connect3bytes(4, "bye", "im/phone", "alice"))
		hears(t, r.conn, accepted3, "bye")
		online(t, a, "phone", "bye")
		r.send([]byte{0xe0, 0})
		r.rest()
		eventually(t, "it is offline", func() bool { s, _ := record(t, a.store, "phone", "bye"); return s.Offline })
	}},
	{"who does not read is cut off", func(t *testing.T, a *running) {
		r := dial(t, a.addr())
		if err := r.conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		r.send(connect3bytes(4, "deaf", "im/phone", "alice"))
		flood := bytes.Repeat(pingreq, 16<<10)
		for sent := 0; ; sent += len(flood) {
			if _, err := r.conn.Write(flood); err != nil {
				if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
					t.Errorf("it ended with %v", err)
				}
				return
			}
			if sent > 256<<20 {
				t.Fatal("it was not cut off")
			}
		}
	}},
	{"a client that is gone leaves its session", func(t *testing.T, a *running) {
		r := dial(t, a.addr())
		r.send(connect3bytes(4, "gone", "im/phone", "alice"))
		hears(t, r.conn, accepted3, "gone")
		_ = r.conn.(*net.TCPConn).SetLinger(0) // a reset
		r.conn.Close()
		online(t, a, "phone", "gone")
	}},
}
