package record

import (
	"hash/maphash"
	"iter"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server/index"
)

// entry is a client that is here, or about which there is something to write.
// There is one for every client, so it is kept small: 160 bytes.
type entry struct {
	machine
	presence *presence
	client   string
	arrival  uint64

	// What is, or should be, recorded.

	principal string
	since     int64
	says      *says  // nil: nothing
	interval  uint32 // in milliseconds

	position uint32 // among the entries
	lastSeen int64
	bucket   store.BucketID
	transit  *transit // nil: it came from nowhere, as far as is known
	silent   bool     // it has ended by silence
	witness  bool     // it is an agent
	queued   bool
}

// says is what few clients say of themselves.
type says struct {
	attributes map[string]string
	will       []byte
}

// presence is what the keys of its clients begin with.
type presence struct{ namespace, name string }

// transit is how a client came from another server: origin is the incarnation
// that a takeover takes it from; left is why the client left there. Either may
// be empty.
type transit struct{ origin, left string }

func (e *entry) key() store.SessionKey {
	return store.SessionKey{Namespace: e.presence.namespace, Presence: e.presence.name, Client: e.client}
}

func (e *entry) from() transit {
	if e.transit == nil {
		return transit{}
	}
	return *e.transit
}

// comes notes how the client came.
func (e *entry) comes(t transit) {
	switch {
	case t == transit{}:
		e.transit = nil
	case e.transit == nil:
		e.transit = &t
	default:
		*e.transit = t
	}
}

// session is what is, or should be, recorded of an entry.
func (r *Recorder) session(e *entry) store.Session {
	s := store.Session{
		Server: r.cfg.Server, Incarnation: r.cfg.Incarnation, Principal: e.principal,
		Since: e.since, Interval: int64(e.interval),
	}
	if e.says != nil {
		s.Attributes, s.Will = e.says.attributes, e.says.will
	}
	return s
}

// set is session's inverse, of a session that is ours.
func (e *entry) set(s store.Session) {
	e.principal, e.since, e.says = s.Principal, s.Since, nil
	if len(s.Attributes) > 0 || s.Will != nil {
		e.says = &says{s.Attributes, s.Will}
	}
	e.interval = uint32(max(0, min(s.Interval, int64(30*24*time.Hour/time.Millisecond))))
}

// entries are all entries, found by their keys. Guarded by the Recorder's mu.
type entries struct {
	seed      maphash.Seed
	index     index.Index
	all       []*entry // by position - 1; nil: vacant
	vacant    []uint32 // positions
	presences map[presence]*presence
}

func newEntries() *entries {
	return &entries{seed: maphash.MakeSeed(), presences: map[presence]*presence{}}
}

func (es *entries) hash(client string) uint64 { return maphash.String(es.seed, client) }

func (es *entries) hashAt(position uint32) uint64 { return es.hash(es.all[position-1].client) }

// get is the entry of a client; nil: there is none.
func (es *entries) get(key store.SessionKey) *entry {
	p := es.index.Find(es.hash(key.Client), func(p uint32) bool { return es.all[p-1].key() == key })
	if p == 0 {
		return nil
	}
	return es.all[p-1]
}

// add makes an entry for a client that has none.
func (es *entries) add(key store.SessionKey) *entry {
	of := presence{key.Namespace, key.Presence}
	if es.presences[of] == nil {
		es.presences[of] = &of
	}
	e := &entry{presence: es.presences[of], client: key.Client}
	if n := len(es.vacant); n > 0 {
		e.position = es.vacant[n-1]
		es.vacant = es.vacant[:n-1]
		es.all[e.position-1] = e
	} else {
		es.all = append(es.all, e)
		e.position = uint32(len(es.all))
	}
	es.index.Put(e.position, es.hash(e.client), es.hashAt)
	return e
}

func (es *entries) remove(e *entry) {
	if es.all[e.position-1] != e {
		return // removed already
	}
	es.index.Remove(e.position, es.hash(e.client), es.hashAt)
	es.all[e.position-1] = nil
	es.vacant = append(es.vacant, e.position)
}

func (es *entries) len() int { return es.index.Len() }

// each goes over all entries; they may be removed meanwhile.
func (es *entries) each() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, e := range es.all {
			if e != nil && !yield(e) {
				return
			}
		}
	}
}
