package server

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rollcall-dev/rollcall/internal/datagram"
)

// udpBatch is how many datagrams are taken from the kernel at once.
const udpBatch = 64

// newDatagrams reads a socket; without loops as on other systems.
func newDatagrams(socket *net.UDPConn, loops int) (datagrams, error) {
	if loops < 0 {
		return &single{socket: socket}, nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	return newUDPLot(raw), nil
}

// udpMessage is the kernel's struct mmsghdr.
type udpMessage struct {
	unix.Msghdr
	n uint32 // bytes that came, or left
}

// udpLot reads and answers many datagrams with a system call for each direction.
// The kernel writes to where its headers point: it is never copied.
type udpLot struct {
	raw           syscall.RawConn
	receive, send func(fd uintptr) bool // closures, made once
	before        func() moment
	m             moment
	errno         syscall.Errno
	n, due        int // that came; that are to be answered

	in, out         [udpBatch]udpMessage
	inRoom, outRoom [udpBatch]unix.Iovec
	names           [udpBatch]unix.RawSockaddrInet6 // an IPv4 one is shorter
	bufs            [udpBatch][udpRoom]byte
}

func newUDPLot(raw syscall.RawConn) *udpLot {
	l := &udpLot{raw: raw}
	for i := range udpBatch {
		l.inRoom[i].Base = &l.bufs[i][0]
		l.inRoom[i].SetLen(udpRoom)
		l.in[i].Name, l.in[i].Iov = (*byte)(unsafe.Pointer(&l.names[i])), &l.inRoom[i]
		l.in[i].SetIovlen(1)
		l.outRoom[i].SetLen(datagram.Size)
		l.out[i].Iov = &l.outRoom[i]
		l.out[i].SetIovlen(1)
	}
	l.receive, l.send = l.receiveSome, l.sendAll
	return l
}

func (l *udpLot) read(before func() moment) (int, moment, error) {
	l.before = before
	if err := l.raw.Read(l.receive); err != nil {
		return 0, moment{}, net.ErrClosed
	}
	if l.errno != 0 {
		return 0, moment{}, l.errno
	}
	l.m.read = time.Now()
	return l.n, l.m, nil
}

// receiveSome reads once; false makes the runtime wait until there is more. Its
// moment is of before the read.
func (l *udpLot) receiveSome(fd uintptr) bool {
	l.m = l.before()
	for i := range l.in {
		l.in[i].Namelen = unix.SizeofSockaddrInet6
	}
	for {
		n, _, errno := syscall.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&l.in)), udpBatch, unix.MSG_DONTWAIT, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		l.n, l.errno = int(n), errno
		return errno != syscall.EAGAIN
	}
}

func (l *udpLot) at(i int) []byte { return l.bufs[i][:min(l.in[i].n, udpRoom)] }

func (l *udpLot) source(i int) uint64 { return sourceOf(l.from(i).Addr()) }

func (l *udpLot) from(i int) netip.AddrPort {
	if name := &l.names[i]; name.Family == unix.AF_INET6 {
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr), bigEndian(name.Port))
	}
	name := (*unix.RawSockaddrInet4)(unsafe.Pointer(&l.names[i]))
	return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), bigEndian(name.Port))
}

// bigEndian is a port as the kernel has it.
func bigEndian(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

func (l *udpLot) answer(i int) {
	l.out[l.due].Name, l.out[l.due].Namelen = l.in[i].Name, l.in[i].Namelen
	l.outRoom[l.due].Base = &l.bufs[i][0]
	l.due++
}

func (l *udpLot) flush() {
	if l.due > 0 {
		_ = l.raw.Write(l.send) // it fails when the socket is closed
		l.due = 0
	}
}

// sendAll sends what is due, and never waits: what the kernel does not take is
// lost, like what the network loses.
func (l *udpLot) sendAll(fd uintptr) bool {
	for sent := 0; sent < l.due; {
		n, _, errno := syscall.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&l.out[sent])), uintptr(l.due-sent), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			sent += int(n)
		case syscall.EINTR:
		case syscall.EAGAIN, syscall.ENOBUFS:
			return true
		default: // the first of them cannot be sent to, or one before it could not
			sent++
		}
	}
	return true
}
