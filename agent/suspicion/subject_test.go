package suspicion

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// play runs a subject for a while in steps of 10 ms: pings are answered, or
// not, after pingTime, and attempts to connect end with c after dialTime.
func play(s *Subject, start, from time.Time, lasts time.Duration, answers bool, c Contact, log *[]string) time.Time {
	const pingTime, dialTime = 150 * time.Millisecond, DialTimeout
	type end struct {
		at, sent time.Time
		ping     bool
	}
	var ends []end
	now := from
	said := func() {
		w, ok := s.Word()
		if line := fmt.Sprintf("%s@%d", w.Word, now.Sub(start).Milliseconds()); ok && w.Since.Equal(now) {
			if n := len(*log); n == 0 || (*log)[n-1] != line {
				*log = append(*log, line)
			}
		}
	}
	for ; now.Before(from.Add(lasts)); now = now.Add(10 * time.Millisecond) {
		rest := ends[:0:0]
		for _, e := range ends {
			switch {
			case e.at.After(now):
				rest = append(rest, e)
			case e.ping:
				s.Ponged(answers, e.sent, now)
			default:
				s.Contacted(c, now)
			}
		}
		ends = rest
		ping, dial := s.Next()
		if !ping.After(now) {
			s.Pinging(now)
			took := pingTime
			if answers {
				took = 0
			}
			ends = append(ends, end{now.Add(took), now, true})
		}
		if !dial.IsZero() && !dial.After(now) {
			s.Dialing(now)
			took := dialTime
			if c == ContactMade {
				took = 0
			}
			ends = append(ends, end{now.Add(took), now, false})
		}
		said()
	}
	return now
}

