package index

import (
	"testing"

	"pgregory.net/rapid"
)

// TestIndexIsAMap compares an Index with a map, where hashes collide often.
func TestIndexIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x Index
		hashes := map[uint32]uint64{} // of what is there
		hashOf := func(p uint32) uint64 { return hashes[p] }
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			p := rapid.Uint32Range(1, 60).Draw(t, "position")
			hash := uint64(p%uint32(rapid.IntRange(1, 40).Draw(t, "hashes"))) << 16
			known, there := hashes[p]
			switch {
			case !there:
				hashes[p] = hash
				x.Put(p, hash, hashOf)
			case rapid.Bool().Draw(t, "remove"):
				x.Remove(p, known, hashOf)
				delete(hashes, p)
			}
			if x.Len() != len(hashes) {
				t.Fatalf("Len is %d, want %d", x.Len(), len(hashes))
			}
			for p := range uint32(61) {
				hash, there := hashes[p]
				got := x.Find(hash, func(q uint32) bool { return q == p })
				if (got == p) != (there && p != 0) && p != 0 {
					t.Fatalf("Find(%d) is %d, there: %v", p, got, there)
				}
			}
		}
	})
}
