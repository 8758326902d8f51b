package session

// Patrol looks at every session whose slot has come by now, and returns those
// that were silent for longer than their lease: they are out of the table. Call
// it every tick; after a longer while it catches up. floor is the earliest
// moment from which anyone may be held to have been silent (Clock.Woke).
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

func (t *Table[L]) patrol(sh *shard[L], now, floor Tick, into []View[L]) []View[L] {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	behind := int32(now - sh.patrolled)
	if behind <= 0 {
		return into
	}
	if behind > slots { // every slot is due
		sh.patrolled = now - slots
	}
	for sh.patrolled != now {
		sh.patrolled++
		into = t.visit(sh, sh.patrolled%slots, now, floor, into)
	}
	return into
}

// visit looks at everyone in a slot, and files each into its next one.
func (t *Table[L]) visit(sh *shard[L], slot, now, floor Tick, into []View[L]) []View[L] {
	i := sh.heads[slot]
	sh.heads[slot] = 0
	for i != 0 {
		b := sh.ring.at(i)
		// All of a page are fetched before any is looked at: memory answers them
		// together, where a list would have it answer one after the other.
		var some [pageSize]*Session[L]
		n := 0
		for _, id := range b.ids[:b.n] {
			if s := sh.at(id); s.filed == uint32(slot)+1 {
				s.filed = 0 // it may be here twice
				some[n] = s
				n++
			}
		}
		for _, s := range some[:n] {
			into = t.look(sh, s, now, floor, into)
		}
		i = sh.ring.put(i)
	}
	return into
}

// look looks at a session that is filed nowhere.
func (t *Table[L]) look(sh *shard[L], s *Session[L], now, floor Tick, into []View[L]) []View[L] {
	late, offline := s.due(floor)
	if int32(now-offline) >= 0 {
		return append(into, t.end(sh, s))
	}
	if isLate := int32(now-late) >= 0; isLate != s.isLate {
		s.isLate = isLate
		if isLate {
			s.class.late.Add(1)
		} else {
			s.class.late.Add(-1)
		}
	}
	sh.file(s, s.nextLook(now, floor))
	return into
}

// lookAgain is how soon a late session is looked at again, in ticks, so that
// its next beat makes it punctual within a second.
const lookAgain = 10

// nextLook is the tick at which a session must be looked at next.
func (s *Session[L]) nextLook(now, floor Tick) Tick {
	late, offline := s.due(floor)
	next := late
	if s.isLate {
		next = now + lookAgain
	}
	if int32(offline-next) < 0 {
		next = offline
	}
	return next
}

// file puts a session that is in no slot, or shall be in an earlier one, into
// that of tick due: the next to be visited where that is past, the last of the
// ring where it is beyond the horizon.
func (sh *shard[L]) file(s *Session[L], due Tick) {
	ahead := int32(due - sh.patrolled)
	ahead = min(max(ahead, 1), slots-1)
	if s.filed != 0 && ahead >= sh.ahead(s) {
		return // it is looked at soon enough, and filed anew then
	}
	// What it leaves in another slot is passed by there.
	slot := uint32(sh.patrolled+Tick(ahead)) % slots
	s.filed = slot + 1
	sh.heads[slot] = sh.ring.add(sh.heads[slot], s.self)
}

// ahead is in how many ticks the slot of a session is visited.
func (sh *shard[L]) ahead(s *Session[L]) int32 {
	d := int32(s.filed-1) - int32(sh.patrolled%slots)
	if d <= 0 {
		d += slots
	}
	return d
}
