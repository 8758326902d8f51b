package probe

import (
	"slices"
	"time"
)

const (
	// HungAfter is how old an unanswered question must be before its silence
	// means something. With a question every Interval, that is seven in a row.
	HungAfter = 1400 * time.Millisecond
	// Quiet is how long a connection must have been without disturbance before
	// silence on it is the server's doing and not the path's.
	Quiet = 3 * time.Second
	// Interval is the time between two questions on one session.
	Interval = 200 * time.Millisecond

	// maxPending bounds what is asked of a server that doesn't answer; more
	// questions would only fill its receive buffer.
	maxPending = 64
	// maxAnswers bounds what is kept of answers, for the median.
	maxAnswers = 64
)

// Kind of a question that a server must answer.
type Kind uint8

// The questions.
const (
	Connect Kind = iota // CONNECT, answered by CONNACK
	Ping                // PINGREQ, answered by PINGRESP
	Beat                // PUBLISH of a beat with QoS 1, answered by PUBACK
	Request             // what a service of any kind is asked; no CONNECT precedes it
)

// Kernel is the word of the kernels at both ends on one connection.
type Kernel struct {
	// Acked counts payload bytes of ours that the other kernel has acknowledged.
	Acked uint64
	// Disturbance counts signs of a path that loses packets: retransmissions of
	// ours, and segments of theirs that came twice or out of order.
	Disturbance uint64
}

// DialResult is how an attempt to connect ended.
type DialResult uint8

// What may come of an attempt to connect.
const (
	DialConnected DialResult = iota
	DialRefused              // a reset: the machine lives, no process listens
	DialFailed               // nothing came back, or a router said that nothing will
	DialLocal                // it failed on this machine: says nothing of the server
)

// question is one that is not answered yet.
type question struct {
	kind   Kind
	packet uint16 // the packet identifier of a Beat
	sent   time.Time
	end    uint64 // payload bytes written on the connection up to its last
}

type answer struct {
	at   time.Time
	took time.Duration
}

// link is what is known of one connection.
type link struct {
	id        int
	connected bool       // CONNACK has come
	pending   []question // oldest first; the head is the oldest unanswered
	written   uint64
	kernel    Kernel
	progress  time.Time // when Kernel.Acked was last seen to grow
}

// Evidence is what the probes of one server have seen, bounded in size. Its
// methods record; Judge decides. It is pure and belongs to one goroutine.
type Evidence struct {
	began time.Time
	// stall is when the observer itself last came back from not running.
	// Whatever was asked before counts as asked then, and its answer for nothing.
	stall time.Time

	links []*link
	// disturbed is when Kernel.Disturbance was last seen to grow on any connection,
	// the ones that are closed included: a young one has no history of its own by
	// which to tell a bad path from a hung server. Zero: never.
	disturbed time.Time

	// inTime and late are when the last such answer came; lates counts late
	// answers since the last that was in time.
	inTime, late time.Time
	lates        int
	answers      []answer // the last maxAnswers, oldest first

	// reached is when the machine last gave any sign: a connection, an
	// acknowledgement, an answer, a reset.
	reached time.Time
	// failing is when the first attempt to connect began that has failed since
	// the last sign; zero: none has.
	failing time.Time
	// refused is set while the last attempts to connect met nobody; broken
	// counts connections in a row that ended before they were answered.
	refused bool
	broken  int
	// local is set while attempts fail on this machine.
	local bool
	// turned counts attempts in a row to make a second connection that failed while
	// the kernel there went on with the first.
	turned int
	// wrong is the last answer that was not as it should be; empty: none since one was.
	wrong string
	// unasked is why nothing was asked on the last connection; empty: something was.
	unasked string
}

// NewEvidence begins at now, with nothing seen.
func NewEvidence(now time.Time) *Evidence { return &Evidence{began: now} }

// Stalled notes that the observer was not running until now.
func (e *Evidence) Stalled(now time.Time) { e.stall = latest(e.stall, now) }

// Dialed records the end of an attempt that began at began. For DialConnected,
// id names the connection from now on and k is the baseline of its kernel.
func (e *Evidence) Dialed(id int, began, now time.Time, r DialResult, k Kernel) {
	e.local = r == DialLocal
	switch r {
	case DialConnected:
		e.refused = false
		e.turned = 0
		e.sign(now)
		l := &link{id: id, kernel: k, progress: now}
		if k.Disturbance > 0 {
			e.disturbed = now
		}
		e.links = append(e.links, l)
	case DialRefused:
		e.sign(now)
		e.refused = true
	case DialFailed:
		e.refused = false
		if e.failing.IsZero() {
			e.failing = began
		}
	}
}

// Asked records a question of size payload bytes. It tells whether there was
// room for it: when not, it must not be sent.
func (e *Evidence) Asked(id int, kind Kind, packet uint16, size int, now time.Time) bool {
	l := e.link(id)
	if l == nil || len(l.pending) >= maxPending {
		return false
	}
	l.written += uint64(size)
	l.pending = append(l.pending, question{kind: kind, packet: packet, sent: now, end: l.written})
	return true
}

