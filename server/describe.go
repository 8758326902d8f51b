package server

import (
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server/session"
)

// describeEvery is how often a client may say something else of itself, because
// every change is written. What comes sooner waits until then, and the last of it counts.
const describeEvery = 10 * time.Second

// descriptions are the clients that said something of themselves within
// describeEvery: no more than can say so in that time.
type descriptions struct {
	mu  sync.Mutex
	all map[store.SessionKey]*description
	// due has each of all once, the one that may be written first at first.
	due []*description
}

// description is what one client says of itself.
type description struct {
	key        store.SessionKey
	principal  string
	attributes map[string]string // that wait; nil: none do
	at         session.Tick      // when they may be written
}

// take tells whether attributes may be written now; else they wait, in place of
// those that did.
func (d *descriptions) take(key store.SessionKey, principal string, attributes map[string]string, now session.Tick) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if x := d.all[key]; x != nil {
		x.principal, x.attributes = principal, attributes
		return false
	}
	if d.all == nil {
		d.all = map[store.SessionKey]*description{}
	}
	x := &description{key: key, principal: principal, at: now + session.Ticks(describeEvery)}
	d.all[key] = x
	d.due = append(d.due, x)
	return true
}

// over are those that have waited for long enough by now.
func (d *descriptions) over(now session.Tick) (out []description) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.due) > 0 && int32(now-d.due[0].at) >= 0 {
		x := d.due[0]
		d.due = d.due[1:]
		if x.attributes == nil {
			delete(d.all, x.key)
			continue
		}
		out = append(out, *x)
		x.attributes, x.at = nil, now+session.Ticks(describeEvery)
		d.due = append(d.due, x)
	}
	return out
}

// rest are those that still wait; from now on none do.
func (d *descriptions) rest() (out []description) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.due {
		if x.attributes != nil {
			out = append(out, *x)
			x.attributes = nil
		}
	}
	return out
}

// last takes what waits of one client.
func (d *descriptions) last(key store.SessionKey) (out []description) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if x := d.all[key]; x != nil && x.attributes != nil {
		out = append(out, *x)
		x.attributes = nil
	}
	return out
}

// describe has attributes of a client recorded, now or as soon as it may be.
func (s *Server) describe(key store.SessionKey, principal string, attributes map[string]string, now session.Tick) {
	if s.descriptions.take(key, principal, attributes, now) {
		s.recorder.Describe(key, principal, attributes)
	}
}

// recordDescriptions records what was said of clients.
func (s *Server) recordDescriptions(all []description) {
	for _, x := range all {
		s.recorder.Describe(x.key, x.principal, x.attributes)
	}
}
