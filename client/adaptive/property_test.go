package adaptive_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/client/adaptive"
	"github.com/rollcall-dev/rollcall/client/adaptive/nat"
)

// bounded is a strategy with the bounds of its intervals.
type bounded struct {
	adaptive.Strategy
	least, most time.Duration
}

func strategies(t *rapid.T) bounded {
	least := rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.IntRange(1000, 300_000).Draw(t, "ms")) * time.Millisecond
	}).Draw(t, "min")
	most := least + time.Duration(rapid.IntRange(20, 3600).Draw(t, "s"))*time.Second
	if rapid.Bool().Draw(t, "mars") {
		c := adaptive.MarsSettings{Min: least, Max: most}
		if rapid.Bool().Draw(t, "WeChat's") {
			c = adaptive.WeChat()
			c.Min, c.Max = least, most
		}
		m, err := adaptive.NewMars(c)
		if err != nil {
			t.Fatal(err)
		}
		return bounded{m, least, most}
	}
	b, err := adaptive.NewBisect(adaptive.BisectSettings{
		Min: least, Max: most,
		Losses: rapid.IntRange(1, 6).Draw(t, "losses"), Verify: rapid.IntRange(1, 4).Draw(t, "verify"),
		Repeats: rapid.IntRange(1, 3).Draw(t, "repeats"), Confirm: rapid.IntRange(1, 3).Draw(t, "confirm"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return bounded{b, least, most}
}

var events = rapid.Custom(func(t *rapid.T) adaptive.Event {
	return adaptive.Event{
		Kind: rapid.SampledFrom([]adaptive.Kind{
			adaptive.KindConnected, adaptive.KindAnswered, adaptive.KindAnswered, adaptive.KindAnswered, adaptive.KindFailed, adaptive.KindFailed,
			adaptive.KindLost, adaptive.KindForeground, adaptive.KindBackground, adaptive.KindNetworkChanged, adaptive.KindTick, "nonsense",
		}).Draw(t, "kind"),
		Network: rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[a-e]`), rapid.String()).Draw(t, "network"),
		Limit:   adaptive.Millis(rapid.OneOf(rapid.Just(int64(0)), rapid.Int64()).Draw(t, "limit")),
		Silence: adaptive.Millis(rapid.OneOf(rapid.Int64Range(0, 4_000_000), rapid.Int64()).Draw(t, "silence")),
	}
})

func TestWhateverHappensTheIntervalIsWithinItsBoundsAndTheStateIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := strategies(t)
		var state adaptive.State
		now := nat.Begin
		last := adaptive.Decision{}
		for range rapid.IntRange(1, 120).Draw(t, "events") {
			e := events.Draw(t, "event")
			if e.Kind == adaptive.KindAnswered && rapid.Bool().Draw(t, "in time") {
				e.Silence = last.Interval
			}
			now = now.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(200*time.Hour)).Draw(t, "later")))
			before := encode(t, state)
			next, d := s.Next(state, e, now)
			checkPure(t, s, state, e, now, before, next, d)
			checkDecision(t, s, next, d)
			checkState(t, next)
			state, last = next, d
		}
	})
}

func checkPure(t *rapid.T, s adaptive.Strategy, state adaptive.State, e adaptive.Event, now time.Time, before string, next adaptive.State, d adaptive.Decision) {
	again, d2 := s.Next(state, e, now)
	if !reflect.DeepEqual(again, next) || d2 != d {
		t.Fatalf("the same call gave %+v, %+v and then %+v, %+v", next, d, again, d2)
	}
	if after := encode(t, state); after != before {
		t.Fatalf("the given state was changed from\n%s\nto\n%s", before, after)
	}
}

func checkDecision(t *rapid.T, s bounded, state adaptive.State, d adaptive.Decision) {
	least, most := s.least, s.most
	if l := state.Limit.Duration(); l > 0 {
		least, most = min(least, l), min(most, l)
	}
	if i := d.Interval.Duration(); i <= 0 || i < least || i > most {
		t.Fatalf("interval %v is not between %v and %v: %+v", i, least, most, state)
	}
	if d.Probe && d.Leave {
		t.Fatalf("both probe and leave")
	}
	if state.Foreground && d.Interval.Duration() != least {
		t.Fatalf("interval %v in the foreground, want %v", d.Interval, least)
	}
}

func checkState(t *rapid.T, state adaptive.State) {
	decoded, err := adaptive.Decode([]byte(encode(t, state)))
	if err != nil {
		t.Fatalf("%v\n%+v", err, state)
	}
	if encode(t, decoded) != encode(t, state) {
		t.Fatalf("%+v became %+v in JSON", state, decoded)
	}
	if n := len(state.Networks); n > adaptive.MaxNetworks {
		t.Fatalf("%d networks", n)
	}
}

func encode(t interface{ Fatal(...any) }, s adaptive.State) string {
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWithoutLossTheStableIntervalIsBelowTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := strategies(t)
		over := rapid.IntRange(2000, 4_000_000).Draw(t, "over")
		limit := s.least + time.Duration(over)*time.Millisecond
		found := false
		nat.Run(s, nat.Still(limit, 0, 4*24*time.Hour), rapid.Uint64().Draw(t, "seed"), func(step nat.Step) {
			if settled, ok := step.State.Settled(); ok {
				found = true
				if settled >= limit {
					t.Fatalf("%v is called stable, the limit is %v", settled, limit)
				}
			}
		})
		if !found && s.Name() == "bisect" {
			t.Fatalf("nothing was found in four days")
		}
	})
}

func TestASearchOfBisectLosesNoMoreThanItMay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		losses := rapid.IntRange(1, 6).Draw(t, "losses")
		b, err := adaptive.NewBisect(adaptive.BisectSettings{Min: 20 * time.Second, Max: time.Hour, Losses: losses})
		if err != nil {
			t.Fatal(err)
		}
		limit := time.Duration(rapid.IntRange(22_000, 4_000_000).Draw(t, "limit")) * time.Millisecond
		o := nat.Run(b, nat.Still(limit, 0, 6*24*time.Hour), rapid.Uint64().Draw(t, "seed"), nil)
		if o.Lost > losses || o.Unfinished > 0 {
			t.Fatalf("lost %d connections of %d, unfinished %d", o.Lost, losses, o.Unfinished)
		}
	})
}

func TestTheNetworkUnusedForLongestIsForgotten(t *testing.T) {
	for _, s := range []adaptive.Strategy{newMars(t, adaptive.MarsSettings{}), newBisect(t, adaptive.BisectSettings{})} {
		t.Run(s.Name(), func(t *testing.T) {
			l := begin(t, s).connect("home").answer(100)
			want, _ := l.state.Settled()
			for i := range 3 * adaptive.MaxNetworks {
				l.connect(fmt.Sprint("elsewhere ", i))
				if i%10 == 0 {
					l.connect("home")
				}
			}
			if is, ok := l.connect("home").state.Settled(); !ok || is != want {
				t.Errorf("the network in use was forgotten: %v, %v", is, ok)
			}
			for i := range adaptive.MaxNetworks {
				l.connect(fmt.Sprint("far away ", i))
			}
			if _, ok := l.connect("home").state.Settled(); ok {
				t.Error("the oldest was not forgotten")
			}
			if n := len(l.state.Networks); n != adaptive.MaxNetworks {
				t.Errorf("%d networks", n)
			}
		})
	}
}
