package session

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/server/index"
)

const (
	shards = 64 // a power of two
	// chunkSize is how many sessions are made room for at once, in each shard.
	chunkSize = 32
)

// ErrPrincipal: the client's session belongs to another principal.
var ErrPrincipal = errors.New("the session belongs to another principal")

// Table holds the sessions of one server. Safe for concurrent use.
type Table[L any] struct {
	seed   maphash.Seed
	shards [shards]shard[L]

	mu      sync.Mutex
	classes []*Class
}

// shard is a part of the table with its own lock and slab.
type shard[L any] struct {
	mu     sync.Mutex
	byKey  index.Index // of live sessions, by Session.self
	chunks []*[chunkSize]Session[L]
	stamps []*[chunkSize]stamp // of the sessions of each chunk
	looks  []Tick              // when the stamps of each chunk must be looked at
	free   uint32              // Session.self of one that can be reused, linked by next; 0: none

	arrivals uint64
	_        [64]byte
}

type key struct {
	class  uint32
	client string
}

// NewTable makes an empty table. Its arrivals are counted from where nobody else knows:
// who has not seen a datagram cannot name the session that another one speaks for.
func NewTable[L any]() *Table[L] {
	t := &Table[L]{seed: maphash.MakeSeed()}
	var b [8]byte
	for i := range t.shards {
		_, _ = rand.Read(b[:])                                       // it never fails
		t.shards[i].arrivals = binary.NativeEndian.Uint64(b[:]) >> 1 // half of the numbers are left
	}
	return t
}

// Class is the class of a Presence's sessions, or of its probes.
func (t *Table[L]) Class(namespace, presence string, probe bool) *Class {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.classes {
		if c.Namespace == namespace && c.Presence == presence && c.Probe == probe {
			return c
		}
	}
	c := &Class{Namespace: namespace, Presence: presence, Probe: probe, id: uint32(len(t.classes))}
	t.classes = append(t.classes, c)
	return c
}

// Classes are all classes so far, probes' included.
func (t *Table[L]) Classes() []*Class {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]*Class(nil), t.classes...)
}

// Live is how many sessions there are, probes excluded.
func (t *Table[L]) Live() int {
	n := 0
	for _, c := range t.Classes() {
		if !c.Probe {
			n += c.Live()
		}
	}
	return n
}

// shard is where a key belongs, and its hash.
func (t *Table[L]) shard(k key) (*shard[L], uint64) {
	hash := maphash.Comparable(t.seed, k)
	return &t.shards[hash&(shards-1)], hash
}

// of is where a session belongs, and its hash.
func (t *Table[L]) of(s *Session[L]) (*shard[L], uint64) {
	return t.shard(key{s.class.id, s.client})
}

func (t *Table[L]) hash(sh *shard[L]) func(uint32) uint64 {
	return func(i uint32) uint64 {
		_, hash := t.of(sh.at(i))
		return hash
	}
}

// find is the live session with a key; nil: there is none.
func (sh *shard[L]) find(k key, hash uint64) *Session[L] {
	i := sh.byKey.Find(hash, func(i uint32) bool {
		s := sh.at(i)
		return s.client == k.client && s.class.id == k.class
	})
	if i == 0 {
		return nil
	}
	return sh.at(i)
}

// Arrival is a client that has connected.
type Arrival[L any] struct {
	Class             *Class
	Client, Principal string
	Lease             Lease
	Link              *L
	// Now is the tick of the client's packet, WallClock the Unix time of it in
	// milliseconds.
	Now       Tick
	WallClock int64
	// Datagrams: the client may beat by datagrams of this arrival. Where it is not
	// set, those of earlier ones end.
	Datagrams bool
	// Rights are what the client was let in with. The table keeps them for its caller.
	Rights uint8
}

// Attached is what an arrival led to.
type Attached[L any] struct {
	Session *Session[L]
	// Arrival is greater than that of any earlier arrival of this client.
	Arrival uint64
	// Began is when the session began: with this arrival where it is New, else
	// with an earlier one.
	Began int64
	New   bool
	// Before is the link that the session had, for the caller to close; nil
	// where it had none.
	Before *L
	// Place is where datagrams find the session.
	Place Place
}

// Attach begins a session, or continues the client's session with another
// link. The caller holds the session until it calls Release.
func (t *Table[L]) Attach(a Arrival[L]) (Attached[L], error) {
	k := key{a.Class.id, a.Client}
	sh, hash := t.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s := sh.find(k, hash); s != nil {
		if s.principal != a.Principal {
			return Attached[L]{}, ErrPrincipal
		}
		before := s.link
		s.link = a.Link
		s.holders++
		s.arrival = sh.arrive()
		s.beat.Store(uint32(a.Now))
		s.grant(a.Datagrams, a.Rights)
		sh.lease(s, a.Lease)
		return Attached[L]{s, s.arrival, s.began, false, before, placeOf(s, hash)}, nil
	}
	s := sh.take()
	s.beat.Store(uint32(a.Now))
	s.bits.Store(0)
	s.grant(a.Datagrams, a.Rights)
	s.class, s.client, s.principal, s.link, s.began = a.Class, a.Client, a.Principal, a.Link, a.WallClock
	s.live, s.isLate, s.holders = true, false, 1
	sh.lease(s, a.Lease)
	sh.byKey.Put(s.self, hash, t.hash(sh))
	a.Class.live.Add(1)
	s.arrival = sh.arrive()
	return Attached[L]{s, s.arrival, s.began, true, nil, placeOf(s, hash)}, nil
}

