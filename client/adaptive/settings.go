package adaptive

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// MaxInterval is the longest interval that MQTT can declare.
const MaxInterval = math.MaxUint16 * time.Second

// MarsSettings are the figures of Mars. Zero: that of Mars's source
// (mars/stn/config.h). Durations are whole milliseconds.
type MarsSettings struct {
	// Min and Max bound the interval. Max itself is never used: the longest
	// interval is Max - Margin. Zero: 210 s and 600 s.
	Min, Max time.Duration
	// Step is what a level has more than the one below. Zero: 60 s.
	Step time.Duration
	// Margin is what the settled interval has less than the last level that was
	// good, and by how much a settled interval is raised to begin anew. Zero: 20 s.
	Margin time.Duration
	// Successes is how many answers in a row raise the level; the first one at a
	// level doesn't count. Zero: 5.
	Successes int
	// Failures is how many failures end the search. Zero: 2.
	Failures int
	// Restart is how many failures of a settled interval begin a new search,
	// from Min. Zero: 2.
	Restart int
	// Warmup is how many beats at Min each connection begins with. Zero: 3.
	Warmup int
	// Again is how long a settled interval stays before longer ones are tried.
	// Zero: 7 days.
	Again time.Duration
}

// WeChat are the settings of the article that WeChat's developers published on
// their heartbeat, where they differ from Mars's source.
func WeChat() MarsSettings {
	return MarsSettings{Step: time.Minute, Margin: 10 * time.Second, Failures: 5, Restart: 5, Again: 7 * day}
}

// MarsAnswerTimeout is how long Mars waits for an answer (longlink.cc), for
// whoever wants all of it.
const MarsAnswerTimeout = 8 * time.Second

// Validate returns every fault in one error, each naming its field.
func (c MarsSettings) Validate() error { return c.settle().validate() }

func (c MarsSettings) settle() MarsSettings {
	or(&c.Min, 210*time.Second)
	or(&c.Max, max(600*time.Second, c.Min+time.Minute))
	or(&c.Step, time.Minute)
	or(&c.Margin, 20*time.Second)
	or(&c.Successes, 5)
	or(&c.Failures, 2)
	or(&c.Restart, 2)
	or(&c.Warmup, 3)
	or(&c.Again, 7*day)
	return c
}

func (c MarsSettings) validate() error {
	var f faults
	f.within("Min", c.Min, time.Second, MaxInterval)
	f.within("Max", c.Max, c.Min+c.Margin, MaxInterval)
	f.within("Step", c.Step, time.Second, MaxInterval)
	f.within("Margin", c.Margin, 0, MaxInterval)
	f.atLeastOne("Successes", c.Successes)
	f.atLeastOne("Failures", c.Failures)
	f.atLeastOne("Restart", c.Restart)
	f.atLeastOne("Warmup", c.Warmup)
	f.within("Again", c.Again, time.Second, 365*day)
	return f.err()
}

// BisectSettings are the figures of Bisect. Durations are whole milliseconds.
type BisectSettings struct {
	// Min and Max bound the interval. Zero: 210 s and 580 s, the longest one
	// that Mars uses.
	Min, Max time.Duration
	// Margin is what the settled interval has less than the longest silence
	// that was answered; at most a tenth of that. At Max there is none. Zero:
	// 10 s, as WeChat has it.
	Margin time.Duration
	// Precision is how near the limit is to be known; at most a tenth of it.
	// Zero: 10 s.
	Precision time.Duration
	// Step is the longest step upwards when the search may lose only one more
	// connection. Zero: 60 s.
	Step time.Duration
	// Losses is how many connections a search may lose. With more of them it is
	// faster. Zero: 2, what Mars loses.
	Losses int
	// Verify is how many more beats are sent when one isn't answered, before
	// the connection is taken for lost: of independent losses with probability
	// p, p^(1+Verify) are mistaken. Zero: 3.
	Verify int
	// Repeats is how many connections a settled interval may lose before it is
	// believed too long. Forgive answers in a row forgive one. Zero: 2 and 20.
	Repeats, Forgive int
	// Confirm is how many answers at the settled interval end the search. Zero: 1.
	Confirm int
	// Again is how long a settled interval stays before the limit is looked at
	// more closely, or tried again, at the cost of at most one connection. Each
	// try in vain doubles it, up to four times. Zero: 7 days.
	Again time.Duration
}

// Validate returns every fault in one error, each naming its field.
func (c BisectSettings) Validate() error { return c.settle().validate() }

func (c BisectSettings) settle() BisectSettings {
	or(&c.Min, 210*time.Second)
	or(&c.Max, max(580*time.Second, c.Min))
	or(&c.Margin, 10*time.Second)
	or(&c.Precision, 10*time.Second)
	or(&c.Step, time.Minute)
	or(&c.Losses, 2)
	or(&c.Verify, 3)
	or(&c.Repeats, 2)
	or(&c.Forgive, 20)
	or(&c.Confirm, 1)
	or(&c.Again, 7*day)
	return c
}

func (c BisectSettings) validate() error {
	var f faults
	f.within("Min", c.Min, time.Second, MaxInterval)
	f.within("Max", c.Max, c.Min, MaxInterval)
	f.within("Margin", c.Margin, 0, MaxInterval)
	f.within("Precision", c.Precision, time.Second, MaxInterval)
	f.within("Step", c.Step, time.Second, MaxInterval)
	f.atLeastOne("Losses", c.Losses)
	f.atLeastOne("Verify", c.Verify)
	f.atLeastOne("Repeats", c.Repeats)
	f.atLeastOne("Forgive", c.Forgive)
	f.atLeastOne("Confirm", c.Confirm)
	f.within("Again", c.Again, time.Second, 365*day)
	return f.err()
}

const day = 24 * time.Hour

func or[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// faults gathers what is wrong, each naming its field.
type faults []error

func (f *faults) add(field, format string, args ...any) {
	*f = append(*f, fmt.Errorf(field+": "+format, args...))
}

func (f *faults) within(field string, is, least, most time.Duration) {
	if is < least || is > most {
		f.add(field, "%v is not between %v and %v", is, least, most)
	}
	if is%time.Millisecond != 0 {
		f.add(field, "%v is not in whole milliseconds", is)
	}
}

func (f *faults) atLeastOne(field string, is int) {
	if is < 1 || is > maxCount {
		f.add(field, "%d is not between 1 and %d", is, maxCount)
	}
}

func (f *faults) span(field string, is Millis) {
	if is < 0 || is > maxMillis {
		f.add(field, "%d is not between 0 and %d", is, maxMillis)
	}
}

func (f *faults) count(field string, is int) {
	if is < 0 || is > maxCount {
		f.add(field, "%d is not between 0 and %d", is, maxCount)
	}
}

func (f *faults) err() error { return errors.Join(*f...) }
