package session

const (
	// lookAgain is how soon a late session is looked at again, in ticks, so that
	// its next beat makes it punctual within a second.
	lookAgain = 10
	// horizon is how far ahead, in ticks, a look is put at most: an hour.
	horizon = 36_000
)

// Patrol looks at every session that may be late or over by now, and returns those
// that were silent for longer than their lease: they are out of the table. Call it
// every tick; after a longer while it catches up. floor is the earliest moment from
// which anyone may be held to have been silent (Clock.Woke).
//
// No session ends early; each ends at most one tick after its lease, when it is
// called every tick. into is reused.
func (t *Table[L]) Patrol(now, floor Tick, into []View[L]) []View[L] {
	into = into[:0]
	for i := range t.shards {
		into = t.patrol(&t.shards[i], now, floor, into)
	}
	return into
}

// patrol passes by the chunks of a shard in which nobody can be late yet: where all
// beat, each is looked at every few seconds, and read in the order in which it lies
// in memory.
func (t *Table[L]) patrol(sh *shard[L], now, floor Tick, into []View[L]) []View[L] {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for c, look := range sh.looks {
		if before(now, look) {
			continue
		}
		next := now + horizon
		for i := range sh.stamps[c] {
			s := &sh.stamps[c][i]
			if !s.live {
				continue
			}
			late, offline := s.due(floor)
			if !before(now, offline) {
				into = append(into, t.end(sh, &sh.chunks[c][i]))
				continue
			}
			if isLate := !before(now, late); isLate != s.isLate {
				s.isLate = isLate
				sh.chunks[c][i].class.count(isLate)
			}
			if s.isLate {
				late = now + lookAgain
			}
			next = earlier(next, earlier(late, offline))
		}
		sh.looks[c] = next
	}
	return into
}

func earlier(a, b Tick) Tick {
	if before(a, b) {
		return a
	}
	return b
}

// count takes note that a session has become late, or no longer is.
func (c *Class) count(late bool) {
	if late {
		c.late.Add(1)
	} else {
		c.late.Add(-1)
	}
}
