package verdict

import "time"

const (
	// CalibrateFor is how long answers must take about the same before that counts as
	// usual.
	CalibrateFor = 30 * time.Second
	// usualApart is by how much answers must take longer, or shorter, to be
	// something else than usual; below usualFloor they never do.
	usualApart = 2
	usualFloor = time.Millisecond
	// usualRoom is how many times the usual answer time fits into an answer time
	// that bears a busy moment.
	usualRoom = 4
)

// Calibration finds out how long the healthy servers of a Presence usually take
// to answer. The zero value has heard nothing.
type Calibration struct {
	// Usual is that time; zero: it isn't known yet.
	Usual time.Duration
	// from is since when answers take something else, which is candidate.
	from      time.Time
	candidate time.Duration
}

// Hear takes how long the slowest of the healthy servers takes to answer now;
// zero: nobody says. next is when to come back even if nothing changes; zero: only then.
func (c Calibration) Hear(now time.Time, answer time.Duration) (_ Calibration, next time.Time) {
	switch {
	case answer <= 0, c.Usual > 0 && alike(answer, c.Usual):
		return Calibration{Usual: c.Usual}, time.Time{}
	case c.from.IsZero(), !alike(answer, c.candidate):
		c.from, c.candidate = now, answer
	case now.Sub(c.from) >= CalibrateFor:
		return Calibration{Usual: c.candidate}, time.Time{}
	}
	return c, c.from.Add(CalibrateFor)
}

// alike tells whether an answer takes no more and no less than is usual.
func alike(answer, usual time.Duration) bool {
	return answer <= max(usualApart*usual, usualFloor) && (answer >= usual/usualApart || usual <= usualFloor)
}

// Fits tells whether an answer time bears what is usual: at half of it a server
// counts as slow to receive clients.
func (c Calibration) Fits(answerTime time.Duration) bool { return 2*c.Usual <= answerTime }

// Suggest is an answer time that does, rounded up to 1, 2 or 5 times a power of ten
// milliseconds.
func (c Calibration) Suggest() time.Duration {
	want := usualRoom * c.Usual
	for unit := 10 * time.Millisecond; ; unit *= 10 {
		for _, n := range []time.Duration{1, 2, 5} {
			if n*unit >= want {
				return n * unit
			}
		}
	}
}
