package sampler

import (
	"time"

	"github.com/rollcall-dev/rollcall/internal/cgroup"
)

// leastWindow is the shortest window that what keeps a pod from running is judged by:
// bursts and pauses of a second are ordinary.
const leastWindow = time.Second

// cgroups of one pod.
type cgroups interface {
	Look(now time.Time, over time.Duration) (cgroup.Strain, error)
	Close()
}

// strained is what is known of what keeps a server from running.
type strained struct {
	pod    cgroups   // nil: not open
	openAt time.Time // when to try again
	failed bool      // and that was said
	now    cgroup.Strain
}

// strain looks at the cgroups, and returns when to look again; never: there are none
// to be read now.
func (w *watch) strain(now time.Time) time.Duration {
	s := &w.strained
	if w.open == nil {
		return never
	}
	if s.pod == nil && !now.Before(s.openAt) {
		s.openAt = now.Add(enterAgain)
		pod, err := w.open(w.target)
		if err == nil {
			s.pod, s.failed = pod, false
		} else if !s.failed {
			s.failed = true
			w.log.Info("What keeps a server from running can't be seen", "server", w.target.Server, "err", err)
		}
	}
	if s.pod == nil {
		return never
	}
	var err error
	if s.now, err = s.pod.Look(now, max(w.target.Window, leastWindow)+leastWindow); err != nil {
		w.log.Debug("The cgroups of a server are gone", "server", w.target.Server, "err", err)
		s.leave()
		return never
	}
	if s.now.Rising {
		return uneasy
	}
	return calm
}

// leave closes the cgroups.
func (s *strained) leave() {
	if s.pod != nil {
		s.pod.Close()
	}
	s.pod, s.now = nil, cgroup.Strain{}
}
