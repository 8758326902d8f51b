package client

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	// maxHints bounds a server list; a server sends 16 at most.
	maxHints = 64
	// maxRetryAfter bounds what a server may ask a client to wait.
	maxRetryAfter = 5 * time.Minute
	// busyFor is how long a busy server that names no time is left alone.
	busyFor = time.Second
)

// guidance is what a server says of where to go.
type guidance struct {
	// listed: it sent a server list, which replaces the one before.
	listed     bool
	servers    []wire.ServerHint
	references []string      // Server Reference: first of all, in order
	retryAfter time.Duration // for its own address; zero: none
}

// record is what is known of one address. Times in the past say nothing.
type record struct {
	avoidUntil time.Time // it was left
	failedAt   time.Time // it did not take the client
	failUntil  time.Time
	notBefore  time.Time // it said when to come back
}

// routes knows the servers, and which to try next. A round tries each address
// at most once.
type routes struct {
	avoidFor  time.Duration
	exclude   func(string) bool
	bootstrap []string
	hints     []wire.ServerHint // the last list, and where the client was last
	refs      []string          // to follow first
	records   map[string]record
	tried     map[string]bool // in this round
	// names of the servers that took the client, by address, and until when the
	// ones that were left are avoided: an address may be shared.
	names      map[string]string
	avoidNames map[string]time.Time
}

func newRoutes(bootstrap []string, avoidFor time.Duration, exclude func(string) bool) routes {
	return routes{
		avoidFor:  avoidFor,
		exclude:   exclude,
		bootstrap: slices.Compact(slices.Sorted(slices.Values(bootstrap))),
		records:   map[string]record{},
		tried:     map[string]bool{},
		names:     map[string]string{}, avoidNames: map[string]time.Time{},
	}
}

// learn takes what the server at address says.
func (r *routes) learn(now time.Time, address string, g guidance) {
	if g.listed {
		r.hints = nil
		for _, h := range g.servers {
			known := slices.ContainsFunc(r.hints, func(k wire.ServerHint) bool { return k.Address == h.Address })
			if !known && len(r.hints) < maxHints && checkAddress(h.Address) == nil {
				r.hints = append(r.hints, h)
			}
		}
	}
	for _, a := range g.references {
		if len(r.refs) < maxHints && checkAddress(a) == nil {
			r.refs = append(r.refs, a)
		}
	}
	if g.retryAfter > 0 {
		rec := r.records[address]
		rec.notBefore = now.Add(min(g.retryAfter, maxRetryAfter))
		r.records[address] = rec
	}
}

// vouched: whoever directs the client to these addresses knows better than the
// client that left one of them: a server that has recovered gets its share back
// before AvoidFor is over.
func (r *routes) vouched(addresses []string) {
	for _, a := range addresses {
		if rec, ok := r.records[a]; ok {
			rec.avoidUntil = time.Time{}
			r.records[a] = rec
		}
		delete(r.avoidNames, r.names[a])
	}
}

// avoids tells whether a server that answers at address is one that was left,
// by its name, and others are known, so that a shared address may lead to them.
func (r *routes) avoids(now time.Time, address, name string) bool {
	return name != "" && r.avoidNames[name].After(now) &&
		slices.ContainsFunc(r.hints, func(h wire.ServerHint) bool { return h.Address != address && !r.excluded(h.Address) })
}

// again lets an address be tried once more in this round.
func (r *routes) again(address string) { delete(r.tried, address) }

// forgive forgets which servers did not take the client: it was the network.
func (r *routes) forgive() {
	for a, rec := range r.records {
		rec.failUntil = time.Time{}
		r.records[a] = rec
	}
}

// arrived: the server of that name has taken the client at address.
func (r *routes) arrived(now time.Time, address, name string) {
	r.refs = nil
	delete(r.records, address)
	for a, rec := range r.records { // what says nothing any more
		if !rec.avoidUntil.After(now) && !rec.failUntil.After(now) && !rec.notBefore.After(now) {
			delete(r.records, a)
		}
	}
	for n, until := range r.avoidNames {
		if n == name || !until.After(now) {
			delete(r.avoidNames, n)
		}
	}
	if len(r.names) >= maxHints {
		clear(r.names)
	}
	r.names[address] = name
}

