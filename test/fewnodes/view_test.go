package fewnodes

import (
	"context"
	"maps"
	"sync"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// view is what etcd holds of who observes whom, and of what they say.
type view struct {
	mu          sync.Mutex
	assignments map[string]store.Assignment
	said        map[string]map[string]store.Observation // by server, observer
}

func watch(ctx context.Context, s *store.Store) *view {
	v := &view{assignments: map[string]store.Assignment{}, said: map[string]map[string]store.Observation{}}
	go func() {
		for u := range s.WatchAssignments(ctx) {
			v.mu.Lock()
			if u.Reset {
				clear(v.assignments)
			}
			maps.Copy(v.assignments, u.Put)
			for _, server := range u.Deleted {
				delete(v.assignments, server)
			}
			v.mu.Unlock()
		}
	}()
	go func() {
		for u := range s.WatchObservations(ctx) {
			v.mu.Lock()
			if u.Reset {
				clear(v.said)
			}
			for k, o := range u.Put {
				if v.said[k.Server] == nil {
					v.said[k.Server] = map[string]store.Observation{}
				}
				v.said[k.Server][k.Observer] = o
			}
			for _, k := range u.Deleted {
				delete(v.said[k.Server], k.Observer)
			}
			v.mu.Unlock()
		}
	}()
	return v
}

// observed tells whether something is so of every server.
func (v *view) observed(so func(store.Assignment, map[string]store.Observation) bool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for server, a := range v.assignments {
		if !so(a, v.said[server]) {
			return false
		}
	}
	return len(v.assignments) == servers
}
