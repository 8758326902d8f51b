package probe

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket reads the kernel's word on one TCP connection.
type socket struct {
	raw syscall.RawConn
	// base is what the kernel counted as acknowledged before the first payload
	// byte: the SYN is counted too.
	base uint64
}

func newSocket(c net.Conn) (socket, Kernel) {
	s := socket{}
	if sc, ok := c.(syscall.Conn); ok {
		s.raw, _ = sc.SyscallConn()
	}
	k, _ := s.sample()
	s.base, k.Acked = k.Acked, 0
	return s, k
}

// sample asks the kernel (tcp_info, Linux 4.2; out-of-order segments since 5.4
// and duplicates since 4.18 are zero before). It fails when the connection is
// closed, or is none of the kernel's.
func (s socket) sample() (Kernel, bool) {
	if s.raw == nil {
		return Kernel{}, false
	}
	var info *unix.TCPInfo
	var err error
	if e := s.raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); e != nil || err != nil {
		return Kernel{}, false
	}
	return Kernel{
		Acked:       info.Bytes_acked - s.base,
		Disturbance: uint64(info.Total_retrans) + uint64(info.Rcv_ooopack) + uint64(info.Dsack_dups),
	}, true
}
