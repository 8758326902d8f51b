package store

import (
	"maps"
	"slices"
)

// Update is what has changed. The first one of a watch, and each after a gap,
// has Reset set: then Put is all there is, and what it does not hold is gone.
type Update[K comparable, V any] struct {
	Reset bool
	// Revision up to which the watch has seen everything.
	Revision int64
	Put      map[K]V
	Deleted  []K
}

// updates merges updates. It never holds more than there are, or were, keys.
type updates[K comparable, V any] struct {
	reset    bool
	revision int64
	put      map[K]V
	deleted  map[K]struct{}
}

func (g *updates[K, V]) add(u Update[K, V]) {
	if u.Reset {
		*g = updates[K, V]{reset: true}
	}
	g.revision = u.Revision
	for k, v := range u.Put {
		g.set(k, v)
	}
	for _, k := range u.Deleted {
		g.remove(k)
	}
}

func (g *updates[K, V]) set(k K, v V) {
	if g.put == nil {
		g.put = make(map[K]V)
	}
	g.put[k] = v
	delete(g.deleted, k)
}

func (g *updates[K, V]) remove(k K) {
	delete(g.put, k)
	if g.reset {
		return // what is not in Put is gone anyhow
	}
	if g.deleted == nil {
		g.deleted = make(map[K]struct{})
	}
	g.deleted[k] = struct{}{}
}

func (g *updates[K, V]) take() Update[K, V] {
	u := Update[K, V]{Reset: g.reset, Revision: g.revision, Put: g.put, Deleted: slices.Collect(maps.Keys(g.deleted))}
	*g = updates[K, V]{}
	return u
}
