package sever

import (
	"math/rand/v2"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// pace is how many connections may be ended, by a bucket that begins with the
// first wave and fills at the rate. After t seconds at one rate no more than
// the first wave and rate × t have been granted.
type pace struct {
	begun  bool
	credit float64
	at     time.Time
}

// longestGap is how much time at most counts at once: who was held up does not
// make up for all of it in one go.
const longestGap = 500 * time.Millisecond

// due is how many may be ended now; take what is used of it.
func (p *pace) due(now time.Time, rate float64, firstWave int) int {
	if !p.begun {
		p.begun, p.credit = true, float64(firstWave)
	} else {
		elapsed := min(max(now.Sub(p.at), 0), longestGap)
		p.credit = min(p.credit+rate*elapsed.Seconds(), max(p.credit, rate*longestGap.Seconds(), 1))
	}
	p.at = now
	return int(p.credit)
}

func (p *pace) take(n int) { p.credit -= float64(n) }

// lease tells whether an order still stands. Only a change of RenewedAt that this
// process has seen counts, and its own clock: an order that was there before it
// says nothing of whether anybody means it now.
type lease struct {
	known bool
	last  *metav1.MicroTime // RenewedAt, as last seen
	at    time.Time         // when it was last seen to change; zero: never
}

// saw takes what the Failover says now; nil: it asks for nothing.
func (l *lease) saw(renewed *metav1.MicroTime, now time.Time) {
	changed := l.known && renewed != nil && (l.last == nil || !l.last.Equal(renewed))
	l.known, l.last = true, renewed
	if changed {
		l.at = now
	}
}

func (l *lease) good(now time.Time) bool {
	return l.last != nil && !l.at.IsZero() && now.Sub(l.at) < v1alpha1.SeverOrderGood
}

// sample keeps some of what it is shown, each with the same chance, in an order
// that is random too: so memory is bounded by the pace, however many there are.
type sample[T any] struct {
	size, seen int
	kept       []T
}

func (s *sample[T]) show(v T) {
	s.seen++
	if len(s.kept) < s.size {
		s.kept = append(s.kept, v)
		i := rand.IntN(len(s.kept))
		last := len(s.kept) - 1
		s.kept[i], s.kept[last] = s.kept[last], s.kept[i]
	} else if i := rand.IntN(s.seen); i < s.size {
		s.kept[i] = v
	}
}
