package server

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/rollcall-dev/rollcall/internal/datagram"
)

// udpRoom is what a datagram is read into: one that is longer is none of ours.
const udpRoom = datagram.Size + 1

// single reads and answers one datagram at a time, on every system.
type single struct {
	socket *net.UDPConn
	n      int
	remote netip.AddrPort
	buf    [udpRoom]byte
}

func (s *single) read(before func() moment) (int, moment, error) {
	// Its stamp is of after the wait: a datagram says itself when it was sent.
	var err error
	s.n, s.remote, err = s.socket.ReadFromUDPAddrPort(s.buf[:])
	m := before()
	m.read = time.Now()
	return 1, m, err
}

func (s *single) at(int) []byte           { return s.buf[:s.n] }
func (s *single) source(int) uint64       { return sourceOf(s.remote.Addr()) }
func (s *single) from(int) netip.AddrPort { return s.remote }
func (s *single) answer(int)              { _, _ = s.socket.WriteToUDPAddrPort(s.buf[:datagram.Size], s.remote) }
func (s *single) flush()                  {}
func (s *single) close() error            { return s.socket.Close() }

// sourceOf stands for an address, or a network of 64 bits: who has one has them all.
func sourceOf(a netip.Addr) uint64 {
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		return uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:])
}
