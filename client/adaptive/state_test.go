package adaptive_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
	"github.com/rollcall-dev/rollcall/client/adaptive/nat"
)

func TestDecode(t *testing.T) {
	for _, test := range []struct {
		name, state string
		faults      []string // none: accepted
	}{
		{"an empty state is a beginning", `{}`, nil},
		{"a state with a network", `{"strategy":"mars","network":"a","intervalMs":210000,"networks":[{"name":"a","intervalMs":210000,"changedUnixMs":1}]}`, nil},
		{"what is not JSON is refused", `{`, []string{"unexpected EOF"}},
		{"a field that nobody wrote is refused", `{"strategy":"mars","x":1}`, []string{`unknown field "x"`}},
		{"only one state is read", `{}{}`, []string{"more follows it"}},
		{
			"all faults are told at once",
			`{"intervalMs":-1,"previousMs":-1,"limitMs":-1,"silenceMs":1099511627777,"answers":-1,"unanswered":-1,"networks":[
				{"name":""},{"name":"a","lowMs":2,"highMs":2},{"name":"a","changedUnixMs":-1,"budget":-1,"backoff":-1,"stepMs":-1}]}`,
			[]string{
				"intervalMs: ", "previousMs: ", "limitMs: ", "silenceMs: ", "answers: ", "unanswered: ", "networks[0].name: ", "networks[1].highMs: ",
				"networks[2].name: ", "networks[2].changedUnixMs: ", "networks[2].budget: ", "networks[2].backoff: ", "networks[2].stepMs: ",
			},
		},
		{"too many networks are refused", `{"networks":[` + strings.Repeat(`{"name":"a"},`, 20) + `{"name":"a"}]}`, []string{"networks: more than 20"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := adaptive.Decode([]byte(test.state))
			if len(test.faults) == 0 && err != nil {
				t.Fatal(err)
			}
			for _, f := range test.faults {
				if err == nil || !strings.Contains(err.Error(), f) {
					t.Errorf("%q is missing in: %v", f, err)
				}
			}
		})
	}
}

func TestTheStateOfAnotherStrategyIsABeginning(t *testing.T) {
	mars, bisect := newMars(t, adaptive.MarsSettings{}), newBisect(t, adaptive.BisectSettings{})
	l := begin(t, mars).connect("home").tell(adaptive.Foreground())
	l.strategy = bisect
	l.tell(adaptive.Tick()).next(210)
	if l.state.Strategy != "bisect" || l.state.Network != "" || !l.state.Foreground {
		t.Errorf("%+v", l.state)
	}
}

// Whatever Decode accepts, a strategy can live with.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"strategy":"bisect","network":"a","intervalMs":1,"networks":[{"name":"a","changedUnixMs":0,"lowMs":90,"highMs":91,"budget":1,"retest":true}]}`))
	f.Add([]byte(`{"strategy":"mars","network":"a","limitMs":7,"answers":9,"intervalMs":1,"networks":[{"name":"a","intervalMs":1099511627776,"changedUnixMs":9223372036854775807,"stable":true}]}`))
	const least, most = 30 * time.Second, 300 * time.Second
	mars := newMars(f, adaptive.MarsSettings{Min: least, Max: most})
	bisect := newBisect(f, adaptive.BisectSettings{Min: least, Max: most})
	f.Fuzz(func(t *testing.T, data []byte) {
		state, err := adaptive.Decode(data)
		if err != nil {
			return
		}
		for _, s := range []adaptive.Strategy{mars, bisect} {
			state := state
			for i, e := range []adaptive.Event{
				adaptive.Answered(least), adaptive.Failed(most), adaptive.Failed(most), adaptive.Tick(), adaptive.Lost(time.Minute),
				adaptive.Connected("a", 0), adaptive.Answered(0), adaptive.Answered(most), adaptive.Lost(most),
			} {
				var d adaptive.Decision
				state, d = s.Next(state, e, nat.Begin.Add(time.Duration(i)*24*time.Hour))
				low, high := least, most
				if l := state.Limit.Duration(); l > 0 {
					low, high = min(low, l), min(high, l)
				}
				if is := d.Interval.Duration(); is < low || is > high {
					t.Fatalf("%s: %v after %+v: %+v", s.Name(), is, e, state)
				}
				if _, err := adaptive.Decode([]byte(encode(t, state))); err != nil {
					t.Fatalf("%s: %v after %+v: %+v", s.Name(), err, e, state)
				}
			}
		}
	})
}
