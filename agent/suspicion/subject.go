// Package suspicion is what a designated reporter does for its nodes: it pings
// their agents, doubts those that don't answer, and tells a dead machine from a
// dead agent by whether anything at its address answers TCP.
//
// Subject decides and is pure; Reporter does the I/O. What the words mean for a
// node is internal/verdict's business: this is one witness.
package suspicion

import (
	"fmt"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	// PingEvery is the time between pings of an agent that answers, and
	// DoubtEvery of one that doesn't: a silent machine is known for dead after
	// 1.6 to 2.3 s, about when its sessions end. Pings are most of what an idle
	// agent costs.
	PingEvery  = 800 * time.Millisecond
	DoubtEvery = 80 * time.Millisecond
	// PingsUntilSuspect in a row must stay unanswered before that is told: with
	// 30 % of packets lost (half of the pings), 1 in 250 does so by chance.
	PingsUntilSuspect = 8
	// PingsUntilDecided in a row must stay unanswered before anything worse is.
	PingsUntilDecided = 15
	// DialsAfter unanswered pings, connections to the machine are tried, one
	// each DialEvery.
	DialsAfter = 4
	DialEvery  = 250 * time.Millisecond
	// DialTimeout bounds such an attempt.
	DialTimeout = 500 * time.Millisecond
	// DialsUntilDead in a row must get no sign of the machine.
	DialsUntilDead = 3
	// settledEvery is the time between pings, and between attempts to connect,
	// once it is decided.
	settledEvery = time.Second
)

// Contact is what an attempt to connect to the machine shows.
type Contact uint8

// What may come of it.
const (
	// ContactNone: no sign, or a router's word that there will be none.
	ContactNone Contact = iota
	// ContactMade: accepted or reset. The machine lives.
	ContactMade
	// ContactUnknown: it failed here, and says nothing.
	ContactUnknown
)

// Subject is one node as its reporter sees it. It is pure: methods record what
// happened, and return; Word is what to tell; Next is what to do, and when.
type Subject struct {
	word   wire.NodeWord
	since  time.Time
	detail string

	// unanswered counts pings in a row; doubted is when the first of them was sent.
	unanswered int
	doubted    time.Time
	// sightless counts attempts to connect in a row that gave no sign; sighted
	// is when one last did, since the doubt began (zero: none did).
	sightless int
	sighted   time.Time

	pingAt, dialAt time.Time
	// asked is when the last ping was sent, or what somebody else asked that was answered.
	asked time.Time
	left  bool // gossip heard it say goodbye
}

// NewSubject begins at now: the word is empty until something is known.
func NewSubject(now time.Time) *Subject { return &Subject{pingAt: now} }

// Word is what this reporter says of the node; ok is false while it can't tell.
func (s *Subject) Word() (w wire.Suspicion, ok bool) {
	return wire.Suspicion{Word: s.word, Since: s.since, Detail: s.detail}, s.word != ""
}

// Next is when to ping, and when to try to connect (zero: not now).
func (s *Subject) Next() (ping, dial time.Time) { return s.pingAt, s.dialAt }

// Pinging notes that a ping is sent now.
func (s *Subject) Pinging(now time.Time) {
	s.asked = now
	s.pingAt = now.Add(PingEvery)
	switch {
	case s.settled():
		s.pingAt = now.Add(settledEvery)
	case s.unanswered > 0:
		s.pingAt = now.Add(DoubtEvery)
	}
}

// Dialing notes that an attempt to connect begins now.
func (s *Subject) Dialing(now time.Time) {
	s.dialAt = now.Add(DialEvery)
	if s.settled() {
		s.dialAt = now.Add(settledEvery)
	}
}

// Ponged records the end of a ping that was sent at sent. Any answer ends all doubt.
func (s *Subject) Ponged(answered bool, sent, now time.Time) {
	if answered {
		s.left = false
		s.trust(now)
		s.say(wire.NodeAlive, "", now)
		return
	}
	if s.unanswered++; s.unanswered == 1 {
		s.doubted = sent
	}
	if s.unanswered == 1 && !s.settled() {
		s.pingAt = now
	}
	if s.unanswered == DialsAfter && !s.left {
		s.dialAt = now
	}
	s.decide(now)
}

// Answered records that the agent has answered what somebody else asked it, at sent:
// that is as good as a ping, so that the next one is due PingEvery after it. What was
// sent before the last ping, or before the doubt began, tells nothing new.
func (s *Subject) Answered(sent, now time.Time) {
	news := s.asked
	if s.unanswered > 0 {
		news = s.doubted
	}
	if !sent.After(news) {
		return
	}
	s.Ponged(true, sent, now)
	if sent.After(s.asked) {
		s.asked = sent
		s.pingAt = sent.Add(PingEvery)
	}
}

// Contacted records the end of an attempt to connect.
func (s *Subject) Contacted(c Contact, now time.Time) {
	if s.unanswered < DialsAfter {
		return // it has answered meanwhile
	}
	switch c {
	case ContactMade:
		s.sightless, s.sighted = 0, now
	case ContactNone:
		s.sightless++
	}
	s.decide(now)
}

// Gossiped records what gossip says: lost is reason to look at once, left is
// believed, and neither is needed for a decision.
func (s *Subject) Gossiped(lost, left bool, now time.Time) {
	switch {
	case left && !s.left:
		s.left = true
		s.say(wire.NodeLeft, "it said goodbye", now)
	case lost && s.unanswered == 0 && now.Before(s.pingAt):
		s.pingAt = now
	}
}

// Stalled drops the doubts that this process's own absence may have caused.
// What was decided before stands until an answer.
func (s *Subject) Stalled(now time.Time) {
	if !s.settled() {
		s.trust(now)
	}
}

func (s *Subject) trust(now time.Time) {
	s.unanswered, s.sightless = 0, 0
	s.sighted, s.dialAt = time.Time{}, time.Time{}
	if at := now.Add(PingEvery); s.pingAt.After(at) {
		s.pingAt = at
	}
}

func (s *Subject) settled() bool {
	return s.word == wire.NodeDead || s.word == wire.NodeAgentDown || s.word == wire.NodeLeft
}

// decide draws what follows from silence. A machine that said goodbye is left
// alone: that it is silent now is what it said.
func (s *Subject) decide(now time.Time) {
	if s.left {
		return
	}
	silent := func() string {
		return fmt.Sprintf("%d pings unanswered in %.2fs", s.unanswered, now.Sub(s.doubted).Seconds())
	}
	switch {
	case s.unanswered >= PingsUntilDecided && s.sightless >= DialsUntilDead:
		s.say(wire.NodeDead, silent()+fmt.Sprintf(", %d connections without a sign", s.sightless), now)
	case s.unanswered >= PingsUntilDecided && !s.sighted.IsZero() && s.sightless < DialsUntilDead:
		s.say(wire.NodeAgentDown, silent()+", but the machine answers TCP", now)
	case s.unanswered >= PingsUntilSuspect && !s.settled():
		s.say(wire.NodeSuspect, silent(), now)
	}
}

func (s *Subject) say(w wire.NodeWord, detail string, now time.Time) {
	if s.word == w {
		return
	}
	s.word, s.since, s.detail = w, now, detail
}
