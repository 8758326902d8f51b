package client

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// layered is a connection around another one, as TLS's is.
type layered struct{ net.Conn }

func (l layered) NetConn() net.Conn { return l.Conn }

func TestTheKernelsWordAndTimers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // nobody accepts: the kernel does, and acknowledges
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	k := kernelOf(layered{layered{conn}})
	if _, err := conn.Write(pingreq); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); k.path() != acknowledged; <-tick.C {
		if time.Now().After(end) {
			t.Fatal("two bytes over the loopback are not acknowledged within a minute")
		}
	}
	for _, test := range []struct {
		interval  time.Duration
		idle, per int
	}{{10 * time.Second, 15, 5}, {10 * time.Minute, 900, 60}, {18 * time.Hour, 32767, 60}} {
		k.fit(test.interval, 3*time.Second)
		for option, want := range map[int]int{unix.TCP_KEEPIDLE: test.idle, unix.TCP_KEEPINTVL: test.per, unix.TCP_KEEPCNT: 3, unix.TCP_USER_TIMEOUT: 3000} {
			got := 0
			if e := k.raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option) }); e != nil || err != nil {
				t.Fatal(e, err)
			}
			if got != want {
				t.Errorf("interval %v, option %d: %d, want %d", test.interval, option, got, want)
			}
		}
	}
	_ = conn.Close()
	if p := k.path(); p != unknown {
		t.Errorf("of a closed connection: %d", p)
	}
	if p := kernelOf(layered{nil}).path(); p != unknown {
		t.Errorf("of no connection: %d", p)
	}
	kernel{}.fit(time.Second, time.Second) // nothing to set
}
