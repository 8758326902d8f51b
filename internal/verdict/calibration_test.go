package verdict_test

import (
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

func TestCalibration(t *testing.T) {
	const ms = time.Millisecond
	start := time.Now()
	var c verdict.Calibration
	hear := func(second int, answer, usual time.Duration, again int) {
		t.Helper()
		var next time.Time
		c, next = c.Hear(start.Add(time.Duration(second)*time.Second), answer)
		want := time.Time{}
		if again > 0 {
			want = start.Add(time.Duration(again) * time.Second)
		}
		if c.Usual != usual || !next.Equal(want) {
			t.Errorf("at %d s: usual %v, look again %v after the start; want %v, %d s", second, c.Usual, next.Sub(start), usual, again)
		}
	}
	hear(0, 0, 0, 0) // nobody says
	hear(5, 3*ms, 0, 35)
	hear(20, 5*ms, 0, 35)
	hear(35, 4*ms, 3*ms, 0)
	hear(40, 6*ms, 3*ms, 0)    // within twice
	hear(50, 100*ms, 3*ms, 80) // a busy moment
	hear(60, 5*ms, 3*ms, 0)    // is over
	hear(70, 300*ms, 3*ms, 100)
	hear(80, 0, 3*ms, 0) // nobody says: that is no answer time
	hear(90, 300*ms, 3*ms, 120)
	hear(120, 310*ms, 300*ms, 0)
	hear(130, 20*ms, 300*ms, 160)
	hear(160, 20*ms, 20*ms, 0)
}

func TestWhatIsUsualIsNoMomentsAnswer(t *testing.T) {
	const ms = time.Millisecond
	start := time.Now()
	for _, c := range []struct {
		name    string
		answers []time.Duration // every ten seconds
		usual   time.Duration
	}{
		{"always the same", []time.Duration{3 * ms, 3 * ms, 3 * ms, 3 * ms}, 3 * ms},
		{"a busy moment at the last", []time.Duration{3 * ms, 3 * ms, 3 * ms, 400 * ms}, 0},
		{"and it is over", []time.Duration{3 * ms, 3 * ms, 3 * ms, 400 * ms, 3 * ms, 3 * ms, 3 * ms, 4 * ms}, 3 * ms},
		{"never twice the same", []time.Duration{3 * ms, 10 * ms, 30 * ms, 100 * ms, 30 * ms, 10 * ms, 3 * ms, 10 * ms, 30 * ms}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var found verdict.Calibration
			for i, answer := range c.answers {
				found, _ = found.Hear(start.Add(time.Duration(i)*10*time.Second), answer)
			}
			if found.Usual != c.usual {
				t.Errorf("%v is usual, want %v", found.Usual, c.usual)
			}
		})
	}
}

func TestAnswerTimesThatFit(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		usual, answerTime time.Duration
		fits              bool
		suggested         time.Duration
	}{
		{3 * ms, 500 * ms, true, 20 * ms},
		{200 * ms, 500 * ms, true, 1000 * ms},
		{300 * ms, 500 * ms, false, 2000 * ms},
		{500 * time.Microsecond, 10 * ms, true, 10 * ms},
		{40 * ms, 50 * ms, false, 200 * ms},
	} {
		c := verdict.Calibration{Usual: tt.usual}
		if got := c.Fits(tt.answerTime); got != tt.fits {
			t.Errorf("%v fits %v: %v", tt.answerTime, tt.usual, got)
		}
		if got := c.Suggest(); got != tt.suggested || !c.Fits(got) {
			t.Errorf("for %v: %v suggested, want %v", tt.usual, got, tt.suggested)
		}
	}
}
