package sampler

import (
	"context"
	"slices"
	"time"

	"github.com/rollcall-dev/rollcall/internal/sockets"
)

// glance is what is looked at between two looks at all connections of a server: its
// queue, and some connections on which something is likely to come.
type glance struct {
	families []sockets.Family // that somebody listens on
	chosen   []glimpse
	asked    []sockets.Socket // those of chosen, while they are looked at
	// queued: somebody waited to be accepted at the last one.
	queued bool
	readAt time.Time // when the process was last seen to have read
}

// glimpse is one connection.
type glimpse struct {
	socket   sockets.Socket
	observer bool
	read     uint64 // bytes that the process has read
	unread   bool
}

// consider chooses a connection, if it is of use: the observers' are, on which
// something comes every second; then those on which something came last. What is
// unread already may be for ever.
func (g *glance) consider(s sockets.Socket, observer bool) {
	if s.ReadQueue > 0 || s.Inode == 0 || s.State != sockets.Established {
		return
	}
	one := glimpse{socket: s, observer: observer, read: s.Info.Received}
	better := func(than glimpse) bool {
		if one.observer != than.observer {
			return one.observer
		}
		return s.Info.SinceReceived < than.socket.Info.SinceReceived
	}
	at := len(g.chosen)
	for at > 0 && better(g.chosen[at-1]) {
		at--
	}
	if at == glanced {
		return
	}
	if len(g.chosen) == glanced {
		g.chosen = g.chosen[:glanced-1]
	}
	g.chosen = slices.Insert(g.chosen, at, one)
}

// take takes one, and returns when to take the next; zero: something waits, so that
// all connections should be looked at now.
func (g *glance) take(ctx context.Context, ns namespace, port uint16, at time.Time) (time.Duration, error) {
	var waiting, limit uint64
	listeners := 0
	q := sockets.Query{Port: port, Families: g.families, States: []sockets.State{sockets.Listen}}
	err := ns.List(ctx, q, func(s sockets.Socket) error {
		listeners++
		waiting, limit = waiting+uint64(s.Queue().Waiting), max(limit, uint64(s.Queue().Limit))
		return nil
	})
	if err != nil {
		return 0, err
	}
	queued := g.queued
	g.queued = waiting > 0
	if listeners == 0 || waiting > 0 && (queued || waiting > limit) {
		return 0, nil
	}
	g.asked = g.asked[:0]
	for _, c := range g.chosen {
		g.asked = append(g.asked, c.socket)
	}
	// Those that are still there come in their order: the others are forgotten.
	var unread, stuck, read bool
	there, kept := g.chosen, g.chosen[:0]
	err = ns.Look(ctx, g.asked, func(s sockets.Socket) {
		for len(there) > 0 && there[0].socket.Cookie != s.Cookie {
			there = there[1:]
		}
		if len(there) == 0 || s.Info == nil {
			return
		}
		c := there[0]
		now := s.Info.Received - min(s.Info.Received, uint64(s.ReadQueue))
		read = read || now > c.read
		unread = unread || s.ReadQueue > 0
		stuck = stuck || s.ReadQueue > 0 && c.unread && now <= c.read
		c.read, c.unread = now, s.ReadQueue > 0
		there, kept = there[1:], append(kept, c)
	})
	if err != nil {
		return 0, err
	}
	g.chosen = kept
	if read {
		g.readAt = at
	}
	switch {
	case stuck && !read:
		return 0, nil
	case unread && !stuck:
		return doubt, nil
	}
	return calm, nil
}
