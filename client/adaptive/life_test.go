package adaptive_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
	"github.com/rollcall-dev/rollcall/client/adaptive/nat"
)

// life is a client told of by hand.
type life struct {
	t        *testing.T
	strategy adaptive.Strategy
	now      time.Time
	state    adaptive.State
	last     adaptive.Decision
}

func begin(t *testing.T, s adaptive.Strategy) *life {
	return &life{t: t, strategy: s, now: nat.Begin}
}

func (l *life) tell(e adaptive.Event) *life {
	l.state, l.last = l.strategy.Next(l.state, e, l.now)
	return l
}

// connect also has the first beat answered, which is sent at once.
func (l *life) connect(network string) *life {
	return l.tell(adaptive.Connected(network, 0)).tell(adaptive.Answered(0))
}

// answer lets n intervals pass, each ended by a beat that is answered.
func (l *life) answer(n int) *life {
	for range n {
		l.now = l.now.Add(l.last.Interval.Duration())
		l.tell(adaptive.Answered(l.last.Interval.Duration()))
	}
	return l
}

// die lets one interval pass, and no beat is ever answered.
func (l *life) die() *life {
	silence := l.last.Interval.Duration()
	l.now = l.now.Add(silence)
	for l.tell(adaptive.Failed(silence)); l.last.Probe; l.tell(adaptive.Failed(silence)) {
		silence = 8 * time.Second
	}
	if !l.last.Leave {
		l.t.Errorf("the connection is not left: %+v", l.last)
	}
	return l
}

func (l *life) pass(d time.Duration) *life {
	l.now = l.now.Add(d)
	return l
}

// next wants that many seconds until the next beat, and a part of one.
func (l *life) next(seconds int) *life {
	l.t.Helper()
	if l.last.Interval/1000 != adaptive.Millis(seconds) {
		l.t.Errorf("next interval %v, want %v\n%+v", l.last.Interval, time.Duration(seconds)*time.Second, l.state)
	}
	return l
}

// settled wants that many seconds and a part of one; 0: that the search goes on.
func (l *life) settled(seconds int) *life {
	l.t.Helper()
	s, ok := l.state.Settled()
	if is, want := fmt.Sprint(s.Truncate(time.Second), ok), fmt.Sprint(time.Duration(seconds)*time.Second, seconds > 0); is != want {
		l.t.Errorf("settled: %v, want %v\n%+v", is, want, l.state)
	}
	return l
}
