package probe

import (
	"fmt"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Limits are the overload policy of a server's Presence.
type Limits struct {
	// AnswerTime is the longest time in which a healthy server answers.
	AnswerTime time.Duration
	// Window is how long answers must be late before the server is slow, and in
	// time before it is not slow any more.
	Window time.Duration
}

// Judgement is what the evidence says of a server.
type Judgement struct {
	Band wire.Band // empty: nothing is known yet
	// Since is when the band was entered.
	Since time.Time
	// Detail says why, in words, as it was when the band was entered.
	Detail string
	// Next is when to look again even if nothing happens; zero: only then.
	Next time.Time
}

// Judge classifies a server. prev is the last judgement (the zero value at
// first): a band is left on an answer that says so, not on silence.
//
// The order of the cases is the meaning: what is certain comes first, and what
// the path may have done comes before what only the server can have done.
func (e *Evidence) Judge(l Limits, prev Judgement, now time.Time) Judgement {
	j := Judgement{}
	enter := func(b wire.Band, format string, a ...any) Judgement {
		j.Band = b
		if b == prev.Band {
			j.Since, j.Detail = prev.Since, prev.Detail
			return j
		}
		j.Since, j.Detail = now, fmt.Sprintf(format, a...)
		return j
	}
	again := func(t time.Time) {
		if t.After(now) && (j.Next.IsZero() || t.Before(j.Next)) {
			j.Next = t
		}
	}
	keep := func() Judgement { return enter(prev.Band, "") }

	s := e.silence(now, again)
	trouble := e.trouble()
	lost := !trouble.IsZero() && now.Sub(latest(trouble, e.reached, e.stall)) >= HungAfter
	if !trouble.IsZero() {
		again(latest(trouble, e.reached, e.stall).Add(HungAfter))
	}
	rough := e.rough(now)
	again(e.disturbed.Add(Quiet))
	// When the window of lateness is full, and when it is over.
	again(latest(e.inTime, e.began, e.stall).Add(l.Window))
	again(e.late.Add(l.Window))

	switch {
	case s.hung > 0:
		return enter(wire.BandHung, "oldest unanswered %s %.2fs old, acknowledged by the kernel", s.what, s.hung.Seconds())
	case e.turned >= turnedAway && !rough:
		return enter(wire.BandHung, "new connections are not taken, while its kernel goes on with those that there are")
	case e.refused && len(e.links) == 0:
		if e.broken >= 2 {
			return enter(wire.BandRefused, "connections are closed before they are answered")
		}
		return enter(wire.BandRefused, "connection refused")
	case lost:
		return enter(wire.BandUnreachable, "no sign of it for %.2fs", now.Sub(latest(trouble, e.reached)).Seconds())
	case s.lossy > 0:
		return enter(wire.BandLossy, "unanswered for %.2fs, on a path that loses packets", s.lossy.Seconds())
	case e.local:
		return enter(wire.BandLossy, "no connection can be made from here")
	case e.unasked != "":
		if prev.Detail != e.unasked {
			prev.Band = "" // another lack is entered anew, so that it is told, and written
		}
		return enter(wire.BandUnasked, "%s", e.unasked)
	}

	lateFor := now.Sub(latest(e.inTime, e.began, e.stall))
	lately := !e.late.IsZero() && now.Sub(e.late) < l.Window
	if e.lates >= slowAnswers && lately && lateFor >= l.Window {
		if rough {
			return enter(wire.BandLossy, "answers late for %.2fs, on a path that loses packets", lateFor.Seconds())
		}
		if e.wrong != "" {
			return enter(wire.BandSlow, "no answer for %.2fs was as it should be: %s", lateFor.Seconds(), e.wrong)
		}
		return enter(wire.BandSlow, "every answer for %.2fs took longer than %v", lateFor.Seconds(), l.AnswerTime)
	}

	answered := latest(e.inTime, e.late)
	if prev.Band != "" && prev.Band != wire.BandOK && !answered.After(prev.Since) {
		return keep()
	}
	switch prev.Band {
	case wire.BandHung, wire.BandSlow:
		if lately || e.lates > 0 {
			return enter(wire.BandSlow, "answers again, later than %v", l.AnswerTime)
		}
	case wire.BandLossy:
		if rough {
			return keep()
		}
	case wire.BandOK:
		return keep()
	}
	if e.inTime.IsZero() || e.lates > 0 {
		return keep()
	}
	return enter(wire.BandOK, "")
}

// slowAnswers is how many late answers in a row make a server slow: with fewer,
// one burst of the path would do.
const slowAnswers = 3

// turnedAway is how many attempts in a row mean that newcomers are not taken:
// each has sent its SYN twice.
const turnedAway = 2

// silent is how long the worst connection has been without answers, HungAfter
// at least, by what the kernel says of it; zero: no connection has.
type silent struct {
	hung, lossy time.Duration
	what        string
}

func (e *Evidence) silence(now time.Time, again func(time.Time)) silent {
	var s silent
	for _, l := range e.links {
		if len(l.pending) == 0 {
			continue
		}
		q := l.pending[0]
		since := latest(q.sent, e.stall)
		age := now.Sub(since)
		again(since.Add(HungAfter))
		if age < HungAfter {
			continue
		}
		if q.end <= l.kernel.Acked && !e.rough(now) {
			if age > s.hung {
				s.hung, s.what = age, q.kind.String()
			}
			continue
		}
		s.lossy = max(s.lossy, age)
	}
	return s
}

// trouble is since when the machine should have given a sign and may not have;
// zero: it owes none.
func (e *Evidence) trouble() time.Time {
	first := e.failing
	for _, l := range e.links {
		if u := l.unacked(); !u.IsZero() && (first.IsZero() || u.Before(first)) {
			first = u
		}
	}
	return first
}

// rough tells whether a path to the server has just lost packets, as far as
// any connection has shown.
func (e *Evidence) rough(now time.Time) bool {
	return !e.disturbed.IsZero() && now.Sub(e.disturbed) < Quiet
}

func (k Kind) String() string {
	switch k {
	case Connect:
		return "CONNECT"
	case Request:
		return "request"
	}
	return "ping"
}
