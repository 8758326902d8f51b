package client

import (
	"math/rand/v2"
	"time"
)

// beats decides, for one session, when to send a PINGREQ, when an answer is
// late, and when there were too many of them.
type beats struct {
	interval   time.Duration // between two beats, before jitter
	jitter     float64       // share of interval, either way
	ackTimeout time.Duration
	misses     int // late answers in a row until the server is given up

	// next is when the next beat is due.
	next time.Time
	// sent are the times of the unanswered PINGREQs, oldest first: a server
	// answers them in order, so that each PINGRESP has its own answer time.
	sent []time.Time
	// deadline is when the answer being waited for is late; zero: none is.
	deadline time.Time
	// missed counts late answers since the last timely one.
	missed int
	// excused: a deadline passed while this process was not running, and that
	// was not counted. At most once between two timely answers, or a starved
	// process would never leave.
	excused bool
	// last is when the last PINGREQ was sent: the lease counts from there.
	last time.Time
}

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
	b.send(now, rnd)
}

// send accounts for a PINGREQ that is sent now.
func (b *beats) send(now time.Time, rnd *rand.Rand) {
	b.sent = append(b.sent, now)
	b.last = now
	if b.deadline.IsZero() {
		b.deadline = now.Add(b.ackTimeout)
	}
	share := 1 + b.jitter*(2*rnd.Float64()-1)
	b.next = now.Add(time.Duration(float64(b.interval) * share))
}

// heard takes a packet from the server. A PINGRESP answers the oldest PINGREQ;
// one that comes late doesn't end a row of misses, or a server that is always
// late would never be left. Any other packet is proof of life and clears all.
func (b *beats) heard(now time.Time, pong bool) {
	timely := true
	if pong && len(b.sent) > 0 {
		timely = now.Sub(b.sent[0]) <= b.ackTimeout
		b.sent = b.sent[1:]
	} else {
		b.sent = nil
	}
	if timely {
		b.missed, b.excused = 0, false
	}
	b.deadline = time.Time{}
	if len(b.sent) > 0 {
		b.deadline = b.sent[0].Add(b.ackTimeout)
	}
}

// tick looks at the time, and accounts for the PINGREQ that its answer asks for.
func (b *beats) tick(now time.Time, rnd *rand.Rand) verdict {
	if !b.deadline.IsZero() && !now.Before(b.deadline) {
		// A timer that is far behind says that this process did not run; its
		// answers may lie unread.
		if now.Sub(b.deadline) > b.ackTimeout/2 && !b.excused {
			b.excused = true
			b.deadline = time.Time{}
			b.send(now, rnd)
			return beat
		}
		b.missed++
		b.deadline = time.Time{}
		if b.missed >= b.misses {
			return leave
		}
		b.send(now, rnd)
		return late
	}
	if !now.Before(b.next) {
		b.send(now, rnd)
		return beat
	}
	return wait
}

// wake is when to look again.
func (b *beats) wake() time.Time {
	if !b.deadline.IsZero() && b.deadline.Before(b.next) {
		return b.deadline
	}
	return b.next
}