// left: the client has left the server of that name, at address. It stays
// known, since the list that it sent was of the others.
func (r *routes) left(now time.Time, address, name string) {
	until := now.Add(r.avoidFor)
	if name != "" {
		r.avoidNames[name] = until
	}
	rec := r.records[address]
	rec.avoidUntil = until
	r.records[address] = rec
	if !slices.ContainsFunc(r.hints, func(h wire.ServerHint) bool { return h.Address == address }) {
		r.hints = append(r.hints, wire.ServerHint{Address: address, Load: 100})
	}
}

// failed: the server at address did not take the client.
func (r *routes) failed(now time.Time, address string) {
	rec := r.records[address]
	rec.failedAt, rec.failUntil = now, now.Add(r.avoidFor)
	r.records[address] = rec
}

// busy: the server at address may take the client later.
func (r *routes) busy(now time.Time, address string) {
	rec := r.records[address]
	if !rec.notBefore.After(now) {
		rec.notBefore = now.Add(busyFor)
	}
	r.records[address] = rec
}

// round begins a new round.
func (r *routes) round() { clear(r.tried) }

// next picks the address to try now: Server References, then the servers of
// the list, then the bootstrap addresses, then what failed of late, oldest
// first; and what was left of late only when all else has failed in this
// round, and nothing else has asked to be tried later. False: the round is over.
func (r *routes) next(now time.Time, rnd *rand.Rand) (string, bool) {
	for len(r.refs) > 0 {
		a := r.refs[0]
		r.refs = r.refs[1:]
		rec := r.records[a]
		if r.open(a) && !rec.avoidUntil.After(now) && !rec.notBefore.After(now) {
			return r.try(a), true
		}
	}
	var listed, bootstrap []wire.ServerHint
	var failed, avoided []string
	pending := false
	file := func(h wire.ServerHint, fresh *[]wire.ServerHint) {
		switch rec := r.records[h.Address]; {
		case r.excluded(h.Address):
		case rec.avoidUntil.After(now):
			if !r.tried[h.Address] && !rec.notBefore.After(now) {
				avoided = append(avoided, h.Address)
			}
		case rec.notBefore.After(now):
			pending = true
		case r.tried[h.Address]:
		case rec.failUntil.After(now):
			failed = append(failed, h.Address)
		default:
			*fresh = append(*fresh, h)
		}
	}
	for _, h := range r.hints {
		file(h, &listed)
	}
	for _, a := range r.bootstrap {
		if !slices.ContainsFunc(r.hints, func(h wire.ServerHint) bool { return h.Address == a }) {
			file(wire.ServerHint{Address: a}, &bootstrap)
		}
	}
	switch {
	case len(listed) > 0:
		return r.try(listed[choose(rnd, listed)].Address), true
	case len(bootstrap) > 0:
		return r.try(bootstrap[choose(rnd, bootstrap)].Address), true
	case len(failed) > 0:
		return r.try(slices.MinFunc(failed, func(a, b string) int {
			return r.records[a].failedAt.Compare(r.records[b].failedAt)
		})), true
	case len(avoided) > 0 && !pending:
		return r.try(slices.MinFunc(avoided, func(a, b string) int {
			return r.records[a].avoidUntil.Compare(r.records[b].avoidUntil)
		})), true
	}
	return "", false
}

// resume is when a round that is over now can go on at the earliest: at once,
// unless every server has asked to be tried later or is avoided because of those.
func (r *routes) resume(now time.Time) time.Time {
	var at time.Time
	look := func(a string) (open bool) {
		rec := r.records[a]
		if r.excluded(a) {
			return false
		}
		until := rec.notBefore
		if rec.avoidUntil.After(until) {
			until = rec.avoidUntil
		}
		if !until.After(now) {
			return true
		}
		if at.IsZero() || until.Before(at) {
			at = until
		}
		return false
	}
	pending := false
	for a, rec := range r.records {
		pending = pending || rec.notBefore.After(now) && !rec.avoidUntil.After(now) && !r.excluded(a)
	}
	for _, h := range r.hints {
		if look(h.Address) {
			return now
		}
	}
	for _, a := range r.bootstrap {
		if look(a) {
			return now
		}
	}
	if !pending || at.IsZero() {
		return now
	}
	return at
}

func (r *routes) try(a string) string {
	r.tried[a] = true
	return a
}

func (r *routes) open(a string) bool     { return !r.tried[a] && !r.excluded(a) }
func (r *routes) excluded(a string) bool { return r.exclude != nil && r.exclude(a) }
