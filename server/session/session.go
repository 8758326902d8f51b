// Package session is a heartbeat server's table of sessions: who is here, when
// each last beat, and who has been silent too long. It knows no network and no
// store. A beat is one atomic store of a coarse tick into a stamp; silence is found
// by a patrol over the stamps, which lie side by side, so that nothing is allocated,
// scheduled or locked for a beat.
package session

import (
	"sync/atomic"
	"time"
)

// Class is what all sessions of one Presence, or all probes of one, have in
// common. Made by Table.Class, one for each name.
type Class struct {
	Namespace, Presence string
	// Probe sessions are timed out like others, and counted apart.
	Probe bool

	id   uint32
	live atomic.Int64
	late atomic.Int64
}

// Name is "namespace/presence".
func (c *Class) Name() string { return c.Namespace + "/" + c.Presence }

// Live is how many sessions of the class there are.
func (c *Class) Live() int { return int(c.live.Load()) }

// Late is how many of them have missed a beat.
func (c *Class) Late() int { return int(c.late.Load()) }

// Lease is how long a session lives without a beat.
type Lease struct {
	// Interval at which the client has said that it beats.
	Interval time.Duration
	// Late is the silence after which it counts as late.
	Late time.Duration
	// Offline is the silence after which the session ends.
	Offline time.Duration
}

// Session is one client's session. L is the way back to the client, which the
// table keeps and never uses.
//
// Beat and Attend may be called by anyone who holds the session; everything else
// is the table's, under its shard's lock. A Session is reused only when it has
// ended and every link that attached to it has released it.
type Session[L any] struct {
	*stamp
	bits atomic.Uint32

	next uint32 // of those that can be reused (Session.self)
	self uint32 // index + 1 of the session in its shard

	interval uint32
	holders  uint32 // links that have not released it
	// counter is the number of the last datagram that was accepted of this arrival.
	counter uint32

	class     *Class
	client    string
	principal string
	link      *L // nil: the connection is gone, the lease is not
	began     int64
	arrival   uint64
}

// stamp is what the patrol reads of a session. Those of a shard lie side by side.
type stamp struct {
	beat          atomic.Uint32 // tick of the last beat
	late, offline Tick          // silences, in ticks
	live          bool          // it has not ended
	isLate        bool
}

// The bits of a session. All but attended are those of its arrival, and change under
// its shard's lock.
const (
	attended  = 1 << iota
	datagrams // its client may beat by datagrams
	answered  // and has heard that it shall go elsewhere
	proven    // and has proved by one that it is here

	rightsAt = 8  // 8 bits: the rights of its arrival
	toldAt   = 16 // 16 bits: the number that it was told by to go elsewhere (Table.Tell)
)

// Beat records that a packet came from the client, read at t or later. It
// tells whether somebody waits for such a packet (Attend).
func (s *Session[L]) Beat(t Tick) (attend bool) {
	s.beat.Store(uint32(t))
	return s.bits.Load()&attended != 0
}

// Attend makes Beat return true, or stops it.
func (s *Session[L]) Attend(on bool) {
	if on {
		s.bits.Or(attended)
	} else {
		s.bits.And(^uint32(attended))
	}
}

// Key names the client. It does not change while the session is held.
func (s *Session[L]) Key() (c *Class, client string) { return s.class, s.client }

// Principal is whose session it is. It does not change while the session is held.
func (s *Session[L]) Principal() string { return s.principal }

// View is a copy of what the table knows of a session.
type View[L any] struct {
	Class     *Class
	Client    string
	Principal string
	Interval  time.Duration
	// Began is when the session began, as Attach was told (Unix milliseconds).
	Began int64
	// LastBeat is when the client last beat.
	LastBeat Tick
	// Arrival is the last one of this session.
	Arrival uint64
	Link    *L
	// Rights are those of its arrival.
	Rights uint8
	// Datagrams: its client may beat by datagrams, with a link or without. ByDatagram:
	// and has done so. Heard: and has been answered that it shall go elsewhere, by the
	// number that it was Told by (Table.Tell).
	Datagrams, ByDatagram, Heard bool
	Told                         uint16
}

func (s *Session[L]) view() View[L] {
	bits := s.bits.Load()
	return View[L]{
		Class: s.class, Client: s.client, Principal: s.principal,
		Interval: time.Duration(s.interval) * time.Millisecond,
		Began:    s.began, LastBeat: Tick(s.beat.Load()), Arrival: s.arrival, Link: s.link,
		Rights: uint8(bits >> rightsAt), Told: uint16(bits >> toldAt),
		Datagrams: bits&datagrams != 0, ByDatagram: s.counter > 0, Heard: bits&answered != 0,
	}
}

// due is when the session counts as late, and when it ends, unless it beats before;
// given the earliest moment that anyone may be held to have been silent from. Both
// are one tick later than the silence, because a beat may have come at the end of its
// tick.
func (s *stamp) due(floor Tick) (late, offline Tick) {
	last := Tick(s.beat.Load())
	if before(last, floor) {
		last = floor
	}
	return last + s.late + 1, last + s.offline + 1
}

// before tells which of two ticks is the earlier. Ticks wrap: the difference tells.
func before(a, b Tick) bool { return int32(a-b) < 0 }
