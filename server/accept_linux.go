package server

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rollcall-dev/rollcall/server/session"
)

// acceptSome accepts connections for the loops with the fewest.
func (l *loop) acceptSome() {
	for range acceptAtOnce {
		fd, errno := rawAccept(l.e.fd)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno == unix.EMFILE || errno == unix.ENFILE || errno == unix.ENOBUFS || errno == unix.ENOMEM:
			l.deafen() // until the next tick: the listener would wake us all the time
			l.rest = true
			return
		case errno != 0:
			continue // a connection that is gone already
		}
		if to := l.e.least(l); to != l {
			to.count.Add(1)
			to.post(func() { to.count.Add(-1); to.add(fd) })
			continue
		}
		l.add(fd)
	}
}

// add takes a new connection.
func (l *loop) add(fd int) {
	if !l.ending.IsZero() {
		unix.Close(fd)
		return
	}
	var c *conn
	var way link
	if d := l.e.door; d != nil {
		who, err := d.admit(peerOf(fd))
		if err != nil {
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			unix.Close(fd)
			return
		}
		g := &guestConn{who: who}
		c, way = &g.conn, g
		c.preface = who.expects
	} else {
		c = &conn{}
		way = c
	}
	c.fd = int32(fd)
	if s := l.m.stamp; s.Gaps == 0 || s.Tick-l.e.clock.Woke() > session.Ticks(doubtAfterGap) {
		c.emptied = s.Gaps + 1
	}
	l.hold(c, way, l.m.read.Add(connectWithin))
}

// hold has a connection served; by due it must have connected. It is false where it was
// closed.
func (l *loop) hold(c *conn, way link, due time.Time) bool {
	c.loop = l
	l.generation++
	c.generation = l.generation
	if n := len(l.vacant); n > 0 {
		c.slot = l.vacant[n-1]
		l.vacant = l.vacant[:n-1]
		l.slots[c.slot] = c
	} else {
		c.slot = int32(len(l.slots))
		l.slots = append(l.slots, c)
	}
	l.count.Add(1)
	p := l.e.accept(way)
	if p == nil {
		guestOf(way).leave()
		l.close(c)
		return false
	}
	c.peer = p
	const events = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET
	if l.register(int(c.fd), events&0xffffffff, c.slot, c.generation) != nil {
		l.close(c)
		return false
	}
	i := len(l.strangers)
	for i > 0 && l.strangers[i-1].due.After(due) { // who took long for the handshake
		i--
	}
	l.strangers = slices.Insert(l.strangers, i, c.deadline(due))
	return true
}

// close ends a connection for good.
func (l *loop) close(c *conn) {
	if c.gone {
		return
	}
	c.gone, c.held = true, nil
	c.shut()
	l.slots[c.slot] = nil
	l.vacant = append(l.vacant, c.slot)
	l.count.Add(-1)
	if c.peer != nil {
		guestOf(c.peer.link).leave()
	}
	if c.peer != nil && !c.waiting {
		c.peer.gone()
	}
}