// grant begins what datagrams may do anew, with an arrival.
func (s *Session[L]) grant(on bool, rights uint8) {
	s.counter = 0
	s.bits.And(attended)
	s.bits.Or(uint32(rights) << rightsAt)
	if on {
		s.bits.Or(datagrams)
	}
}

// lease gives a session a lease, which counts from its last beat.
func (sh *shard[L]) lease(s *Session[L], l Lease) {
	s.interval = uint32(l.Interval / time.Millisecond)
	s.late, s.offline = Ticks(l.Late), Ticks(l.Offline)
	late, offline := s.due(Tick(s.beat.Load()))
	look := &sh.looks[(s.self-1)/chunkSize]
	*look = earlier(*look, earlier(late, offline))
}

// Renew changes the session's lease, which counts from its last beat. It tells whether
// the interval is another one than before.
func (t *Table[L]) Renew(s *Session[L], l Lease) (changed bool) {
	sh, _ := t.of(s)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	before := s.interval
	sh.lease(s, l)
	return s.interval != before
}

// Interval is at which the session's client beats, as far as it has said.
func (t *Table[L]) Interval(s *Session[L]) time.Duration {
	sh, _ := t.of(s)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return time.Duration(s.interval) * time.Millisecond
}

// Release gives up a link's hold on a session. A live session stays, without a
// link, until its lease ends; unless another link has taken it over.
func (t *Table[L]) Release(s *Session[L], link *L) {
	sh, _ := t.of(s)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.link == link {
		s.link = nil
	}
	s.holders--
	sh.reuse(s)
}

// Leave ends a session because its client left on purpose; only through the
// link that the session has now. It tells whether there was one to end.
func (t *Table[L]) Leave(s *Session[L], link *L) (View[L], bool) { return t.leave(s, link, 0) }

// Abandon is Leave of a client whose link has ended without any proof that it is
// here: it leaves the session to one that has proved so by datagram.
func (t *Table[L]) Abandon(s *Session[L], link *L) (View[L], bool) { return t.leave(s, link, proven) }

func (t *Table[L]) leave(s *Session[L], link *L, unless uint32) (View[L], bool) {
	sh, _ := t.of(s)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !s.live || s.link != link || s.bits.Load()&unless != 0 {
		return View[L]{}, false
	}
	return t.end(sh, s), true
}

// Drop ends the session of a client, if it still is of that arrival.
func (t *Table[L]) Drop(c *Class, client string, arrival uint64) (View[L], bool) {
	k := key{c.id, client}
	sh, hash := t.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.find(k, hash)
	if s == nil || s.arrival != arrival {
		return View[L]{}, false
	}
	return t.end(sh, s), true
}

// Holds tells whether a session goes on, and still is of that arrival.
func (t *Table[L]) Holds(s *Session[L], arrival uint64) bool {
	sh, _ := t.of(s)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return s.live && s.arrival == arrival
}

// Has tells whether a client has a session.
func (t *Table[L]) Has(c *Class, client string) bool {
	k := key{c.id, client}
	sh, hash := t.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.find(k, hash) != nil
}

// Attend makes the next beats of a client's session tell so, or stops it; it
// tells whether there is such a session.
func (t *Table[L]) Attend(c *Class, client string, on bool) bool {
	k := key{c.id, client}
	sh, hash := t.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.find(k, hash)
	if s != nil {
		s.Attend(on)
	}
	return s != nil
}

// Each calls f for every session until it returns false. Sessions that begin or
// end meanwhile may or may not be among them; f may call the table.
func (t *Table[L]) Each(f func(View[L]) bool) {
	var views []View[L]
	for i := range t.shards {
		sh := &t.shards[i]
		views = views[:0]
		sh.mu.Lock()
		for _, chunk := range sh.chunks {
			for i := range chunk {
				if s := &chunk[i]; s.live {
					views = append(views, s.view())
				}
			}
		}
		sh.mu.Unlock()
		for _, v := range views {
			if !f(v) {
				return
			}
		}
	}
}

// arrive numbers arrivals, so that those of one client can be told apart even
// across sessions.
func (sh *shard[L]) arrive() uint64 {
	sh.arrivals++
	return sh.arrivals
}

func (sh *shard[L]) at(i uint32) *Session[L] {
	return &sh.chunks[(i-1)/chunkSize][(i-1)%chunkSize]
}

func (sh *shard[L]) take() *Session[L] {
	if sh.free == 0 {
		first := uint32(len(sh.chunks)*chunkSize) + 1
		chunk, stamps := new([chunkSize]Session[L]), new([chunkSize]stamp)
		sh.chunks, sh.stamps, sh.looks = append(sh.chunks, chunk), append(sh.stamps, stamps), append(sh.looks, 0)
		for i := range uint32(chunkSize) {
			chunk[i].stamp, chunk[i].self, chunk[i].next = &stamps[i], first+i, first+i+1
		}
		chunk[chunkSize-1].next = 0
		sh.free = first
	}
	s := sh.at(sh.free)
	sh.free, s.next = s.next, 0
	return s
}

// end takes a live session out of the table.
func (t *Table[L]) end(sh *shard[L], s *Session[L]) View[L] {
	v := s.view()
	_, hash := t.of(s)
	sh.byKey.Remove(s.self, hash, t.hash(sh))
	s.class.live.Add(-1)
	if s.isLate {
		s.class.count(false)
	}
	s.live, s.link = false, nil
	sh.reuse(s)
	return v
}

func (sh *shard[L]) reuse(s *Session[L]) {
	if !s.live && s.holders == 0 {
		s.client, s.principal, s.link = "", "", nil
		s.next, sh.free = sh.free, s.self
	}
}
