package sim

import (
	"time"

	"github.com/rollcall-dev/rollcall/agent/suspicion"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// pingTimeout is how long a ping of gossip is waited for.
const pingTimeout = gossipEvery * 3 / 8

// subject is one node as one of its reporters sees it: agent/suspicion's real
// Subject, with simulated pings and connections.
type subject struct {
	a    *agent
	node int
	slot int // among the node's reporters
	*suspicion.Subject
	told   wire.NodeWord
	due    time.Time
	posted time.Time
	gen    int64
}

func (s *subject) begin() {
	s.Subject, s.told, s.posted = suspicion.NewSubject(s.a.clock().Add(time.Duration(s.a.w.rnd.Int64N(int64(suspicion.PingEvery))))), "", time.Time{}
	s.post()
}

// What happens to a subject.
const (
	subjectWake = iota
	subjectPonged
	subjectSilent
	subjectContact // and the contact
)

func (s *subject) handle(kind int, arg int64) {
	if kind == subjectWake && arg != s.gen || !s.a.runs(s, kind, arg) {
		return
	}
	now := s.a.clock()
	if s.a.watch.Check(s.due, now) {
		for _, o := range s.a.subjects {
			o.Stalled(now)
		}
		s.a.stalledAt()
	}
	switch kind {
	case subjectWake:
		s.posted = time.Time{}
	case subjectPonged, subjectSilent:
		s.Ponged(kind == subjectPonged, epoch.Add(time.Duration(arg)), now)
	default:
		s.Contacted(suspicion.Contact(kind-subjectContact), now)
	}
	ping, dial := s.Next()
	if !ping.After(now) {
		s.Pinging(now)
		s.ping(now)
	}
	if !dial.IsZero() && !dial.After(now) {
		s.Dialing(now)
		s.dial()
	}
	if w, ok := s.Word(); ok && w.Word != s.told {
		s.told = w.Word
		s.a.tell(-1)
	}
	s.post()
}

func (s *subject) post() {
	ping, dial := s.Next()
	due := ping
	if !dial.IsZero() && dial.Before(due) {
		due = dial
	}
	s.due = due
	if due.Equal(s.posted) {
		return
	}
	s.gen++
	s.posted = due
	s.a.w.at(s.a.w.now+due.Sub(s.a.clock()), s, subjectWake, s.gen)
}

func (s *subject) ping(now time.Time) {
	w, to := s.a.w, s.a.w.agents[s.node]
	sent := int64(now.Sub(epoch))
	if to.running() && w.passes(s.a.place, to.place) && w.passes(to.place, s.a.place) {
		w.at(w.now+2*w.delay(s.a.place, to.place), s, subjectPonged, sent)
		return
	}
	w.at(w.now+pingTimeout, s, subjectSilent, sent)
}

func (s *subject) dial() {
	w := s.a.w
	if w.passes(s.a.place, s.node) && w.passes(s.node, s.a.place) {
		w.at(w.now+2*w.delay(s.a.place, s.node), s, subjectContact+int(suspicion.ContactMade), 0)
		return
	}
	w.at(w.now+suspicion.DialTimeout, s, subjectContact+int(suspicion.ContactNone), 0)
}
