package probe

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	ms   = time.Millisecond
	step = 10 * ms // of simulated time
)

var limits = Limits{AnswerTime: 500 * ms, Window: time.Second}

// phase is how server and path behave for a while.
type phase struct {
	lasts time.Duration
	// delay of answers; hang: no answers at all, until a later phase gives them.
	delay time.Duration
	hang  bool
	// cut: nothing arrives, so that the kernel retransmits. loses: everything
	// arrives, after retransmissions.
	cut, loses bool
	// remake opens a second session at the beginning of the phase.
	remake bool
	// dies: connections are reset, and further ones refused.
	dies bool
	// stalled: the observer itself does not run.
	stalled bool
}

// sim plays phases against an Evidence, with one question every Interval.
type sim struct {
	now   time.Time
	e     *Evidence
	j     Judgement
	links map[int]*simLink
	made  int
	down  bool
	log   []string
	start time.Time
	check func(*sim, phase)
}

type simLink struct {
	written, acked uint64
	disturbance    uint64
	asked          []simQuestion
}

type simQuestion struct {
	kind  Kind
	sent  time.Time
	ready time.Time // when the answer arrives; zero: not decided
}

func newSim() *sim {
	start := time.Unix(1_000_000, 0)
	s := &sim{now: start, start: start, e: NewEvidence(start), links: map[int]*simLink{}}
	s.open()
	return s
}

func (s *sim) open() {
	s.made++
	s.e.Dialed(s.made, s.now, s.now, DialConnected, Kernel{})
	s.links[s.made] = &simLink{}
	s.ask(s.made, Connect)
}

func (s *sim) ask(id int, k Kind) {
	if s.e.Asked(id, k, 0, 2, s.now) {
		l := s.links[id]
		l.written += 2
		l.asked = append(l.asked, simQuestion{kind: k, sent: s.now})
	}
}

func (s *sim) run(phases ...phase) {
	for _, p := range phases {
		if p.remake {
			s.open()
		}
		end := s.now.Add(p.lasts)
		for s.now.Before(end) {
			if p.stalled {
				s.now = end
				s.e.Stalled(s.now)
			}
			s.step(p)
			s.now = s.now.Add(step)
		}
	}
}

func (s *sim) step(p phase) {
	switch {
	case p.dies:
		for id := range s.links {
			s.e.Closed(id, true, s.now)
			delete(s.links, id)
		}
		s.e.Dialed(0, s.now, s.now, DialRefused, Kernel{})
		s.down = true
	case s.down && p.cut:
		s.e.Dialed(0, s.now, s.now, DialFailed, Kernel{})
	case s.down:
		s.down = false
		s.open()
	}
	tick := s.now.Sub(s.start)%Interval == 0
	for _, id := range slices.Sorted(maps.Keys(s.links)) {
		l := s.links[id]
		if !p.cut {
			for i := range l.asked {
				if q := &l.asked[i]; !p.hang && q.ready.IsZero() {
					q.ready = latest(q.sent.Add(p.delay), s.now)
				}
			}
			for len(l.asked) > 0 && !l.asked[0].ready.IsZero() && !l.asked[0].ready.After(s.now) {
				s.e.Answered(id, l.asked[0].kind, 0, limits.AnswerTime, s.now)
				l.asked = l.asked[1:]
			}
			l.acked = l.written
		}
		if tick {
			if p.cut && l.acked < l.written || p.loses {
				l.disturbance++
			}
			s.ask(id, Ping)
		}
		if tick || !s.j.Next.IsZero() && !s.now.Before(s.j.Next) {
			s.e.Sampled(id, Kernel{Acked: l.acked, Disturbance: l.disturbance}, s.now)
		}
	}
	was := s.j
	s.j = s.e.Judge(limits, s.j, s.now)
	if s.j.Band != was.Band {
		s.log = append(s.log, fmt.Sprintf("%s@%d", s.j.Band, s.now.Sub(s.start).Milliseconds()))
	}
	if s.check != nil {
		s.check(s, p)
	}
}

