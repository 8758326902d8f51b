package adaptive

import (
	"fmt"
	"time"
)

// Bisect looks for the longest silence that the network's NAT survives, between
// Low, the longest that was answered, and High, the shortest that cost a
// connection:
//
//   - While it doesn't know better, it doubles Low. Then it halves what lies
//     between, as long as the search may lose more than one connection, and
//     climbs in small steps when it may lose only one. So a search in a network
//     that stays as it is never loses more than Losses.
//   - One missing answer means nothing: Verify more beats tell a lost packet
//     from a lost connection, on the same connection. An answer to one of them
//     proves that the NAT had survived the silence, so a lost packet costs one
//     beat, and not a test.
//   - What was found is used with a margin, and called stable once confirmed.
//   - A settled interval that loses connections repeatedly is too long by now:
//     the search begins anew below it.
//   - Every week one connection is risked: to know the limit more closely, or,
//     when it is known well enough, to see whether High still holds.
type Bisect struct {
	min, max, margin, precision, step, again           Millis
	losses, verify, repeats, forgive, confirm, patient int
}

// NewBisect makes one, or returns every fault of the settings in one error.
func NewBisect(c BisectSettings) (Bisect, error) {
	c = c.settle()
	if err := c.validate(); err != nil {
		return Bisect{}, fmt.Errorf("settings of bisect: %w", err)
	}
	return Bisect{
		min: millis(c.Min), max: millis(c.Max), margin: millis(c.Margin), precision: millis(c.Precision),
		step: millis(c.Step), again: millis(c.Again),
		losses: c.Losses, verify: c.Verify, repeats: c.Repeats, forgive: c.Forgive, confirm: c.Confirm,
		patient: 2, // 1, 2, 4 weeks
	}, nil
}

// Name is "bisect".
func (b Bisect) Name() string { return "bisect" }

// Next is Strategy's.
func (b Bisect) Next(s State, e Event, now time.Time) (State, Decision) {
	e = e.sane()
	s = s.of(b.Name(), b.min)
	var d Decision
	switch e.Kind {
	case KindConnected:
		s.Limit = e.Limit
		s.Unanswered, s.Silence = 0, 0
		s.enter(e.Network, Network{Budget: b.losses, Changed: now.UnixMilli()}, now)
	case KindAnswered:
		silence := e.Silence
		if s.Unanswered > 0 {
			silence = s.Silence
		}
		s.Unanswered, s.Silence = 0, 0
		b.survived(&s, silence, now)
	case KindFailed:
		if s.Unanswered == 0 {
			s.Silence = e.Silence
		}
		up(&s.Unanswered)
		if s.Unanswered <= b.verify {
			d.Probe = true
			break
		}
		b.died(&s, s.Silence, now)
		d.Leave = true
	case KindLost:
		if s.Unanswered > 0 {
			e.Silence = s.Silence
		}
		if e.Silence > 0 {
			b.died(&s, e.Silence, now)
		}
		d.Leave = true
	case KindForeground, KindBackground:
		s.Foreground = e.Kind == KindForeground
	case KindNetworkChanged:
		d.Leave = true
	}
	if d.Leave {
		s.Unanswered, s.Silence = 0, 0
	}
	s.Interval = b.interval(&s)
	d.Interval = s.Interval
	return s, d
}

// least and most bound the interval: the server's limit wins.
func (b Bisect) least(s *State) Millis { return limited(b.min, s.Limit) }
func (b Bisect) most(s *State) Millis  { return limited(b.max, s.Limit) }

func (b Bisect) marginAt(silence Millis) Millis { return min(b.margin, silence/10) }

// resolution is how near to each other Low and High are near enough.
func (b Bisect) resolution(low Millis) Millis { return max(min(b.precision, low/10), 1000) }

func (b Bisect) interval(s *State) Millis {
	n := s.network()
	if n == nil || s.Foreground {
		return b.least(s)
	}
	n.Interval = b.settled(s, n)
	if test, ok := b.test(s, n); ok {
		return test
	}
	return n.Interval
}

