package adaptive_test

import (
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
)

func TestBisect(t *testing.T) {
	const week = 7 * 24 * time.Hour
	for _, test := range []struct {
		name string
		live func(*life)
	}{
		{"it doubles until a connection is lost, then climbs by thirds", func(l *life) {
			l.connect("home").next(40).answer(1).next(80).answer(1).next(160)
			l.die().connect("home").next(106).answer(1).next(133).die().settled(0)
			// 106 s were answered, and a tenth of that, at most 10 s, is the margin.
			l.connect("home").next(96).answer(1).settled(96)
		}},
		{"a network without a limit gets Max", func(l *life) {
			l.connect("home").answer(6).next(600).answer(1).settled(600)
		}},
		{"one beat without an answer means nothing", func(l *life) {
			l.connect("home").tell(adaptive.Failed(40 * time.Second))
			if !l.last.Probe || l.last.Leave {
				l.t.Errorf("%+v", l.last)
			}
			// The NAT had survived the 40 s, so the test has succeeded.
			l.tell(adaptive.Answered(8 * time.Second)).next(80)
		}},
		{"a reset in answer to a beat needs no second try", func(l *life) {
			l.connect("home").answer(1).next(80).tell(adaptive.Lost(80 * time.Second))
			if !l.last.Leave || l.last.Interval >= 80000 {
				l.t.Errorf("%+v", l.last)
			}
		}},
		{"a connection that ends by itself teaches nothing", func(l *life) {
			l.connect("home").answer(1).next(80).tell(adaptive.Lost(0)).connect("home").next(80)
		}},
		{"a settled interval that loses one connection is kept", func(l *life) {
			l.connect("home").answer(7).settled(600).die().settled(600).connect("home").next(600)
		}},
		{"one that loses two is dropped at once, for a search below it", func(l *life) {
			l.connect("home").answer(7).settled(600).die().connect("home").die().settled(0)
			l.connect("home").next(40)
		}},
		{"twenty answers forgive a lost connection", func(l *life) {
			l.connect("home").answer(7).die().connect("home").answer(20).die().settled(600)
		}},
		{"after a week one connection is risked to know the limit better", func(l *life) {
			l.connect("home").answer(2).die().connect("home").answer(1).die().connect("home").answer(1).settled(96)
			l.answer(3).next(96).pass(week).answer(1).settled(0).next(116).die()
			l.connect("home").next(96).answer(1).settled(96)
		}},
		{"a limit known well enough is tried again, after longer each time it holds", func(l *life) {
			l.connect("home").answer(2).die().connect("home").answer(1).die().connect("home").answer(1)
			l.pass(week).answer(1).die().connect("home").answer(1).settled(96) // 106 to 116
			l.pass(week).answer(1).settled(0).next(116).die().connect("home").answer(1).settled(96)
			l.pass(week).answer(1).settled(96)
			l.pass(week).answer(1).settled(0).next(116)
			// The network has got better: the search is as in a new one.
			l.answer(1).next(233)
		}},
		{"a late beat that is answered proves as much as a test", func(l *life) {
			l.connect("home").tell(adaptive.Answered(200 * time.Second)).next(400)
		}},
		{"a late beat on a settled interval accuses nothing", func(l *life) {
			l.connect("home").answer(2).die().connect("home").answer(1).die().connect("home").answer(1).settled(96)
			for range 5 {
				l.tell(adaptive.Lost(130 * time.Second)).connect("home").settled(96)
			}
		}},
		{"other packets between two beats prove nothing", func(l *life) {
			l.connect("home").answer(1).next(80)
			for range 10 {
				l.tell(adaptive.Answered(30 * time.Second)).next(80)
			}
		}},
		{"foreground is always at Min, and teaches nothing", func(l *life) {
			l.connect("home").answer(1).tell(adaptive.Foreground()).next(20).answer(50).die()
			l.connect("home").next(20).tell(adaptive.Background()).next(80)
		}},
		{"each network has a state of its own", func(l *life) {
			l.connect("home").answer(7).tell(adaptive.NetworkChanged()).connect("train").next(40).settled(0)
			l.tell(adaptive.NetworkChanged()).connect("home").next(600)
		}},
		{"an unknown network is always at Min", func(l *life) {
			l.connect("").answer(20).next(20).die().settled(0)
		}},
		{"the server's limit wins, over Min too", func(l *life) {
			l.tell(adaptive.Connected("home", 100*time.Second)).tell(adaptive.Answered(0)).answer(20).next(100).settled(100)
			l.tell(adaptive.Connected("home", 10*time.Second)).next(10).answer(20).next(10)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Whole figures: 20 s, doubled, up to 10 min.
			test.live(begin(t, newBisect(t, adaptive.BisectSettings{Min: 20 * time.Second, Max: 600 * time.Second})))
		})
	}
}
