package verdict

import (
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// voice is one observer or reporter whose word counts, and since when it says so.
type voice struct {
	Observer
	seen   time.Time
	answer time.Duration // the median that an observer was answered in, as it told last; zero: none
}

// votes are the words that count, by what they say. Votes are counted over the
// observers assigned: whoever is lost or discounted weakens the case, and never
// decides it.
type votes struct {
	assigned int
	// zoned: the assigned are of more than one zone, so that zones are the
	// failure domains. Else (a small cluster, or no zones) machines are.
	zoned bool

	ok, slow, hung, refused, unreachable []voice
	lossy, mute                          int // mute: assigned, and says nothing that counts
	unasked                              int
	want                                 string // what the first of the unasked lacks, in words

	queueDelay time.Duration // the greatest that the server told anyone who counts

	grown time.Time // when the first of those that are too young will count; zero: there is none
}

// count fills v from the evidence as of now; v's slices are used again.
func (v *votes) count(now time.Time, e *ServerEvidence) {
	*v = votes{
		assigned: len(e.Assigned), zoned: zoned(e.Assigned), queueDelay: e.QueueDelay,
		ok: v.ok[:0], slow: v.slow[:0], hung: v.hung[:0], refused: v.refused[:0], unreachable: v.unreachable[:0],
	}
	for _, who := range e.Assigned {
		o := wordOf(who.Name, e)
		if o != nil && young(now, o.Booted) {
			v.grown = earliest(v.grown, o.Booted.Add(AuthorWindow))
			o = nil
		}
		if o != nil && early(now, o, e) {
			v.grown = earliest(v.grown, e.Registered.Add(AuthorWindow))
			o = nil
		}
		if o == nil {
			v.mute++
			continue
		}
		v.queueDelay = max(v.queueDelay, o.QueueDelay)
		said := voice{who, o.Seen, o.Answer}
		switch wire.Band(o.Band) {
		case wire.BandOK:
			v.ok = append(v.ok, said)
		case wire.BandSlow:
			v.slow = append(v.slow, said)
		case wire.BandHung:
			v.hung = append(v.hung, said)
		case wire.BandRefused:
			v.refused = append(v.refused, said)
		case wire.BandUnreachable:
			v.unreachable = append(v.unreachable, said)
		case wire.BandLossy:
			v.lossy++
		case wire.BandUnasked:
			if v.unasked++; v.unasked == 1 {
				v.want = o.Detail
			}
		default: // a newer agent's band: not understood, so not counted
			v.mute++
		}
	}
}

// wordOf is the word of one assigned observer, if it counts: its author is
// online and well, and it speaks of this incarnation.
func wordOf(name string, e *ServerEvidence) *Observation {
	for i := range e.Observations {
		o := &e.Observations[i]
		if o.Observer.Name != name {
			continue
		}
		if !o.Online || !o.Healthy {
			return nil
		}
		if o.Incarnation != "" && e.Incarnation != "" && o.Incarnation != e.Incarnation {
			return nil
		}
		return o
	}
	return nil
}

// early tells whether a word may be about what was there before this incarnation:
// a new pod refuses connections until it listens.
func early(now time.Time, o *Observation, e *ServerEvidence) bool {
	return o.Incarnation == "" && o.Seen.Before(e.Registered) && now.Before(e.Registered.Add(AuthorWindow))
}

// young tells whether an author has been heard of for too short a time.
func young(now, booted time.Time) bool {
	return !booted.IsZero() && now.Before(booted.Add(AuthorWindow))
}

func zoned(all []Observer) bool {
	for _, o := range all {
		if o.Zone != all[0].Zone {
			return true
		}
	}
	return false
}

// quorum is a majority of the assigned.
func (v *votes) quorum() int { return v.assigned/2 + 1 }

// late counts those that wait, or waited too long, for the answer of a server
// whose kernel acknowledges: it is TCP-alive.
func (v *votes) late() int { return len(v.slow) + len(v.hung) }

func (v *votes) against() int { return v.late() + len(v.refused) + len(v.unreachable) }

// prompt counts those who are answered in half the time that is allowed, or have not
// said otherwise: they tell when it takes longer.
func (v *votes) prompt(limit time.Duration) int {
	n := 0
	for i := range v.ok {
		if v.ok[i].answer < limit/2 {
			n++
		}
	}
	return n
}

// counted is how many words count; those that abstain do not.
func (v *votes) counted() int { return len(v.ok) + v.against() }

// independent tells whether the voices come from at least two failure domains.
func independent(zoned bool, groups ...[]voice) bool {
	var first *voice
	for _, g := range groups {
		for i := range g {
			switch {
			case first == nil:
				first = &g[i]
			case zoned && g[i].Zone != first.Zone, !zoned && g[i].machine() != first.machine():
				return true
			}
		}
	}
	return false
}

// firstSeen is the earliest of all words; zero: there is none.
func firstSeen(groups ...[]voice) time.Time {
	var t time.Time
	for _, g := range groups {
		for i := range g {
			t = earliest(t, g[i].seen)
		}
	}
	return t
}

func names(groups ...[]voice) []string {
	var l []string
	for _, g := range groups {
		for _, o := range g {
			l = append(l, o.Name)
		}
	}
	return l
}

// share words "2 of 3 observers (node-4 in zone-1, controller on node-5)" and the
// verb in its number.
func share(g []voice, of int, who, one, many string) string {
	var b strings.Builder
	b.WriteString(strconv.Itoa(len(g)))
	b.WriteString(" of ")
	b.WriteString(strconv.Itoa(of))
	b.WriteByte(' ')
	b.WriteString(who)
	for i, o := range g {
		if i == 0 {
			b.WriteString(" (")
		} else {
			b.WriteString(", ")
		}
		b.WriteString(o.Name)
		if o.Zone != "" {
			b.WriteString(" in ")
			b.WriteString(o.Zone)
		}
		if !o.Agent() {
			b.WriteString(" on ")
			b.WriteString(o.Node)
		}
	}
	b.WriteString(") ")
	if len(g) == 1 {
		b.WriteString(one)
	} else {
		b.WriteString(many)
	}
	return b.String()
}

// complaint words everything that is said against the server.
func (v *votes) complaint(limit time.Duration) string {
	var l []string
	add := func(g []voice, one, many string) {
		if len(g) > 0 {
			l = append(l, share(g, v.assigned, "observers", one, many))
		}
	}
	const hung = " for an answer that the kernel has acknowledged"
	add(v.hung, "waits "+HungAfter.String()+hung, "wait "+HungAfter.String()+hung)
	add(v.slow, "gets its answers later than "+limit.String(), "get their answers later than "+limit.String())
	add(v.refused, "is refused a connection", "are refused a connection")
	add(v.unreachable, "gets nothing back, not even from the kernel", "get nothing back, not even from the kernel")
	return strings.Join(l, "; ")
}
