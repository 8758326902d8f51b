package server

import (
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server/session"
)

const (
	// maxSentAway bounds how many clients a drain remembers; beyond it some are
	// forgotten, and begin anew.
	maxSentAway = 1 << 16
	// strandedFor is how long a client that had to be let in again is left alone,
	// before it is told to go once more.
	strandedFor = time.Minute
	// Who is sent away comes back for good after a quarter of its lease, within
	// these bounds: in time for its beats, but not before it has tried elsewhere.
	minPatience, maxPatience = 500 * time.Millisecond, 5 * time.Second
)

// sentAway is what a drain remembers of a client.
type sentAway struct {
	first time.Time // since when it has been told to go elsewhere
	last  time.Time // when it was told so last, or came
	until time.Time // it is let in, and left alone until then
}

// patience is how long a client with this lease is sent elsewhere.
func patience(l session.Lease) time.Duration {
	return min(max(l.Offline/4, minPatience), maxPatience)
}

// note is since when a client was told so; d.mu is held.
func (d *drain) note(now time.Time, key store.SessionKey) *sentAway {
	if a := d.away[key]; a != nil {
		// Who was let in, or has not been seen since, is told once more.
		if a.until.Before(now) && !a.until.IsZero() || now.Sub(a.last) > strandedFor {
			*a = sentAway{first: now}
		}
		a.last = now
		return a
	}
	if d.away == nil {
		d.away = map[store.SessionKey]*sentAway{}
	}
	for k := range d.away {
		if len(d.away) < maxSentAway {
			break
		}
		delete(d.away, k)
	}
	a := &sentAway{first: now, last: now}
	d.away[key] = a
	return a
}

// stranded tells whether a client that arrives must be let in although everyone
// is moved away from here: it was told to go elsewhere for as long as its
// patience, and here it is again. Where it was sent does not take it, or cannot be
// reached from where it is; and nobody goes offline for a drain.
func (d *drain) stranded(now time.Time, key store.SessionKey, patience time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.note(now, key)
	if now.Before(a.until) {
		return true // it is here already, with another connection
	}
	if now.Sub(a.first) < patience {
		return false
	}
	a.until = now.Add(strandedFor)
	return true
}

// alone tells whether a client is left alone for now; d.mu is held.
func (d *drain) alone(now time.Time, c candidate) bool {
	if len(d.away) == 0 {
		return false
	}
	a := d.away[c.key()]
	return a != nil && now.Before(a.until)
}