func TestBands(t *testing.T) {
	ok := phase{lasts: 5 * time.Second, delay: step}
	with := func(d time.Duration, p phase) phase { p.lasts = d; return p }
	for name, c := range map[string]struct {
		phases []phase
		want   string
	}{
		"a server that answers is ok": {
			[]phase{ok}, "ok@10"},
		"answers later than the limit for the window are slow, and in time for the window ok again": {
			[]phase{ok, with(4*time.Second, phase{delay: 800 * ms}), ok}, "ok@10 slow@6200 ok@10600"},
		"answers that are late but under the limit are ok": {
			[]phase{ok, with(4*time.Second, phase{delay: 500 * ms})}, "ok@10"},
		"a stopped server is hung 1.4 s after the first question that it did not answer": {
			[]phase{ok, with(4*time.Second, phase{hang: true})}, "ok@10 hung@6400"},
		"a pause below 1.4 s is nothing": {
			[]phase{ok, with(1200*ms, phase{hang: true}), ok}, "ok@10"},
		"a stopped server that wakes is slow until its old answers are out of the window": {
			[]phase{ok, with(3*time.Second, phase{hang: true}), ok}, "ok@10 hung@6400 slow@8000 ok@9000"},
		"a server that stops while the session is being re-made is hung": {
			[]phase{ok, with(4*time.Second, phase{hang: true, remake: true})}, "ok@10 hung@6400"},
		"a server that was stopped before the first session is hung": {
			[]phase{with(4*time.Second, phase{hang: true})}, "hung@1400"},
		"a dead process is refused at once": {
			[]phase{ok, with(time.Second, phase{dies: true}), ok}, "ok@10 refused@5000 ok@6010"},
		"a path that is cut is unreachable, and never hung": {
			[]phase{ok, with(4*time.Second, phase{cut: true})}, "ok@10 unreachable@6400"},
		"a server that stops on a path that loses packets is lossy until the path has been quiet": {
			[]phase{ok, with(2*time.Second, phase{hang: true, loses: true}), with(4*time.Second, phase{hang: true})},
			"ok@10 lossy@6400 hung@9800"},
		"late answers on a path that loses packets are lossy": {
			[]phase{ok, with(3*time.Second, phase{delay: 800 * ms, loses: true}), ok}, "ok@10 lossy@6200 ok@10800"},
		"packets lost under answers in time are nothing": {
			[]phase{ok, with(3*time.Second, phase{delay: step, loses: true}), ok}, "ok@10"},
		"an observer that did not run accuses nobody": {
			[]phase{ok, with(3*time.Second, phase{delay: step, stalled: true}), ok}, "ok@10"},
		"an observer that did not run begins to count when it runs again": {
			[]phase{ok, with(3*time.Second, phase{hang: true, stalled: true}), with(3*time.Second, phase{hang: true})},
			"ok@10 hung@9400"},
		"a machine that goes away after its process is unreachable": {
			[]phase{ok, with(time.Second, phase{dies: true}), with(3*time.Second, phase{cut: true})},
			"ok@10 refused@5000 unreachable@7400"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim()
			s.run(c.phases...)
			if got := strings.Join(s.log, " "); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestTwoConnectionsEndedUnansweredAreRefused(t *testing.T) {
	now := time.Unix(1000, 0)
	e := NewEvidence(now)
	for i := 1; i <= 2; i++ {
		if got := e.Judge(limits, Judgement{}, now).Band; got != "" {
			t.Fatalf("after %d connections: %q, want nothing yet", i-1, got)
		}
		e.Dialed(i, now, now, DialConnected, Kernel{})
		e.Asked(i, Connect, 0, 10, now)
		e.Closed(i, true, now)
	}
	if got := e.Judge(limits, Judgement{}, now).Band; got != wire.BandRefused {
		t.Errorf("got %q, want refused", got)
	}
}

func TestFailureOfOurOwnAbstains(t *testing.T) {
	now := time.Unix(1000, 0)
	e := NewEvidence(now)
	e.Dialed(0, now, now, DialLocal, Kernel{})
	if got := e.Judge(limits, Judgement{}, now).Band; got != wire.BandLossy {
		t.Errorf("got %q, want lossy", got)
	}
}

func TestUnaskedAnswersAreTold(t *testing.T) {
	now := time.Unix(1000, 0)
	e := NewEvidence(now)
	e.Dialed(1, now, now, DialConnected, Kernel{})
	e.Asked(1, Beat, 7, 10, now)
	if _, ok := e.Answered(1, Beat, 8, time.Second, now); ok {
		t.Error("a PUBACK for another packet was accepted")
	}
	if _, ok := e.Answered(1, Ping, 0, time.Second, now); ok {
		t.Error("a PINGRESP without a PINGREQ was accepted")
	}
	if _, ok := e.Answered(1, Beat, 7, time.Second, now); !ok {
		t.Error("the answer to a beat was not accepted")
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	e := NewEvidence(now)
	e.Dialed(1, now, now, DialConnected, Kernel{})
	for i := range 10_000 {
		now = now.Add(Interval)
		e.Asked(1, Ping, 0, 2, now)
		if i%3 > 0 {
			e.Answered(1, Ping, 0, time.Second, now)
		}
	}
	if n := len(e.links[0].pending); n > maxPending {
		t.Errorf("%d questions are kept", n)
	}
	if n := len(e.answers); n > maxAnswers {
		t.Errorf("%d answers are kept", n)
	}
}

// TestBandProperties plays random phases and holds the bands to what they claim.
func TestBandProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		phases := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) phase {
			p := phase{
				lasts: time.Duration(rapid.IntRange(1, 500).Draw(t, "lasts")) * step,
				delay: rapid.SampledFrom([]time.Duration{step, 400 * ms, 600 * ms, 1300 * ms, 2 * time.Second}).Draw(t, "delay"),
			}
			switch rapid.SampledFrom([]string{"", "", "hang", "cut", "loses", "loses hang", "remake", "remake hang", "dies", "stalled"}).Draw(t, "what") {
			case "hang":
				p.hang = true
			case "cut":
				p.cut = true
			case "loses":
				p.loses = true
			case "loses hang":
				p.loses, p.hang = true, true
			case "remake":
				p.remake = true
			case "remake hang":
				p.remake, p.hang = true, true
			case "dies":
				p.dies = true
			case "stalled":
				p.stalled = true
			}
			return p
		}), 1, 8).Draw(t, "phases")

		s := newSim()
		s.check = func(s *sim, p phase) {
			j := s.j
			if j.Band == wire.BandHung != (obviouslyHung(s) || j.Band == wire.BandHung && !obviouslyAnswered(s, j.Since)) {
				t.Fatalf("%v: band %q, want hung: %v", s.now.Sub(s.start), j.Band, obviouslyHung(s))
			}
			if j.Band == wire.BandRefused && len(s.links) > 0 && obviouslyAnswered(s, j.Since) && s.e.lates == 0 {
				t.Fatalf("%v: refused, although it answers", s.now.Sub(s.start))
			}
			if !j.Next.IsZero() && !j.Next.After(s.now) {
				t.Fatalf("%v: told to look again %v ago", s.now.Sub(s.start), s.now.Sub(j.Next))
			}
			// Nothing changes by time alone before Next.
			horizon := s.now.Add(10 * time.Second)
			if !j.Next.IsZero() {
				horizon = j.Next
			}
			for _, at := range []time.Time{s.now, s.now.Add(horizon.Sub(s.now) / 2), horizon.Add(-1)} {
				if again := s.e.Judge(limits, j, at); again.Band != j.Band || !again.Since.Equal(j.Since) {
					t.Fatalf("%v: %q, to be looked at again in %v, became %q %v later without any event",
						s.now.Sub(s.start), j.Band, horizon.Sub(s.now), again.Band, at.Sub(s.now))
				}
			}
		}
		s.run(phases...)
	})
}

