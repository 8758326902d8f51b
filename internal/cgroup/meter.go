package cgroup

import (
	"fmt"
	"time"
)

// Kind of a strain.
type Kind string

// The kinds. Where there are several the first of these is said.
const (
	// Throttled: the CPU limit withholds processors.
	Throttled Kind = "throttled"
	// Processors: others have them.
	Processors Kind = "processors"
	// Memory: it waits for memory.
	Memory Kind = "memory"
)

// Kinds are all of them.
var Kinds = []Kind{Throttled, Processors, Memory}

const (
	// strainedFrom and strainedTo are the share of the time that a pod must have been
	// kept from running to be strained, and below which it is so no more. Three quarters
	// of two seconds is more than a burst of one second takes.
	strainedFrom, strainedTo = 0.75, 0.5
	// kept is how many looks are remembered: enough to look back over twice the time
	// that is judged, at nearest times of an eighth of it.
	kept = 20
)

// Strain is what a pod was kept from running by; the zero value: by nothing, or not for long enough.
type Strain struct {
	Kind Kind
	// Share of the time Over, from 0 to 1.
	Share float64
	Over  time.Duration
	// Rising: since the last look, too, it was kept from running for half of the time, or is
	// strained, so that it is worth to look again soon.
	Rising bool
}

// String words it, after "the pod was".
func (s Strain) String() string {
	share := fmt.Sprintf("%d %% of the last %v", int(100*s.Share+0.5), s.Over.Round(100*time.Millisecond))
	switch s.Kind {
	case Throttled:
		return "throttled " + share + ", by its CPU limit"
	case Processors:
		return "kept off the processors by others for " + share
	case Memory:
		return "waiting for memory for " + share
	}
	return "not kept from running"
}

// Counters of one cgroup, all of which only grow; what isn't known stays zero.
type Counters struct {
	// Used and Throttled are processors' time, added up over these.
	Used, Throttled time.Duration
	// Processors and Memory are time in which nothing of it ran for want of these.
	Processors, Memory time.Duration
}

// shares of a time for which a cgroup was kept from running.
type shares [3]float64 // in the order of Kinds

// since are the shares of the time between two looks; false: there was none, or the counters began anew.
func (c Counters) since(before Counters, passed time.Duration) (shares, bool) {
	used, throttled := c.Used-before.Used, c.Throttled-before.Throttled
	processors, memory := c.Processors-before.Processors, c.Memory-before.Memory
	if passed <= 0 || used < 0 || throttled < 0 || processors < 0 || memory < 0 {
		return shares{}, false
	}
	of := func(part, whole time.Duration) float64 {
		if part <= 0 {
			return 0
		}
		return min(1, float64(part)/float64(whole))
	}
	return shares{min(of(throttled, passed), of(throttled, throttled+used)), of(processors, passed), of(memory, passed)}, true
}

// look is one.
type look struct {
	at time.Time
	Counters
}

// Meter remembers what was read of one cgroup; the zero value is of use. It is not safe
// for concurrent use.
type Meter struct {
	looks [kept]look // the oldest first
	n     int
	last  look // the last one, which may be too near to the one before to be kept
}

// See takes a look, and returns what it says of the time over before it. said is what
// the last one said of the pod: it ends by less than it begins.
func (m *Meter) See(now time.Time, c Counters, over time.Duration, said Kind) Strain {
	var s Strain
	step, ok := c.since(m.last.Counters, now.Sub(m.last.at))
	if m.last.at.IsZero() || !ok || now.Sub(m.last.at) > over {
		// Nobody knows what was in between, or the cgroup is another.
		m.n = 0
	} else {
		for _, share := range step {
			s.Rising = s.Rising || share >= strainedTo
		}
		s.judge(m, now, c, over, said)
	}
	m.last = look{now, c}
	m.keep(over)
	return s
}

func (s *Strain) judge(m *Meter, now time.Time, c Counters, over time.Duration, said Kind) {
	base, ok := m.back(now, over)
	if !ok {
		return
	}
	all, ok := c.since(base.Counters, now.Sub(base.at))
	if !ok {
		return
	}
	for i, kind := range Kinds {
		limit := strainedFrom
		if said == kind {
			limit = strainedTo
		}
		if all[i] >= limit {
			s.Kind, s.Share, s.Over, s.Rising = kind, all[i], now.Sub(base.at), true
			return
		}
	}
}

// back is the look that is nearest to so long ago; false: there is none that is near.
func (m *Meter) back(now time.Time, over time.Duration) (look, bool) {
	var best look
	far := over + 1
	for _, l := range m.looks[:m.n] {
		ago := now.Sub(l.at)
		apart := max(ago-over, over-ago)
		if ago >= over*3/4 && apart < far {
			best, far = l, apart
		}
	}
	return best, !best.at.IsZero()
}

// keep remembers the last look, unless the one before it is near.
func (m *Meter) keep(over time.Duration) {
	if m.n > 0 && m.last.at.Sub(m.looks[m.n-1].at) < over/8 {
		return
	}
	if m.n == kept {
		copy(m.looks[:], m.looks[1:])
		m.n--
	}
	m.looks[m.n] = m.last
	m.n++
}
