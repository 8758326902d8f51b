package server

import "sync"

// maxShared bounds what is kept of Presences that have changed since.
const maxShared = 1024

// shared holds one copy of each Presence that clients were let in with: there
// are few, and many clients.
type shared struct {
	mu  sync.Mutex
	all map[Presence]*Presence
}

func (s *shared) of(p Presence) *Presence {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[p] == nil {
		if len(s.all) >= maxShared { // Presences have changed often: old copies go with their clients
			s.all = nil
		}
		if s.all == nil {
			s.all = map[Presence]*Presence{}
		}
		s.all[p] = &p
	}
	return s.all[p]
}
