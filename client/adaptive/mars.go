package adaptive

import (
	"fmt"
	"time"
)

// Mars is the smart heartbeat of Tencent's Mars (github.com/Tencent/mars,
// mars/stn/src/smart_heartbeat.cc and longlink.cc), from its behaviour: a level
// is raised by a step after some successes, and lowered and settled after some
// failures.
//
// Two traits of the source are kept. The interval after a beat is chosen when
// that beat is sent, not when it is answered, so that an answer counts for the
// interval that has just begun; that is why the first answer at a level is not
// counted. And a beat without an answer closes the connection: there is no
// second try.
//
// Not kept: what the source does on phones that align alarms to five minutes,
// and its room for a 21st network.
type Mars struct {
	min, max, step, margin, again Millis
	successes, failures, restart  int
	warmup                        int
}

// NewMars makes one, or returns every fault of the settings in one error.
func NewMars(c MarsSettings) (Mars, error) {
	c = c.settle()
	if err := c.validate(); err != nil {
		return Mars{}, fmt.Errorf("settings of mars: %w", err)
	}
	return Mars{
		min: millis(c.Min), max: millis(c.Max), step: millis(c.Step), margin: millis(c.Margin), again: millis(c.Again),
		successes: c.Successes, failures: c.Failures, restart: c.Restart, warmup: c.Warmup,
	}, nil
}

// Name is "mars".
func (m Mars) Name() string { return "mars" }

// Next is Strategy's.
func (m Mars) Next(s State, e Event, now time.Time) (State, Decision) {
	e = e.sane()
	s = s.of(m.Name(), m.min)
	leave := false
	switch e.Kind {
	case KindConnected:
		s.Limit = e.Limit
		s.enter(e.Network, Network{Interval: m.min, Changed: now.UnixMilli()}, now)
		s.Answers = 0
		s.Interval = m.least(s)
		s.Previous = s.Interval
	case KindAnswered:
		m.choose(&s)
		m.answered(&s, now)
		s.Previous = s.Interval
	case KindFailed, KindLost:
		if e.Kind == KindFailed || e.Silence > 0 {
			m.choose(&s)
			m.failed(&s, now)
		}
		if n := s.network(); n != nil {
			n.Successes = 0
		}
		leave = true
	case KindForeground, KindBackground:
		s.Foreground = e.Kind == KindForeground
		if s.Foreground {
			s.Interval = m.least(s)
		}
	case KindNetworkChanged:
		leave = true
	}
	s.Interval = min(max(s.Interval, m.least(s)), m.most(s))
	return s, Decision{Interval: s.Interval, Leave: leave}
}

// least and most bound the interval: the server's limit wins.
func (m Mars) least(s State) Millis { return limited(m.min, s.Limit) }
func (m Mars) most(s State) Millis  { return limited(m.max-m.margin, s.Limit) }

// limited is d, or the server's limit when that is less.
func limited(d, limit Millis) Millis {
	if limit > 0 {
		return min(d, limit)
	}
	return d
}

// choose decides on the interval that begins with the beat whose outcome is
// looked at next.
func (m Mars) choose(s *State) {
	n := s.network()
	if s.Foreground || n == nil || s.Answers < m.warmup {
		s.Interval = m.least(*s)
		return
	}
	n.Interval = min(max(n.Interval, m.least(*s)), m.most(*s))
	s.Interval = n.Interval
}

func (m Mars) answered(s *State, now time.Time) {
	up(&s.Answers)
	n := s.network()
	if n == nil || s.Answers <= m.warmup || s.Interval != n.Interval {
		return
	}
	if s.Interval == s.Previous {
		up(&n.Successes)
		n.Failures = 0
	}
	top := n.Interval >= m.most(*s)
	if n.Stable {
		if !top && now.UnixMilli()-n.Changed >= int64(m.again) {
			n.Interval = min(n.Interval+m.margin, m.most(*s))
			n.Stable, n.Successes, n.Failures = false, 0, 0
			n.Changed = now.UnixMilli()
		}
		return
	}
	if n.Successes >= m.successes {
		n.Successes = 0
		if top {
			n.Stable = true
		} else {
			n.Interval = min(n.Interval+m.step, m.most(*s))
		}
	}
	n.Changed = now.UnixMilli()
}

func (m Mars) failed(s *State, now time.Time) {
	n := s.network()
	// At Min there is nothing lower to go to.
	if n == nil || s.Answers <= m.warmup || s.Interval != n.Interval || s.Interval == m.least(*s) {
		return
	}
	up(&n.Failures)
	n.Changed = now.UnixMilli()
	switch {
	case n.Stable && n.Failures >= m.restart:
		n.Interval, n.Stable, n.Failures = m.least(*s), false, 0
	case !n.Stable && n.Failures >= m.failures:
		n.Interval = max(n.Interval-m.step-m.margin, m.least(*s))
		n.Stable, n.Failures = true, 0
	}
}
