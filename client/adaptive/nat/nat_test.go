package nat_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
	"github.com/rollcall-dev/rollcall/client/adaptive/nat"
)

// fixed beats at one interval, which it calls stable, and leaves at once.
type fixed time.Duration

func (fixed) Name() string { return "fixed" }

func (f fixed) Next(s adaptive.State, e adaptive.Event, _ time.Time) (adaptive.State, adaptive.Decision) {
	i := adaptive.Millis(time.Duration(f).Milliseconds())
	if e.Kind == adaptive.KindConnected {
		s.Network = e.Network
		s.Networks = []adaptive.Network{{Name: e.Network, Interval: i, Stable: true}}
	}
	return s, adaptive.Decision{Interval: i, Leave: e.Kind == adaptive.KindFailed || e.Kind == adaptive.KindNetworkChanged}
}

func TestASilenceLongerThanTheTimeoutCostsTheConnection(t *testing.T) {
	const hour = time.Hour
	for _, test := range []struct {
		name       string
		interval   time.Duration
		world      nat.World
		least      int // connections lost
		most       int
		unfinished int
	}{
		{"below the timeout none is lost", time.Minute, nat.Still(2*time.Minute, 0, 10*hour), 0, 0, 0},
		{"above it each is", 3 * time.Minute, nat.Still(2*time.Minute, 0, 10*hour), 180, 200, 1},
		{"loss costs some too", time.Minute, nat.Still(2*time.Minute, .1, 100*hour), 450, 700, 0},
		{"a timeout that falls costs some from then on", 3 * time.Minute, nat.World{
			Networks: []nat.Network{{Name: "home", Timeouts: []nat.Timeout{{Longest: hour}, {From: 5 * hour, Longest: time.Minute}}}},
			Length:   10 * hour,
		}, 85, 100, 1},
		{"to change the network costs none", time.Minute, nat.World{
			Networks: []nat.Network{nat.Fixed("home", hour), nat.Fixed("train", hour)},
			Stays:    []nat.Stay{{}, {From: hour, Network: 1}, {From: 2 * hour}},
			Length:   3 * hour,
		}, 0, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := nat.Run(fixed(test.interval), test.world, 1, nil)
			if o.Lost < test.least || o.Lost > test.most || o.Unfinished != test.unfinished {
				t.Errorf("lost %d, want %d to %d; unfinished %d, want %d", o.Lost, test.least, test.most, o.Unfinished, test.unfinished)
			}
		})
	}
}

func TestBeatsAndDistanceAreThoseOfTheStableTime(t *testing.T) {
	o := nat.Run(fixed(time.Minute), nat.Still(2*time.Minute, 0, 240*time.Hour), 1, nil)
	// A beat is up to 1 s late, and its answer takes 0.1 s: 86400 / 60.5.
	if b := o.BeatsPerDay(); b < 1420 || b > 1435 {
		t.Errorf("%v beats a day", b)
	}
	if o.Distance < .49 || o.Distance > .51 {
		t.Errorf("distance %v, want half", o.Distance)
	}
}

func TestOneSeedIsOneLife(t *testing.T) {
	m, err := adaptive.NewMars(adaptive.MarsSettings{})
	if err != nil {
		t.Fatal(err)
	}
	run := func(seed uint64) (steps []nat.Step) {
		nat.Run(m, nat.Still(5*time.Minute, .1, 24*time.Hour), seed, func(s nat.Step) { steps = append(steps, s) })
		return steps
	}
	if !reflect.DeepEqual(run(1), run(1)) {
		t.Error("the same seed gave two lives")
	}
	if reflect.DeepEqual(run(1), run(2)) {
		t.Error("two seeds gave one life")
	}
}

func TestTimeoutsAreBetweenTheirBounds(t *testing.T) {
	for _, d := range nat.Timeouts(1000, time.Minute, time.Hour, 1) {
		if d < time.Minute-time.Millisecond || d > time.Hour {
			t.Fatal(d)
		}
	}
}
