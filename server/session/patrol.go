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
		s := sh.at(i)
		i = s.next
		s.filed, s.prev, s.next = 0, 0, 0
		late, offline := s.due(floor)
		if int32(now-offline) >= 0 {
			into = append(into, t.end(sh, s))
			continue
		}
		if isLate := int32(now-late) >= 0; isLate != s.isLate {
			s.isLate = isLate
			if isLate {
				s.class.late.Add(1)
			} else {
				s.class.late.Add(-1)
			}
		}
		sh.fileNext(s, now, floor)
	}
	return into
}

// lookAgain is how soon a late session is looked at again, in ticks, so that
// its next beat makes it punctual within a second.
const lookAgain = 10

// fileNext files a session under the tick at which it must be looked at next.
func (sh *shard[L]) fileNext(s *Session[L], now, floor Tick) {
	late, offline := s.due(floor)
	next := late
	if s.isLate {
		next = now + lookAgain
	}
	if int32(offline-next) < 0 {
		next = offline
	}
	sh.file(s, next)
}

// file puts a session into the slot of tick due: the next to be visited where
// that is past, the last of the ring where it is beyond the horizon.
func (sh *shard[L]) file(s *Session[L], due Tick) {
	if int32(due-sh.patrolled) <= 0 {
		due = sh.patrolled + 1
	} else if int32(due-sh.patrolled) >= slots {
		due = sh.patrolled + slots - 1
	}
	slot := uint32(due % slots)
	s.filed, s.prev, s.next = slot+1, 0, sh.heads[slot]
	if s.next != 0 {
		sh.at(s.next).prev = s.self
	}
	sh.heads[slot] = s.self
}

// unfile takes a session out of its slot; in none (being visited) it stays so.
func (sh *shard[L]) unfile(s *Session[L]) {
	if s.filed == 0 {
		return
	}
	if s.prev != 0 {
		sh.at(s.prev).next = s.next
	} else {
		sh.heads[s.filed-1] = s.next
	}
	if s.next != 0 {
		sh.at(s.next).prev = s.prev
	}
	s.filed, s.prev, s.next = 0, 0, 0
}