func TestSubject(t *testing.T) {
	type phase struct {
		lasts      time.Duration
		answers    bool
		contact    Contact
		lost, left bool
		stalled    bool
	}
	sec := time.Second
	ok := phase{lasts: 4 * sec, answers: true}
	for name, c := range map[string]struct {
		phases []phase
		want   string
	}{
		"an agent that answers is alive": {
			[]phase{ok}, "alive@10"},
		"a machine without any sign is dead in about 2 s": {
			[]phase{ok, {lasts: 4 * sec}}, "alive@10 suspect@4780 dead@5460"},
		"an agent that is silent on a machine that answers is down": {
			[]phase{ok, {lasts: 4 * sec, contact: ContactMade}}, "alive@10 suspect@4780 agentDown@5340"},
		"an agent that can't be told from a dead machine stays suspect": {
			[]phase{ok, {lasts: 4 * sec, contact: ContactUnknown}}, "alive@10 suspect@4780"},
		"a short silence is nothing": {
			[]phase{ok, {lasts: 600 * time.Millisecond}, ok}, "alive@10"},
		"any answer ends all doubt": {
			[]phase{ok, {lasts: 4 * sec}, ok}, "alive@10 suspect@4780 dead@5460 alive@8520"},
		"a machine that dies under its dead agent is dead": {
			[]phase{ok, {lasts: 4 * sec, contact: ContactMade}, {lasts: 5 * sec}}, "alive@10 suspect@4780 agentDown@5340 dead@10960"},
		"a machine that comes back without its agent is agentDown": {
			[]phase{ok, {lasts: 4 * sec}, {lasts: 4 * sec, contact: ContactMade}}, "alive@10 suspect@4780 dead@5460 agentDown@8470"},
		"gossip's loss makes it look at once, and nothing else": {
			[]phase{ok, {lasts: 4 * sec, lost: true}}, "alive@10 suspect@4780 dead@5460"},
		"gossip's loss of an agent that answers is nothing": {
			[]phase{ok, {lasts: 4 * sec, lost: true, answers: true}}, "alive@10"},
		"a goodbye is believed, and silence after it means nothing": {
			[]phase{ok, {lasts: 30 * sec, left: true}, ok}, "alive@10 left@4000 alive@34010"},
		"a node that never answered is judged as well": {
			[]phase{{lasts: 4 * sec}}, "suspect@780 dead@1460"},
		"silence while the reporter did not run is its own": {
			[]phase{ok, {lasts: 1200 * time.Millisecond}, {lasts: sec, stalled: true}, ok}, "alive@10 suspect@4780 alive@6230"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Unix(1000, 0)
			s, now := NewSubject(start), start
			var log []string
			for _, p := range c.phases {
				if p.lost || p.left {
					s.Gossiped(p.lost, p.left, now)
				}
				if p.stalled {
					s.Stalled(now)
				}
				now = play(s, start, now, p.lasts, p.answers, p.contact, &log)
			}
			if got := strings.Join(log, " "); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestWhatOthersAskedIsAsGoodAsAPing(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for _, c := range []struct {
		name       string
		doubt      int // ms, when a ping was sent that is not answered; 0: there is none
		sent       int // ms, when the others asked
		wantDoubts int
		wantNext   int // ms
	}{
		{"it spares the next ping", 0, 500, 0, 1300},
		{"what was asked before the last ping spares none", 0, -1, 0, 800},
		{"it ends a doubt that is older", 100, 101, 0, 901},
		{"a doubt that is younger stays", 100, 99, 1, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewSubject(start)
			s.Pinging(start)
			s.Ponged(true, start, at(1))
			if c.doubt > 0 {
				s.Pinging(at(c.doubt))
				s.Ponged(false, at(c.doubt), at(200))
			}
			s.Answered(at(c.sent), at(790))
			if next, _ := s.Next(); !next.Equal(at(c.wantNext)) {
				t.Errorf("the next ping is due after %v, want %d ms", next.Sub(start), c.wantNext)
			}
			if s.unanswered != c.wantDoubts {
				t.Errorf("%d pings are unanswered, want %d", s.unanswered, c.wantDoubts)
			}
		})
	}
}

// TestSubjectProperties throws random events at a subject, in random order.
func TestSubjectProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1000, 0)
		s := NewSubject(now)
		unanswered, sightless, sighted := 0, 0, false
		for range rapid.IntRange(1, 200).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1000).Draw(t, "ms")) * time.Millisecond)
			was := s.word
			switch rapid.SampledFrom([]string{"silence", "silence", "silence", "none", "none", "answer", "made", "unknown", "lost", "stalled", "ping", "dial", "others"}).Draw(t, "event") {
			case "silence":
				s.Ponged(false, now, now)
				unanswered++
			case "answer":
				s.Ponged(true, now, now)
				unanswered, sightless, sighted = 0, 0, false
				if s.word != wire.NodeAlive {
					t.Fatalf("%s after an answer", s.word)
				}
			case "none":
				s.Contacted(ContactNone, now)
				if unanswered >= DialsAfter {
					sightless++
				}
			case "made":
				s.Contacted(ContactMade, now)
				if unanswered >= DialsAfter {
					sightless, sighted = 0, true
				}
				if s.word == wire.NodeDead {
					t.Fatal("dead, although it has just answered TCP")
				}
			case "unknown":
				s.Contacted(ContactUnknown, now)
			case "lost":
				s.Gossiped(true, false, now)
			case "stalled":
				s.Stalled(now)
				if was != wire.NodeDead && was != wire.NodeAgentDown {
					unanswered, sightless, sighted = 0, 0, false
				}
			case "others":
				s.Answered(now.Add(-time.Duration(rapid.IntRange(0, 400).Draw(t, "ago"))*time.Millisecond), now)
				if unanswered > 0 && s.unanswered == 0 {
					unanswered, sightless, sighted = 0, 0, false
				}
				if next, _ := s.Next(); next.After(now.Add(max(PingEvery, settledEvery))) {
					t.Fatalf("the next ping is due only in %v", next.Sub(now))
				}
			case "ping":
				s.Pinging(now)
			case "dial":
				s.Dialing(now)
			}
			if s.word == was {
				continue
			}
			switch s.word {
			case wire.NodeDead:
				if unanswered < PingsUntilDecided || sightless < DialsUntilDead {
					t.Fatalf("dead after %d unanswered pings and %d attempts without a sign", unanswered, sightless)
				}
			case wire.NodeAgentDown:
				if unanswered < PingsUntilDecided || !sighted {
					t.Fatalf("agentDown after %d unanswered pings, machine seen: %v", unanswered, sighted)
				}
			case wire.NodeSuspect:
				if unanswered < PingsUntilSuspect {
					t.Fatalf("suspect after %d unanswered pings", unanswered)
				}
			}
		}
	})
}
