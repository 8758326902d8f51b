package client

import (
	"math/rand/v2"
	"time"
)

// beats decides, for one session, when to beat, when an answer is late, and
// when there were too many of them. How long the connection may be silent is
// its rhythm's to say.
type beats struct {
	rhythm *rhythm
	trip   roundTrip
	tally  *tally
	misses int // late answers in a row until the server is given up

	// next is when the next beat is due.
	next time.Time
	// sent are the unanswered beats, oldest first: a server answers them in
	// order, so that each PINGRESP has its own answer time.
	sent []sent
	// deadline is when the answer being waited for is late; zero: none is.
	deadline time.Time
	// missed counts late answers since the last timely one.
	missed int
	// excused: a deadline passed while this process was not running, and that
	// was not counted. At most once between two timely answers, or a starved
	// process would never leave.
	excused bool
	// last is when the last packet was sent: the lease counts from there.
	last time.Time
	// touched is when the last packet was sent or came (the kernel acknowledges
	// it): a NAT's memory is as old.
	touched time.Time
}

// sent is a beat on its way.
type sent struct {
	at time.Time
	// silence is how long the connection had been silent before it.
	silence time.Duration
	// plain: it is a PINGREQ, and not a publication that counts as a beat; only
	// of those the rhythm hears.
	plain bool
}

// path is the kernel's word on the way to the other end.
type path int

const (
	// unknown: the kernel can't say.
	unknown path = iota
	// acknowledged: the other end's kernel has all that was sent. If it does not
	// answer, it is the program there, and not the way.
	acknowledged
	// unacknowledged: it does not, or its word gets lost.
	unacknowledged
)

// verdict is what beats makes of the time.
type verdict int

const (
	wait  verdict = iota
	beat          // send a PINGREQ
	late          // an answer is late: tell, and send a PINGREQ at once
	leave         // an answer is late, and it was the last one
)

// begin starts with a beat at once: it proves to the server that the client
// lives, whatever else was queued there when it was let in.
func (b *beats) begin(now time.Time, rnd *rand.Rand) {
	b.touched = now
	b.send(now, rnd)
	b.next = b.rhythm.first(now, rnd)
}

// send accounts for a PINGREQ that is sent now.
func (b *beats) send(now time.Time, rnd *rand.Rand) { b.spoke(now, rnd, true) }

// spoke accounts for a packet that is sent now and will be answered.
func (b *beats) spoke(now time.Time, rnd *rand.Rand, plain bool) {
	b.sent = append(b.sent, sent{at: now, silence: now.Sub(b.touched), plain: plain})
	b.last, b.touched = now, now
	if b.deadline.IsZero() {
		b.deadline = now.Add(b.trip.timeout())
	}
	b.next = b.rhythm.after(now, rnd)
}

// passOver takes that the beat of that time is answered: earlier ones will not be,
// their datagrams or answers are lost. It is false where that beat is not waited for.
func (b *beats) passOver(at time.Time) bool {
	for len(b.sent) > 0 && b.sent[0].at.Before(at) {
		b.sent = b.sent[1:]
	}
	return len(b.sent) > 0 && b.sent[0].at.Equal(at)
}

// heard takes a packet from the server. A PINGRESP answers the oldest PINGREQ;
// one that comes late doesn't end a row of misses, or a server that is always
// late would never be left. Any other packet is proof of life and clears all.
func (b *beats) heard(now time.Time, pong bool, rnd *rand.Rand) {
	timely, waited := true, len(b.sent) > 0
	var answered sent
	if waited {
		answered = b.sent[0]
	}
	if pong && waited {
		took := now.Sub(answered.at)
		timely = took <= b.trip.timeout()
		b.trip.observe(took)
		b.sent = b.sent[1:]
	} else {
		b.sent = nil
	}
	if timely {
		b.missed, b.excused = 0, false
	}
	b.deadline = time.Time{}
	if len(b.sent) > 0 {
		b.deadline = b.sent[0].at.Add(b.trip.timeout())
	}
	b.touched = now
	if waited && answered.plain {
		b.tally.add(answered.silence, true)
	}
	if waited && b.rhythm.adapts() {
		if answered.plain {
			b.rhythm.answered(now, answered.silence)
		}
		// From the answer, since the kernel's acknowledgement of it is the last
		// that a NAT saw: the next silence is not shorter than what was decided.
		b.next = b.rhythm.after(now, rnd)
	}
}

// tick looks at the time, and accounts for the PINGREQ that its answer asks
// for. p matters when an answer is late.
func (b *beats) tick(now time.Time, rnd *rand.Rand, p path) verdict {
	if !b.deadline.IsZero() && !now.Before(b.deadline) {
		return b.overdue(now, rnd, p)
	}
	if !now.Before(b.next) {
		b.send(now, rnd)
		return beat
	}
	return wait
}

func (b *beats) overdue(now time.Time, rnd *rand.Rand, p path) verdict {
	// A timer that is far behind says that this process did not run; its
	// answers may lie unread.
	if now.Sub(b.deadline) > b.trip.timeout()/2 && !b.excused {
		b.excused = true
		b.deadline = time.Time{}
		b.send(now, rnd)
		return beat
	}
	b.deadline = time.Time{}
	b.missed++
	gone := b.missed >= b.misses
	if n := len(b.sent); b.rhythm.adapts() && p != acknowledged && n > 0 && b.sent[n-1].plain {
		gone = b.rhythm.failed(now, b.sent[n-1].silence)
	} else if gone {
		b.rhythm.lost(now, 0) // it tells nothing of the way
	}
	if gone {
		if n := len(b.sent); n > 0 && b.sent[0].plain && (p == unacknowledged || p == unknown && b.rhythm.adapts()) {
			b.tally.add(b.sent[0].silence, false)
		}
		return leave
	}
	b.send(now, rnd)
	return late
}

// broke takes that the connection has ended, on its own or by the server's word.
func (b *beats) broke(now time.Time, said bool) {
	silence := time.Duration(0)
	if n := len(b.sent); !said && n > 0 && b.sent[n-1].plain {
		silence = b.sent[n-1].silence
		b.tally.add(b.sent[0].silence, false)
	}
	b.rhythm.lost(now, silence)
}

// again sends a beat at once, and begins to wait for answers anew.
func (b *beats) again(now time.Time, rnd *rand.Rand) {
	b.deadline = time.Time{}
	b.send(now, rnd)
}

// retime applies a change of the rhythm.
func (b *beats) retime(rnd *rand.Rand) { b.next = b.rhythm.after(b.last, rnd) }

// wake is when to look again.
func (b *beats) wake() time.Time {
	if !b.deadline.IsZero() && b.deadline.Before(b.next) {
		return b.deadline
	}
	return b.next
}
