package server

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rollcall-dev/rollcall/internal/datagram"
)

const (
	// udpBatch is how many datagrams are taken from the kernel at once.
	udpBatch = 64
	// gather is how far reads are apart, but for one after a batch that was full: what
	// comes meanwhile is taken together. Who comes alone waits for nobody, others a
	// millisecond at most, which is little to a heartbeat; a wake-up and a system call in
	// each direction for every datagram cost more than the datagram (docs/benchmarks.md).
	gather = time.Millisecond
)

// newDatagrams takes a socket over; without loops it is read as on other systems.
func newDatagrams(socket *net.UDPConn, loops int) (datagrams, error) {
	if loops < 0 {
		return &single{socket: socket}, nil
	}
	return newUDPLot(socket)
}

// udpMessage is the kernel's struct mmsghdr.
type udpMessage struct {
	unix.Msghdr
	n uint32 // bytes that came, or left
}

// udpLot reads and answers many datagrams with a system call for each direction.
// The kernel writes to where its headers point: it is never copied.
type udpLot struct {
	ready [1]unix.PollFd // the socket
	next  time.Time      // when it is read again at the earliest
	due   int            // how many are to be answered

	in, out         [udpBatch]udpMessage
	inRoom, outRoom [udpBatch]unix.Iovec
	names           [udpBatch]unix.RawSockaddrInet6 // an IPv4 one is shorter
	bufs            [udpBatch][udpRoom]byte
}

// newUDPLot takes a socket out of the runtime's hands, which would wake for every
// datagram while they gather.
func newUDPLot(socket *net.UDPConn) (*udpLot, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var dup error
	if err := raw.Control(func(own uintptr) { fd, dup = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || dup != nil {
		return nil, errors.Join(err, dup)
	}
	l := &udpLot{ready: [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}}
	if err := socket.Close(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	for i := range udpBatch {
		l.inRoom[i].Base = &l.bufs[i][0]
		l.inRoom[i].SetLen(udpRoom)
		l.in[i].Name, l.in[i].Iov = (*byte)(unsafe.Pointer(&l.names[i])), &l.inRoom[i]
		l.in[i].SetIovlen(1)
		l.outRoom[i].SetLen(datagram.Size)
		l.out[i].Iov = &l.outRoom[i]
		l.out[i].SetIovlen(1)
	}
	return l, nil
}

func (l *udpLot) close() error { return unix.Close(int(l.ready[0].Fd)) }

// read waits for some, a tick at most, and then for those that follow closely. Its
// moment is of before the read.
func (l *udpLot) read(before func() moment) (int, moment, error) {
	if n, err := unix.Poll(l.ready[:], int(loopTick/time.Millisecond)); n <= 0 {
		if errors.Is(err, unix.EINTR) {
			err = nil
		}
		return 0, moment{}, err
	}
	if wait := time.Until(l.next); wait > 0 {
		ts := unix.NsecToTimespec(int64(wait))
		_ = unix.Nanosleep(&ts, nil) // what interrupts it, shortens it
	}
	m := before()
	n, err := l.receive()
	m.read = time.Now()
	l.next = m.read.Add(gather)
	if n == udpBatch {
		l.next = m.read
	}
	return n, m, err
}

// receive reads what there is, which may be nothing.
func (l *udpLot) receive() (int, error) {
	for i := range l.in {
		l.in[i].Namelen = unix.SizeofSockaddrInet6
	}
	for {
		n, _, errno := syscall.Syscall6(unix.SYS_RECVMMSG, uintptr(l.ready[0].Fd), uintptr(unsafe.Pointer(&l.in)), udpBatch, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			return 0, errno
		}
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

// flush sends what is due, and never waits: what the kernel does not take is lost,
// like what the network loses.
func (l *udpLot) flush() {
	for sent := 0; sent < l.due; {
		n, _, errno := syscall.Syscall6(unix.SYS_SENDMMSG, uintptr(l.ready[0].Fd), uintptr(unsafe.Pointer(&l.out[sent])), uintptr(l.due-sent), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			sent += int(n)
		case syscall.EINTR:
		case syscall.EAGAIN, syscall.ENOBUFS:
			sent = l.due
		default: // the first of them cannot be sent to, or one before it could not
			sent++
		}
	}
	l.due = 0
}
