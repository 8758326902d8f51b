// Package index finds records by their hash, where the records are kept in a
// slab and known by their position there. It holds positions alone, some 8 bytes
// for each record, where a map would hold each key a second time.
package index

// Index is a hash table of positions, with linear probing. Positions are
// greater than 0. The zero value is empty. Not safe for concurrent use.
type Index struct {
	slots []uint32 // 0: empty; as many as a power of two
	n     int
}

// Len is how many positions there are.
func (x *Index) Len() int { return x.n }

// Find is the position with that hash for which is returns true; 0: there is none.
func (x *Index) Find(hash uint64, is func(position uint32) bool) uint32 {
	if x.n == 0 {
		return 0
	}
	for i := x.slot(hash); ; i = x.after(i) {
		p := x.slots[i]
		if p == 0 || is(p) {
			return p
		}
	}
}

// Put adds a position that is not there yet. hashOf tells the hash of any
// position that is.
func (x *Index) Put(position uint32, hash uint64, hashOf func(position uint32) uint64) {
	if 3*(x.n+1) > 2*len(x.slots) {
		old := x.slots
		x.slots = make([]uint32, max(2*len(old), 8))
		for _, p := range old {
			if p != 0 {
				x.put(p, hashOf(p))
			}
		}
	}
	x.put(position, hash)
	x.n++
}

// Remove takes a position away, if it is there.
func (x *Index) Remove(position uint32, hash uint64, hashOf func(position uint32) uint64) {
	if x.n == 0 {
		return
	}
	i := x.slot(hash)
	for x.slots[i] != position {
		if x.slots[i] == 0 {
			return
		}
		i = x.after(i)
	}
	x.n--
	// What follows without a gap moves up, as far as it may: nobody is found
	// behind an empty slot.
	for j := x.after(i); x.slots[j] != 0; j = x.after(j) {
		home := x.slot(hashOf(x.slots[j]))
		if mask := uint64(len(x.slots) - 1); (j-home)&mask >= (j-i)&mask {
			x.slots[i] = x.slots[j]
			i = j
		}
	}
	x.slots[i] = 0
}

func (x *Index) put(position uint32, hash uint64) {
	i := x.slot(hash)
	for x.slots[i] != 0 {
		i = x.after(i)
	}
	x.slots[i] = position
}

// slot is where a hash belongs. The lower bits may have chosen a shard.
func (x *Index) slot(hash uint64) uint64 { return hash >> 16 & uint64(len(x.slots)-1) }

func (x *Index) after(i uint64) uint64 { return (i + 1) & uint64(len(x.slots)-1) }
