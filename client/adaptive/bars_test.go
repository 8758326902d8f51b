package adaptive_test

import (
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
	"github.com/rollcall-dev/rollcall/client/adaptive/nat"
)

// The whole comparison is that of `make bench-adaptive`.
func TestBisectKeepsItsPromisesAgainstMars(t *testing.T) {
	const least, most = 210 * time.Second, 580 * time.Second
	for _, test := range []struct {
		name string
		loss float64
	}{{"without loss", 0}, {"when 2 % of the beats are lost", .02}, {"when 10 % of the beats are lost", .1}} {
		t.Run(test.name, func(t *testing.T) {
			var search, beats [2]float64
			for i, limit := range nat.Timeouts(12, 4*time.Minute, 12*time.Minute, 42) {
				var lost [2]int
				for j, s := range []adaptive.Strategy{
					newMars(t, adaptive.MarsSettings{Min: least, Max: most + 20*time.Second}),
					newBisect(t, adaptive.BisectSettings{Min: least, Max: most}),
				} {
					o := nat.Run(s, nat.Still(limit, test.loss, 28*24*time.Hour), uint64(i), nil)
					search[j] += o.Searches[0].Seconds()
					beats[j] += o.BeatsPerDay()
					lost[j] = o.Lost
				}
				if lost[1] > lost[0] {
					t.Errorf("timeout %v: bisect lost %d connections, mars %d", limit, lost[1], lost[0])
				}
			}
			if 3*search[1] > search[0] {
				t.Errorf("bisect searched for %.0f s, mars for %.0f s", search[1], search[0])
			}
			if beats[1] > beats[0] {
				t.Errorf("bisect sent %.0f beats, mars %.0f", beats[1], beats[0])
			}
		})
	}
}
