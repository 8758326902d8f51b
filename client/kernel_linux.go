package client

import (
	"time"

	"golang.org/x/sys/unix"
)

// path asks whether the other end's kernel has acknowledged all that was sent
// (tcp_info).
func (k kernel) path() path {
	if k.raw == nil {
		return unknown
	}
	var info *unix.TCPInfo
	var err error
	if e := k.raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); e != nil || err != nil {
		return unknown
	}
	if info.Unacked > 0 || info.Notsent_bytes > 0 {
		return unacknowledged
	}
	return acknowledged
}

// setUserTimeout sets how long data may stay unacknowledged (TCP_USER_TIMEOUT,
// RFC 5482).
func (k kernel) setUserTimeout(d time.Duration) {
	_ = k.raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}
