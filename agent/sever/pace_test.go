package sever

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

var start = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// However unevenly it is asked, and however much is taken, no more is granted
// than the first wave and what the rate gives in the time since.
func TestThePaceIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate, wave := rapid.Float64Range(1, 5000).Draw(t, "rate"), rapid.IntRange(0, 1000).Draw(t, "firstWave")
		var p pace
		now, taken := start, 0
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			due := p.due(now, rate, wave)
			n := min(due, rapid.IntRange(0, 2000).Draw(t, "there are"))
			p.take(n)
			taken += n
			if most := float64(wave) + rate*now.Sub(start).Seconds(); float64(taken) > most+1e-6 {
				t.Fatalf("%d are granted after %v, and at most %.1f may be", taken, now.Sub(start), most)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "wait")) * time.Millisecond)
		}
	})
}

func TestWhoAsksOftenGetsAllThatThePaceGives(t *testing.T) {
	var p pace
	taken, now := 0, start
	for ; now.Sub(start) <= 10*time.Second; now = now.Add(70 * time.Millisecond) {
		n := p.due(now, 33, 10)
		p.take(n)
		taken += n
	}
	if taken < 10+33*9 || taken > 10+33*10 {
		t.Errorf("after 10 s %d are granted, of a first wave of 10 and 33 a second", taken)
	}
}

func TestWhoWasHeldUpDoesNotMakeUpForIt(t *testing.T) {
	var p pace
	p.take(p.due(start, 100, 10))
	if n := p.due(start.Add(time.Hour), 100, 10); n > 50 {
		t.Errorf("after an hour %d are granted at once", n)
	}
}

func TestOnlyAnOrderThatIsSeenToBeRenewedStands(t *testing.T) {
	at := func(s int) *metav1.MicroTime {
		m := metav1.NewMicroTime(start.Add(time.Duration(s) * time.Second))
		return &m
	}
	good := v1alpha1.SeverOrderGood
	for _, c := range []struct {
		name string
		saw  []*metav1.MicroTime // a second apart
		wait time.Duration       // after the last
		want bool
	}{
		{"one that appears", []*metav1.MicroTime{nil, at(0)}, 0, true},
		{"one that was there before it was looked for", []*metav1.MicroTime{at(0)}, 0, false},
		{"one that was there, told again", []*metav1.MicroTime{at(0), at(0), at(0)}, 0, false},
		{"one that was there, renewed", []*metav1.MicroTime{at(0), at(1)}, 0, true},
		{"one that was withdrawn", []*metav1.MicroTime{nil, at(0), nil}, 0, false},
		{"one that is not renewed any more, for a while", []*metav1.MicroTime{nil, at(0)}, good - 1, true},
		{"and then", []*metav1.MicroTime{nil, at(0)}, good, false},
		{"one of a clock that went back", []*metav1.MicroTime{nil, at(9), at(3)}, good - 1, true},
	} {
		var l lease
		now := start
		for _, renewed := range c.saw {
			l.saw(renewed, now)
			now = now.Add(time.Second)
		}
		if got := l.good(now.Add(-time.Second + c.wait)); got != c.want {
			t.Errorf("%s: it stands: %v", c.name, got)
		}
	}
}

func TestASampleIsBoundedAndFair(t *testing.T) {
	const size, shown, rounds = 10, 100, 2000
	times := map[int]int{}
	for range rounds {
		s := sample[int]{size: size}
		for i := range shown {
			s.show(i)
		}
		if len(s.kept) != size || s.seen != shown {
			t.Fatalf("it keeps %d of %d", len(s.kept), s.seen)
		}
		for _, v := range s.kept {
			times[v]++
		}
	}
	// 200 times each is expected, with a deviation of 13.
	for i := range shown {
		if times[i] < 100 || times[i] > 300 {
			t.Errorf("%d was kept %d times of %d", i, times[i], rounds)
		}
	}
}
