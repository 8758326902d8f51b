package session

import "time"

// Position is where a Walk goes on: 0 at the beginning, and at the end.
type Position uint64

// Walk calls f for at most n sessions from a position on, as long as it returns true, and is
// where to go on; 0: that was the last. A session keeps its position: one that lives
// throughout is met once, however the walk is cut. f may call the table.
func (t *Table[L]) Walk(from Position, n int, f func(View[L]) bool) Position {
	var views [chunkSize]View[L]
	for i := int(from >> 32); i < shards; i++ {
		for at := uint32(from); ; {
			if n <= 0 {
				return Position(i)<<32 | Position(at)
			}
			got, positions, more := t.shards[i].some(at, &views)
			if !more {
				break
			}
			for k, v := range got {
				if n--; n < 0 {
					return Position(i)<<32 | Position(positions[k])
				}
				if !f(v) {
					return Position(i)<<32 | Position(positions[k]+1)
				}
			}
			at = (at/chunkSize + 1) * chunkSize
		}
		from = 0
	}
	return 0
}

// some are the live sessions of the chunk that position at is in, from there on, and
// their positions; more is false where there is no such chunk.
func (sh *shard[L]) some(at uint32, into *[chunkSize]View[L]) (views []View[L], positions [chunkSize]uint32, more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if int(at/chunkSize) >= len(sh.chunks) {
		return nil, positions, false
	}
	chunk, n := sh.chunks[at/chunkSize], 0
	for i := at % chunkSize; i < chunkSize; i++ {
		if s := &chunk[i]; s.live {
			into[n], positions[n] = s.view(), at-at%chunkSize+i
			n++
		}
	}
	return into[:n], positions, true
}

// Find is what the table knows of a client's session.
func (t *Table[L]) Find(c *Class, client string) (View[L], bool) {
	k := key{c.id, client}
	sh, hash := t.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s := sh.find(k, hash); s != nil {
		return s.view(), true
	}
	return View[L]{}, false
}

// BeatAlone is a beat, at now or later, of a client whose session has no link, belongs to
// this principal and has this interval; ok is false where there is no such session.
// attend is as of Session.Beat.
func (t *Table[L]) BeatAlone(c *Class, client, principal string, interval time.Duration, now Tick) (attend, ok bool) {
	k := key{c.id, client}
	sh, hash := t.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.find(k, hash)
	if s == nil || s.link != nil || s.principal != principal || time.Duration(s.interval)*time.Millisecond != interval {
		return false, false
	}
	return s.Beat(now), true
}