// obviouslyHung says what hung means, from the bare records.
func obviouslyHung(s *sim) bool {
	return slices.ContainsFunc(s.e.links, func(l *link) bool {
		if len(l.pending) == 0 {
			return false
		}
		old := s.now.Sub(l.pending[0].sent) >= HungAfter && (s.e.stall.IsZero() || s.now.Sub(s.e.stall) >= HungAfter)
		acked := l.pending[0].end <= l.kernel.Acked
		quiet := s.e.disturbed.IsZero() || s.now.Sub(s.e.disturbed) >= Quiet
		return old && acked && quiet
	})
}

// obviouslyAnswered tells whether an answer that counts came after t.
func obviouslyAnswered(s *sim, t time.Time) bool {
	return s.e.inTime.After(t) || s.e.late.After(t)
}

// Why it can't be asked is for people: another reason is told as soon as there is one.
func TestWhyAServerIsNotAskedIsAsItIsNow(t *testing.T) {
	begun := time.Now()
	e := NewEvidence(begun)
	var j Judgement
	for i, c := range []struct {
		why   string
		since int // the second at which that was entered
	}{{"no Secret", 0}, {"no Secret", 0}, {"no right", 2}, {"no right", 2}} {
		e.Unasked(c.why)
		j = e.Judge(limits, j, begun.Add(time.Duration(i)*time.Second))
		if want := begun.Add(time.Duration(c.since) * time.Second); j.Band != wire.BandUnasked || j.Detail != c.why || !j.Since.Equal(want) {
			t.Errorf("after %d s: %+v, want %q since %v", i, j, c.why, want)
		}
	}
}
