package client

import (
	"net"
	"syscall"
	"time"
)

// kernel is what the operating system knows of a connection. The zero one
// knows nothing.
type kernel struct {
	tcp *net.TCPConn
	raw syscall.RawConn
}

// kernelOf finds the TCP connection below c.
func kernelOf(c net.Conn) kernel {
	for range 8 { // layers, at most
		switch layer := c.(type) {
		case *net.TCPConn:
			raw, err := layer.SyscallConn()
			if err != nil {
				return kernel{}
			}
			return kernel{layer, raw}
		case interface{ NetConn() net.Conn }:
			c = layer.NetConn()
		default:
			return kernel{}
		}
	}
	return kernel{}
}

// longestIdle is the longest that Linux waits before its first keepalive probe
// (MAX_TCP_KEEPIDLE).
const longestIdle = 32767 * time.Second

// fit sets what the kernel does by itself, as the second line behind the
// heartbeat: it probes a connection that was silent for longer than any beat
// lets it be, so that its probes neither wake a radio nor keep a NAT's memory
// fresh; and it ends one whose data nobody has acknowledged for give.
func (k kernel) fit(interval, give time.Duration) {
	if k.tcp == nil {
		return
	}
	_ = k.tcp.SetKeepAliveConfig(net.KeepAliveConfig{
		Enable: true, Idle: min(interval+interval/2, longestIdle), Interval: min(max(interval/2, time.Second), time.Minute), Count: 3,
	})
	k.setUserTimeout(give)
}
