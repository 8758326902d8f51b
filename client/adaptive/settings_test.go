package adaptive_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
)

func TestSettings(t *testing.T) {
	for _, test := range []struct {
		name   string
		err    error
		faults []string // none: valid
	}{
		{"the zero settings of mars are those of its source", adaptive.MarsSettings{}.Validate(), nil},
		{"the zero settings of bisect are its defaults", adaptive.BisectSettings{}.Validate(), nil},
		{"WeChat's are valid", adaptive.WeChat().Validate(), nil},
		{"a Min above the default Max moves Max", adaptive.MarsSettings{Min: time.Hour}.Validate(), nil},
		{"bisect may have one interval only", adaptive.BisectSettings{Min: time.Hour, Max: time.Hour}.Validate(), nil},
		{
			"all faults of mars are told at once",
			adaptive.MarsSettings{
				Min: -1, Max: 19 * time.Hour, Step: time.Microsecond, Margin: -time.Second,
				Successes: -1, Failures: -1, Restart: -1, Warmup: -1, Again: 366 * 24 * time.Hour,
			}.Validate(),
			[]string{"Min: ", "Max: ", "Step: ", "Margin: ", "Successes: ", "Failures: ", "Restart: ", "Warmup: ", "Again: "},
		},
		{
			"mars needs room for its margin",
			adaptive.MarsSettings{Min: time.Minute, Max: 70 * time.Second}.Validate(),
			[]string{"Max: 1m10s is not between 1m20s and 18h12m15s"},
		},
		{
			"all faults of bisect are told at once",
			adaptive.BisectSettings{
				Min: time.Millisecond, Max: -1, Margin: -1, Precision: 1, Step: 1,
				Losses: -1, Verify: -1, Repeats: -1, Forgive: -1, Confirm: -1, Again: 1,
			}.Validate(),
			[]string{"Min: ", "Max: ", "Margin: ", "Precision: ", "Step: ", "Losses: ", "Verify: ", "Repeats: ", "Forgive: ", "Confirm: ", "Again: "},
		},
		{
			"parts of a millisecond are refused, since a state could not hold them",
			adaptive.BisectSettings{Min: time.Minute + time.Microsecond}.Validate(),
			[]string{"Min: 1m0.000001s is not in whole milliseconds"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if len(test.faults) == 0 {
				if test.err != nil {
					t.Fatal(test.err)
				}
				return
			}
			if test.err == nil {
				t.Fatal("accepted")
			}
			for _, f := range test.faults {
				if !strings.Contains("\n"+test.err.Error(), "\n"+f) {
					t.Errorf("%q is missing in:\n%v", f, test.err)
				}
			}
		})
	}
}

func TestImpossibleSettingsMakeNoStrategy(t *testing.T) {
	if _, err := adaptive.NewMars(adaptive.MarsSettings{Min: -1}); err == nil {
		t.Error("mars")
	}
	if _, err := adaptive.NewBisect(adaptive.BisectSettings{Min: -1}); err == nil {
		t.Error("bisect")
	}
}

func newMars(t testing.TB, c adaptive.MarsSettings) adaptive.Mars {
	t.Helper()
	m, err := adaptive.NewMars(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newBisect(t testing.TB, c adaptive.BisectSettings) adaptive.Bisect {
	t.Helper()
	b, err := adaptive.NewBisect(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