// settled is the interval to use when nothing is tested.
func (b Bisect) settled(s *State, n *Network) Millis {
	low, most := max(n.Low, b.least(s)), b.most(s)
	if low >= most && (n.High == 0 || n.High-b.marginAt(n.High) >= most) {
		return most
	}
	return min(max(low-b.marginAt(low), b.least(s)), most)
}

// test is the silence to try next; not ok: the search has come to its end.
// It also chooses the step of the climb, once for each.
func (b Bisect) test(s *State, n *Network) (Millis, bool) {
	if n.Stable {
		return 0, false
	}
	low, most := max(n.Low, b.least(s)), b.most(s)
	gap := n.High - low
	var t Millis
	switch {
	case low >= most:
		return 0, false
	case n.High == 0:
		t = 2 * low
	case n.Budget == 0:
		return 0, false
	case n.Retest:
		t = max(n.High, low+1000)
	case gap <= max(b.resolution(low), n.Step):
		return 0, false
	case 3*low < n.High:
		t = 2 * low
	case n.Budget > 1:
		t = low + gap/2
	default:
		n.Step = b.stepUp(low, gap, n.Step)
		t = min(low+n.Step, n.High-1000)
	}
	return min(t, most), true
}

// stepUp is the step to climb a gap with, chosen before or now: a third of it.
func (b Bisect) stepUp(low, gap, chosen Millis) Millis {
	if chosen > 0 {
		return chosen
	}
	return max(min(gap/3, b.step), b.resolution(low))
}

// survived takes proof that the NAT has survived a silence.
func (b Bisect) survived(s *State, silence Millis, now time.Time) {
	n := s.network()
	if n == nil {
		return
	}
	if n.High > 0 && silence >= n.High {
		// The limit has moved up: search as in a new network.
		n.High, n.Retest, n.Backoff = 0, false, 0
		n.Stable, n.Budget, n.Step, n.Changed = false, b.losses, 0, now.UnixMilli()
	}
	if silence > max(n.Low, b.min) {
		n.Low = min(silence, b.max)
	}
	if _, testing := b.test(s, n); testing {
		return
	}
	settled := b.settled(s, n)
	if silence < settled-1000 {
		return // other packets were sent in between
	}
	up(&n.Successes)
	switch {
	case !n.Stable && n.Successes >= b.confirm:
		n.Stable, n.Successes, n.Step, n.Changed = true, 0, 0, now.UnixMilli()
	case n.Successes >= b.forgive && n.Failures > 0:
		n.Successes = 0
		n.Failures--
	}
	if n.Stable && n.High > 0 && now.UnixMilli()-n.Changed >= int64(b.again)<<min(n.Backoff, b.patient) {
		n.Stable, n.Budget, n.Successes, n.Changed = false, 1, 0, now.UnixMilli()
		low := max(n.Low, b.least(s))
		n.Retest = n.High-low <= b.resolution(low)
	}
}

// died takes proof that a connection has not survived a silence.
func (b Bisect) died(s *State, silence Millis, now time.Time) {
	n := s.network()
	if n == nil || s.Interval <= b.least(s) {
		return // at Min there is nothing lower to go to
	}
	n.Successes = 0
	_, testing := b.test(s, n)
	settled := b.settled(s, n)
	switch {
	case testing && silence > n.Low:
		n.High = lower(n.High, silence)
		n.Budget = max(n.Budget-1, 0)
		if n.Retest {
			n.Retest = false
			n.Backoff = min(n.Backoff+1, b.patient)
		}
		n.Changed = now.UnixMilli()
	case silence > max(n.Low, settled+b.marginAt(settled)):
		// The beat was late: this tells of the limit, and nothing of the interval.
		n.High = lower(n.High, silence)
	default:
		up(&n.Failures)
		if n.Failures < b.repeats {
			return
		}
		n.Low, n.High, n.Step, n.Failures = 0, max(silence, b.least(s)), 0, 0
		n.Stable, n.Retest, n.Backoff, n.Budget = false, false, 0, b.losses
		n.Changed = now.UnixMilli()
	}
}

// lower is the lesser of a silence and one known before, zero being none.
func lower(known, silence Millis) Millis {
	if known == 0 {
		return silence
	}
	return min(known, silence)
}
