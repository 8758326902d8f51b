package adaptive_test

import (
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
)

// The figures follow from Mars's smart_heartbeat.cc, read by hand.
func TestMars(t *testing.T) {
	const week = 7 * 24 * time.Hour
	for _, test := range []struct {
		name string
		live func(*life)
	}{
		{"three beats at Min begin each connection", func(l *life) {
			l.connect("home").next(210).answer(2).next(210)
			// The interval after the 4th beat is the first one that counts.
			l.answer(1).next(210)
		}},
		{"five successes raise the level, from the second one at it", func(l *life) {
			l.connect("home").answer(2)
			// Beats 4 to 8 count for 210 s; the 9th ends the interval that had begun.
			l.answer(5).next(210).answer(1).next(270)
			l.answer(5).next(270).answer(1).next(330)
		}},
		{"the highest level is a margin below Max, and stable", func(l *life) {
			l.connect("home").answer(100).next(580).settled(580)
		}},
		{"two failures lower the level by a step and a margin, and settle it", func(l *life) {
			l.connect("home").answer(2 + 6*2 + 1).next(330).settled(0)
			l.die().settled(0).connect("home").next(210).answer(2).next(210)
			l.answer(1).next(330).die().settled(250)
			l.connect("home").answer(3).next(250)
		}},
		{"a success between two failures forgives the first", func(l *life) {
			l.connect("home").answer(2 + 6*2 + 1).next(330).die()
			l.connect("home").answer(4).next(330).answer(1).die().settled(0)
		}},
		{"it never goes below Min", func(l *life) {
			l.connect("home").answer(2 + 6).next(270).die()
			l.connect("home").answer(3).next(270).die().settled(210)
		}},
		{"failures at Min change nothing", func(l *life) {
			l.connect("home").answer(4).next(210)
			for range 10 {
				l.die().connect("home").answer(4).next(210).settled(0)
			}
		}},
		{"a stable interval that fails twice begins anew from Min", func(l *life) {
			l.connect("home").answer(100).settled(580).die().settled(580)
			l.connect("home").answer(3).next(580).die().settled(0)
			l.connect("home").answer(3).next(210)
		}},
		{"seven days after it settled a longer one is tried", func(l *life) {
			l.connect("home").answer(2 + 6*2 + 1).die().connect("home").answer(3).die().settled(250)
			l.connect("home").answer(10).next(250)
			l.pass(week).answer(1).next(250).settled(0).answer(1).next(270)
		}},
		{"foreground is always at Min, and background goes on where it was", func(l *life) {
			l.connect("home").answer(100).next(580).tell(adaptive.Foreground()).next(210).answer(20).next(210)
			l.tell(adaptive.Background()).answer(1).next(580).settled(580)
		}},
		{"each network has a state of its own", func(l *life) {
			l.connect("home").answer(100).tell(adaptive.NetworkChanged())
			if !l.last.Leave {
				l.t.Error("the old connection is kept")
			}
			l.connect("train").answer(3).next(210).settled(0)
			l.tell(adaptive.NetworkChanged()).connect("home").settled(580).answer(3).next(580)
		}},
		{"an unknown network is always at Min", func(l *life) {
			l.connect("").answer(100).next(210).settled(0)
		}},
		{"the server's limit wins, over Min too", func(l *life) {
			l.tell(adaptive.Connected("home", 300*time.Second)).tell(adaptive.Answered(0)).answer(100).next(300)
			l.tell(adaptive.Connected("home", 100*time.Second)).next(100).answer(100).next(100)
			l.tell(adaptive.Connected("home", 0)).next(210)
		}},
		{"a beat without an answer closes the connection at once", func(l *life) {
			l.connect("home").tell(adaptive.Failed(210 * time.Second))
			if !l.last.Leave || l.last.Probe {
				l.t.Errorf("%+v", l.last)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) { test.live(begin(t, newMars(t, adaptive.MarsSettings{}))) })
	}
}

func TestMarsWithWeChatsFigures(t *testing.T) {
	l := begin(t, newMars(t, adaptive.WeChat()))
	l.connect("home").answer(2 + 6*2 + 1).next(330)
	for range 4 {
		l.die().settled(0).connect("home").answer(3).next(330)
	}
	l.die().settled(260)
}
