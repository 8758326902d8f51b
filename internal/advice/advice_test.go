package advice

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// crowd is how many clients of a tally there are, where it does not matter.
const crowd = 50

// spread reports silences of a crowd, one after the other, the lost ones first.
func spread(t *Tally, silence time.Duration, survived, lost int) {
	for i := range survived + lost {
		if i < lost {
			t.Add(uint64(i%crowd), silence, 0, 1)
		} else {
			t.Add(uint64(i%crowd), silence, 1, 0)
		}
	}
}

func TestTheLongestIntervalThatNearlyAllSurviveIsAdvised(t *testing.T) {
	type report struct {
		silence        time.Duration
		survived, lost int
	}
	for _, c := range []struct {
		name    string
		reports []report
		last    time.Duration
		want    time.Duration
	}{
		{name: "nothing is known of a network that nobody reports"},
		{name: "too few reports of all but one say nothing", reports: []report{{5 * time.Minute, 204, 0}}},
		{name: "one more is enough", reports: []report{{5 * time.Minute, 205, 0}}, want: 5 * time.Minute},
		{name: "shorter silences than are told apart say nothing", reports: []report{{10 * time.Second, 5000, 0}}},
		{name: "what nearly all survive is advised", reports: []report{{5 * time.Minute, 217, 3}}, want: 5 * time.Minute},
		{name: "the longest counts", reports: []report{{time.Minute, 500, 0}, {5 * time.Minute, 500, 1}, {10 * time.Minute, 400, 100}}, want: 5 * time.Minute},
		{name: "a silence between two steps speaks for the shorter", reports: []report{{290 * time.Second, 500, 0}}, want: 270 * time.Second},
		{name: "where only too long ones are known, the step before them", reports: []report{{5 * time.Minute, 300, 100}}, want: 270 * time.Second},
		{name: "the shortest step is not undercut", reports: []report{{30 * time.Second, 0, 500}}, want: 30 * time.Second},
		{name: "longer ones cannot be good where a shorter one is not", reports: []report{{4 * time.Minute, 200, 50}, {10 * time.Minute, 500, 0}}, want: 3 * time.Minute},
		{name: "what was advised stays until it is clearly bad", reports: []report{{time.Minute, 500, 0}, {5 * time.Minute, 394, 6}}, last: 5 * time.Minute, want: 5 * time.Minute},
		{name: "what was not advised must be clearly good", reports: []report{{time.Minute, 500, 0}, {5 * time.Minute, 394, 6}}, last: time.Minute, want: time.Minute},
		{name: "what has become bad is advised no more", reports: []report{{time.Minute, 500, 0}, {5 * time.Minute, 390, 10}}, last: 5 * time.Minute, want: time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tally Tally
			for _, r := range c.reports {
				spread(&tally, r.silence, r.survived, r.lost)
			}
			if got := tally.Max(c.last); got != c.want {
				t.Errorf("advised %v, want %v", got, c.want)
			}
		})
	}
}

func TestANetworkThatHasChangedIsFollowed(t *testing.T) {
	var tally Tally
	for client := range uint64(crowd) {
		tally.Add(client, 10*time.Minute, 1_000_000, 0)
		tally.Add(client, 10*time.Minute, 0, 10)
		tally.Add(client, 10*time.Minute, 0, 10)
	}
	if got := tally.Max(10 * time.Minute); got != 8*time.Minute {
		t.Errorf("advised %v after 1,000 losses", got)
	}
}

// A network that forgets after a time is found out to the step below it, where
// clients use intervals of all lengths; with whatever intervals they use, the advice
// is below the shortest that is known to be too long, and they are bounded.
func TestTheAdviceIsWithinTheNetworksLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := time.Duration(rapid.IntRange(31, 10*3600).Draw(t, "limit")) * time.Second
		var whole, some Tally
		want, bad := time.Duration(0), time.Duration(0)
		for _, s := range steps {
			survived, lost := 300, 0
			if s >= limit {
				survived, lost = 0, 300
			} else {
				want = s
			}
			spread(&whole, s, survived, lost)
			if rapid.Bool().Draw(t, s.String()) {
				spread(&some, s, survived, lost)
				if lost > 0 && bad == 0 {
					bad = s
				}
			}
		}
		if got := whole.Max(0); got != want {
			t.Errorf("advised %v where connections live %v", got, limit)
		}
		if got := some.Max(0); bad > steps[0] && got >= bad {
			t.Errorf("advised %v where %v is known to be too long", got, bad)
		}
	})
}

// Whatever one client reports, and however often: alone it is not heard, and what
// a crowd agrees on stays.
func TestNoClientDecidesAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := time.Duration(rapid.IntRange(31, 10*3600).Draw(t, "limit")) * time.Second
		one := rapid.Uint64().Draw(t, "client")
		amount := rapid.OneOf(rapid.IntRange(0, 256), rapid.Just(1_000_000))
		var alone, honest, both Tally
		lie := func() {
			for range rapid.IntRange(0, 20).Draw(t, "reports") {
				silence := rapid.SampledFrom(steps[:]).Draw(t, "silence")
				survived, lost := amount.Draw(t, "survived"), amount.Draw(t, "lost")
				alone.Add(one, silence, survived, lost)
				both.Add(one, silence, survived, lost)
			}
		}
		lie()
		for client := range uint64(20) {
			for _, s := range steps {
				survived, lost := 20, 0
				if s >= limit {
					survived, lost = 0, 20
				}
				honest.Add(client, s, survived, lost)
				both.Add(client, s, survived, lost)
			}
		}
		want := honest.Max(0)
		for range 3 {
			lie()
			if got := alone.Max(0); got != 0 {
				t.Errorf("one client alone has %v advised", got)
			}
			for _, last := range []time.Duration{0, want, steps[0], steps[len(steps)-1]} {
				if got := both.Max(last); got != want {
					t.Errorf("advised %v instead of %v, after %v", got, want, last)
				}
			}
		}
		for _, step := range both.steps {
			for _, c := range step {
				if c.total() > weight+0.01 {
					t.Errorf("%v of one client are remembered", c.total())
				}
			}
		}
	})
}

func TestSevenClientsAreTooFew(t *testing.T) {
	var tally Tally
	for client := range uint64(8) {
		if got := tally.Max(0); got != 0 {
			t.Errorf("advised %v from %d clients", got, client)
		}
		tally.Add(client, 5*time.Minute, 1000, 0)
	}
	if got := tally.Max(0); got != 5*time.Minute {
		t.Errorf("advised %v from eight clients", got)
	}
}

// Old reports shrink by as much, whether they tell of a loss or not: of one lost in
// fifty, too many stay lost.
func TestWhatShrinksKeepsItsShare(t *testing.T) {
	var tally Tally
	for i := range 200 * crowd {
		lost := 0
		if i/crowd%50 == i%50 {
			lost = 1
		}
		tally.Add(uint64(i%crowd), 5*time.Minute, 1-lost, lost)
	}
	if got := tally.Max(0); got != 270*time.Second {
		t.Errorf("advised %v where 1 in 50 is lost", got)
	}
}
