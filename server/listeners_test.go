package server_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/server"
)

// TCP and TLS are carried by event loops of our own, or by the standard library: clients
// must not be able to tell which.
func TestAllCarriersDoTheSame(t *testing.T) {
	files := newPKI(t)
	for _, c := range []struct {
		name  string
		loops int
		tls   bool
	}{
		{"TCP, event loops", 2, false}, {"TCP, the standard library", -1, false},
		{"TLS, event loops", 2, true}, {"TLS, the standard library", -1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &wired{running: start(t, storetest.Etcd(t), "a", func(cfg *server.Config) {
				cfg.Loops = c.loops
				if c.tls {
					cfg.ListenTLS, cfg.TLS = "127.0.0.1:0", files.server.Server(false)
				}
			})}
			if c.tls {
				a.client = files.client.Client("rollcall")
			}
			for _, c := range carried {
				t.Run(c.name, func(t *testing.T) { c.run(t, a) })
			}
			eventually(t, "nobody is left", func() bool { return a.metric("rollcall_server_connections", "", "") == 0 })
		})
	}
}

// wired is a server that is reached by TCP, or by TLS.
type wired struct {
	*running
	client *tls.Config // nil: no TLS
}

func (a *wired) dial(t *testing.T) *raw {
	t.Helper()
	if a.client == nil {
		return dial(t, a.addr())
	}
	r := dial(t, a.AddrTLS().String())
	r.conn = tls.Client(r.conn, a.client)
	return r
}

// tcpOf is the connection below TLS, if there is any.
func tcpOf(c net.Conn) *net.TCPConn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*net.TCPConn)
}

var carried = []struct {
	name string
	run  func(t *testing.T, a *wired)
}{
	{"packets may be cut anywhere", func(t *testing.T, a *wired) {
		r := dial(t, a.addr())
		for _, b := range append(connect3bytes(4, "cut", "im/phone", "alice"), pingreq...) {
			r.send([]byte{b})
		}
		hears(t, r.conn, accepted3, "in pieces")
		hears(t, r.conn, pingresp, "in pieces")
	}},
	{"packets may come together, behind CONNECT too", func(t *testing.T, a *wired) {
		r := a.dial(t)
		const n = 5000 // more than is read at once
		r.send(append(connect3bytes(4, "many", "im/phone", "alice"), bytes.Repeat(pingreq, n)...))
		hears(t, r.conn, accepted3, "together")
		hears(t, r.conn, bytes.Repeat(pingresp, n), "together")
	}},
	{"what is no CONNECT is refused", func(t *testing.T, a *wired) {
		before := a.refused("not-connect")
		r := a.dial(t)
		r.send(pingreq)
		if got := r.rest(); len(got) != 0 || a.refused("not-connect") != before+1 {
			t.Errorf("answered with % x, and counted %v", got, a.refused("not-connect")-before)
		}
	}},
	{"a malformed packet ends the connection with its reason", func(t *testing.T, a *wired) {
		r := a.dial(t)
		r.send(connect5bytes("bad", "im/phone", "alice", 5))
		r.connack(0)
		r.send([]byte{0x32, 0xff, 0xff, 0xff, 0xff}) // a length in five bytes
		if d := r.disconnect(); d.ReasonCode != 0x81 {
			t.Errorf("told %#x", d.ReasonCode)
		}
		r.rest()
	}},
	{"a packet that is too long ends the connection with its reason", func(t *testing.T, a *wired) {
		r := a.dial(t)
		r.send(connect5bytes("long", "im/phone", "alice", 5))
		r.connack(0)
		r.send([]byte{0x32, 0x80, 0x80, 0x04})
		if d := r.disconnect(); d.ReasonCode != 0x95 {
			t.Errorf("told %#x", d.ReasonCode)
		}
		r.rest()
	}},
	{"the second of two takes the session over", func(t *testing.T, a *wired) {
		first, second := a.dial(t), a.dial(t)
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
	{"a client that has said all still hears the answer", func(t *testing.T, a *wired) {
		r := a.dial(t)
		r.send(append(connect3bytes(4, "half", "im/phone", "alice"), pingreq...))
		if err := r.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := r.rest(); !bytes.Equal(got, append(append([]byte{}, accepted3...), pingresp...)) {
			t.Errorf("answered with % x", got)
		}
		if s, _ := record(t, a.store, "phone", "half"); s.Offline {
			t.Error("its session ended with its connection")
		}
	}},
	{"a goodbye closes the connection, and the member is offline", func(t *testing.T, a *wired) {
		r := a.dial(t)
		r.send(connect3bytes(4, "bye", "im/phone", "alice"))
		hears(t, r.conn, accepted3, "bye")
		online(t, a.running, "phone", "bye")
		r.send([]byte{0xe0, 0})
		r.rest()
		eventually(t, "it is offline", func() bool { s, _ := record(t, a.store, "phone", "bye"); return s.Offline })
	}},
	{"who does not read is cut off", func(t *testing.T, a *wired) {
		r := a.dial(t)
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
	{"a client that is gone leaves its session", func(t *testing.T, a *wired) {
		r := a.dial(t)
		r.send(connect3bytes(4, "gone", "im/phone", "alice"))
		hears(t, r.conn, accepted3, "gone")
		_ = tcpOf(r.conn).SetLinger(0) // a reset
		tcpOf(r.conn).Close()
		online(t, a.running, "phone", "gone")
	}},
}
