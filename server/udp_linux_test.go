package server

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lot is a socket's udpLot, and somebody who sends to it: what is sent on loopback has
// come when the call returns.
func lot(t *testing.T) (*udpLot, func(n int)) {
	t.Helper()
	at, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to, err := net.Dial("udp", at.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	l, err := newUDPLot(at.(*net.UDPConn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { to.Close(); l.close() })
	return l, func(n int) {
		t.Helper()
		for i := range n {
			if _, err := to.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDatagramsGather(t *testing.T) {
	l, send := lot(t)
	read := func(want int) time.Time {
		t.Helper()
		for {
			n, m, err := l.read(func() moment { return moment{} })
			if err != nil || n != want && n != 0 {
				t.Fatalf("%d were read, %v, want %d", n, err, want)
			}
			if n == want {
				return m.read
			}
		}
	}
	if n, _, err := l.read(func() moment { return moment{} }); n != 0 || err != nil {
		t.Errorf("without any, %d were read, %v", n, err)
	}
	send(1)
	first := read(1)
	if !l.next.Equal(first.Add(gather)) {
		t.Errorf("the next read is %v after the first, want %v", l.next.Sub(first), gather)
	}
	l.next = time.Now().Add(20 * time.Millisecond)
	next := l.next
	send(3)
	if at := read(3); at.Before(next) {
		t.Errorf("those that followed were read %v too early", next.Sub(at))
	}
	l.next = time.Time{}
	send(udpBatch + 2)
	if at := read(udpBatch); l.next.After(at) {
		t.Errorf("after a full batch the next waits %v", l.next.Sub(at))
	}
	read(2)
}

// A socket that the runtime waits for as well would wake it for each datagram.
func TestDatagramsAreReadByNobodyElse(t *testing.T) {
	at, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := newUDPLot(at.(*net.UDPConn))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := at.ReadFrom(make([]byte, 1)); err == nil {
		t.Error("the runtime reads it, too")
	}
	fd := int(l.ready[0].Fd)
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
		t.Error("its descriptor is still open")
	}
}
