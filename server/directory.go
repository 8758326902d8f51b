package server

import (
	"cmp"
	"slices"
	"sync"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// maxHints is how many servers a client is told of.
const maxHints = 16

// directory is what a server knows of the others.
type directory struct {
	self string

	mu       sync.Mutex
	servers  map[string]store.Server
	draining map[string]string // to the incarnation that drains
	cached   []wire.ServerHint // nil: to be made
	// byHTTP are where those of cached are reached so that are; nil: to be made.
	byHTTP []wire.ServerHint
}

// update takes what has changed of the servers' records.
func (d *directory) update(u store.Update[string, store.Server]) {
	d.mu.Lock()
	defer d.mu.Unlock()
	apply(&d.servers, u, func(s store.Server) store.Server { return s })
	d.cached, d.byHTTP = nil, nil
}

// direct takes what has changed of the directives.
func (d *directory) direct(u store.Update[string, store.Directive]) {
	d.mu.Lock()
	defer d.mu.Unlock()
	apply(&d.draining, u, func(x store.Directive) string {
		if !x.Drain && !x.Refuse {
			return ""
		}
		return x.Incarnation
	})
	d.cached, d.byHTTP = nil, nil
}

func apply[V, W any](m *map[string]W, u store.Update[string, V], f func(V) W) {
	if u.Reset || *m == nil {
		*m = map[string]W{}
	}
	for k, v := range u.Put {
		(*m)[k] = f(v)
	}
	for _, k := range u.Deleted {
		delete(*m, k)
	}
}

// hints are the other servers that clients may go to, the least loaded first.
// Not to be written to.
func (d *directory) hints() []wire.ServerHint {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cached == nil {
		d.cached = d.list(func(s store.Server) string { return s.Address })
	}
	return d.cached
}

// hintsByHTTP are the same, where clients without MQTT reach them.
func (d *directory) hintsByHTTP() []wire.ServerHint {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byHTTP == nil {
		d.byHTTP = d.list(func(s store.Server) string { return s.Beats })
	}
	return d.byHTTP
}

// list lists the servers that clients may go to and that have an address; d.mu is held.
func (d *directory) list(address func(store.Server) string) []wire.ServerHint {
	l := []wire.ServerHint{}
	for name, s := range d.servers {
		if name == d.self || d.draining[name] == s.Incarnation || s.Leaving || address(s) == "" {
			continue
		}
		load := 100 * s.Total() / max(s.Capacity, 1)
		l = append(l, wire.ServerHint{Address: address(s), Load: min(load, 100)})
	}
	slices.SortFunc(l, func(a, b wire.ServerHint) int {
		return cmp.Or(cmp.Compare(a.Load, b.Load), cmp.Compare(a.Address, b.Address))
	})
	return l[:min(len(l), maxHints)]
}

// incarnation is who is registered under a name.
func (d *directory) incarnation(server string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.servers[server].Incarnation
}
