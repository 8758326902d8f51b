package session

import "time"

// A client that may beat by datagrams has no link that would hold its session:
// each datagram names the session by where it is, and by its arrival, so that one
// which has ended, or was taken over, is not mistaken for the next in its place.

// Place is where a session is in its table; nobody's is 0.
type Place uint32

// placeOf is where a session with that hash of its key is.
func placeOf[L any](s *Session[L], hash uint64) Place {
	return Place(s.self*shards + uint32(hash&(shards-1)))
}

// granted is the live session of an arrival that datagrams may speak for; sh.mu is held.
func (sh *shard[L]) granted(p Place, arrival uint64) *Session[L] {
	i := uint32(p) / shards
	if i == 0 || i > uint32(len(sh.chunks)*chunkSize) {
		return nil
	}
	if s := sh.at(i); s.live && s.arrival == arrival && s.bits.Load()&datagrams != 0 {
		return s
	}
	return nil
}

func (t *Table[L]) shardOf(p Place) *shard[L] { return &t.shards[uint32(p)%shards] }

// Outcome is what became of a datagram.
type Outcome uint8

// The outcomes of a datagram.
const (
	// Accepted: it counts.
	Accepted Outcome = iota
	// Replayed: one with the same number, or a later one, was accepted already.
	Replayed
	// Ended: there is no session of that arrival any more.
	Ended
)

// Heard is what is known of a session that beat by a datagram.
type Heard struct {
	Class    *Class
	Client   string
	Interval time.Duration
	// Attend: somebody waits for such a packet (Table.Attend).
	Attend bool
	// Told is the number that its client was told by to go elsewhere (Table.Tell).
	Told uint16
}

// Datagram is a beat of the session of that arrival, numbered counter (from 1),
// which came at now or later; proves: and was sent since anybody could have doubted
// that its client is here. It allocates nothing.
func (t *Table[L]) Datagram(p Place, arrival uint64, counter uint32, now Tick, proves bool) (Heard, Outcome) {
	sh := t.shardOf(p)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.granted(p, arrival)
	switch {
	case s == nil:
		return Heard{}, Ended
	case counter <= s.counter:
		return Heard{}, Replayed
	}
	s.counter = counter
	attend := s.Beat(now)
	if proves {
		s.bits.Or(proven)
	}
	return Heard{s.class, s.client, time.Duration(s.interval) * time.Millisecond, attend, uint16(s.bits.Load() >> toldAt)}, Accepted
}

// Expects tells whether a datagram of that arrival and number would be accepted, if it
// is its client's.
func (t *Table[L]) Expects(p Place, arrival uint64, counter uint32) bool {
	sh := t.shardOf(p)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.granted(p, arrival)
	return s != nil && counter > s.counter
}

// Spend takes the number of a datagram that does not count as a beat, so that it can
// be answered.
func (t *Table[L]) Spend(p Place, arrival uint64, counter uint32) Outcome {
	sh := t.shardOf(p)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.granted(p, arrival)
	switch {
	case s == nil:
		return Ended
	case counter <= s.counter:
		return Replayed
	}
	s.counter = counter
	return Accepted
}

// Depart ends the session of that arrival, because its client leaves on purpose.
func (t *Table[L]) Depart(p Place, arrival uint64, counter uint32) (View[L], Outcome) {
	sh := t.shardOf(p)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.granted(p, arrival)
	switch {
	case s == nil:
		return View[L]{}, Ended
	case counter <= s.counter:
		return View[L]{}, Replayed
	}
	return t.end(sh, s), Accepted
}

// RenewAt is Renew for the session of that arrival. It tells whether there is one.
func (t *Table[L]) RenewAt(p Place, arrival uint64, l Lease) bool {
	sh := t.shardOf(p)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.granted(p, arrival)
	if s == nil {
		return false
	}
	sh.lease(s, l)
	return true
}

// Tell has the client of a session hear with its next datagram that it shall go
// elsewhere, as long as what has that number stands; 0 takes it back. It tells whether
// there is such a session.
func (t *Table[L]) Tell(c *Class, client string, arrival uint64, by uint16) bool {
	k := key{c.id, client}
	sh, hash := t.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.find(k, hash)
	if s == nil || s.arrival != arrival || s.bits.Load()&datagrams == 0 {
		return false
	}
	s.bits.And(^uint32(0xffff<<toldAt | answered))
	s.bits.Or(uint32(by) << toldAt)
	return true
}

// HasHeard takes note that the client was answered so. It tells whether that is the
// first time.
func (t *Table[L]) HasHeard(p Place, arrival uint64) bool {
	sh := t.shardOf(p)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.granted(p, arrival)
	return s != nil && s.bits.Or(answered)&answered == 0
}
