package advice

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

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
		{name: "too few reports say nothing", reports: []report{{5 * time.Minute, 199, 0}}},
		{name: "shorter silences than are told apart say nothing", reports: []report{{10 * time.Second, 5000, 0}}},
		{name: "what nearly all survive is advised", reports: []report{{5 * time.Minute, 198, 2}}, want: 5 * time.Minute},
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
				tally.Add(r.silence, r.survived, r.lost)
			}
			if got := tally.Max(c.last); got != c.want {
				t.Errorf("advised %v, want %v", got, c.want)
			}
		})
	}
}

func TestANetworkThatHasChangedIsFollowed(t *testing.T) {
	var tally Tally
	tally.Add(10*time.Minute, 1_000_000, 0)
	for range 100 {
		tally.Add(10*time.Minute, 0, 10)
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
			whole.Add(s, survived, lost)
			if rapid.Bool().Draw(t, s.String()) {
				some.Add(s, survived, lost)
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
		for _, c := range some.counts {
			if c.total() > remembered {
				t.Errorf("%d are remembered", c.total())
			}
		}
	})
}