// Written records how many payload bytes were written on a connection so far,
// where Asked was not told: all of them belong to the questions so far.
func (e *Evidence) Written(id int, total uint64) {
	l := e.link(id)
	if l == nil || total <= l.written {
		return
	}
	l.written = total
	if n := len(l.pending); n > 0 {
		l.pending[n-1].end = total
	}
}

// Answered records the answer to the oldest question of this kind (and packet
// identifier), within limit or not. It returns how long it took, and false when nothing of
// the kind was asked.
func (e *Evidence) Answered(id int, kind Kind, packet uint16, limit time.Duration, now time.Time) (time.Duration, bool) {
	l := e.link(id)
	if l == nil {
		return 0, false
	}
	i := slices.IndexFunc(l.pending, func(q question) bool { return q.kind == kind && q.packet == packet })
	if i < 0 {
		return 0, false
	}
	q := l.pending[i]
	l.pending = slices.Delete(l.pending, i, i+1)
	e.broken = 0
	e.unasked = ""
	e.sign(now)
	if kind == Connect || kind == Request {
		l.connected = true
	}
	took := now.Sub(q.sent)
	if q.sent.Before(e.stall) {
		return took, true
	}
	if took <= limit {
		e.inTime, e.lates, e.wrong = now, 0, ""
	} else {
		e.late = now
		e.lates++
	}
	if len(e.answers) == maxAnswers {
		e.answers = append(e.answers[:0], e.answers[1:]...)
	}
	e.answers = append(e.answers, answer{now, took})
	return took, true
}

// Wrong records an answer that is not as it should be: it is as good as one that
// is late, however soon it comes.
func (e *Evidence) Wrong(id int, kind Kind, what string, now time.Time) (time.Duration, bool) {
	took, ok := e.Answered(id, kind, 0, -1, now)
	if ok {
		e.wrong = what
	}
	return took, ok
}

// Unasked records that a connection was made and nothing asked on it, or nothing
// that the server could answer, for want of something that is not the server's
// doing. It accuses nobody.
func (e *Evidence) Unasked(why string) { e.unasked = why }

// TurnedAway records an attempt at another connection that failed while the
// kernel there goes on with one that exists: the path is good, and newcomers are
// not taken, as where the queue of those to be accepted is full.
func (e *Evidence) TurnedAway() { e.turned++ }

// Sampled records the kernel's word on a connection.
func (e *Evidence) Sampled(id int, k Kernel, now time.Time) {
	l := e.link(id)
	if l == nil {
		return
	}
	if k.Acked > l.kernel.Acked {
		l.progress = now
		e.sign(now)
	}
	if k.Disturbance > l.kernel.Disturbance {
		e.disturbed = now
	}
	l.kernel = k
}

// Closed forgets a connection. byPeer says that the other side ended it: one
// that it ends before CONNACK, twice in a row, is as good as refused.
func (e *Evidence) Closed(id int, byPeer bool, now time.Time) {
	l := e.link(id)
	if l == nil {
		return
	}
	e.links = slices.DeleteFunc(e.links, func(x *link) bool { return x == l })
	if !byPeer {
		return
	}
	e.sign(now)
	if !l.connected {
		if e.broken++; e.broken >= 2 {
			e.refused = true
		}
	}
}

// Troubled tells whether a connection has something outstanding that the
// kernel there has not acknowledged for d: reason to try another.
func (e *Evidence) Troubled(id int, d time.Duration, now time.Time) bool {
	l := e.link(id)
	if l == nil {
		return false
	}
	since := l.unacked()
	return !since.IsZero() && now.Sub(latest(since, l.progress, e.stall)) >= d
}

// Reached is how long ago the machine last gave any sign.
func (e *Evidence) Reached(now time.Time) time.Duration { return now.Sub(e.reached) }

// Oldest is how long ago the oldest unanswered question of a connection was
// asked; zero: none is unanswered.
func (e *Evidence) Oldest(id int, now time.Time) time.Duration {
	l := e.link(id)
	if l == nil || len(l.pending) == 0 {
		return 0
	}
	return now.Sub(latest(l.pending[0].sent, e.stall))
}

// Median of the answer times within the window before now; zero: no answers.
func (e *Evidence) Median(window time.Duration, now time.Time) time.Duration {
	var took []time.Duration
	for _, a := range e.answers {
		if now.Sub(a.at) < window {
			took = append(took, a.took)
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)/2]
}

func (e *Evidence) sign(now time.Time) {
	e.reached = latest(e.reached, now)
	e.failing = time.Time{}
}

func (e *Evidence) link(id int) *link {
	for _, l := range e.links {
		if l.id == id {
			return l
		}
	}
	return nil
}

// unacked is when the oldest question was asked that the kernel there has not
// acknowledged; zero: it has acknowledged all.
func (l *link) unacked() time.Time {
	for _, q := range l.pending {
		if q.end > l.kernel.Acked {
			return q.sent
		}
	}
	return time.Time{}
}

func latest(times ...time.Time) time.Time {
	var t time.Time
	for _, x := range times {
		if x.After(t) {
			t = x
		}
	}
	return t
}
