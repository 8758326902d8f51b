package sim

import (
	"time"

	"github.com/rollcall-dev/rollcall/agent/probe"
)

// conn is one TCP connection of a probe, with what the kernels at both ends
// know of it: that is what tells a server that hangs from a path that loses
// packets. Clients' connections are modelled more coarsely (transfer).
type conn struct {
	w        *world
	id       int
	prober   *prober
	server   *server
	life     int // of the server's process
	up, down flow
	closed   bool
}

// message is a question or its answer.
type message struct {
	kind  probe.Kind
	id    uint16
	end   uint64
	delay time.Duration // the server's own word, in the answer to a Beat
}

// flow is one direction.
type flow struct {
	c        *conn
	from, to int
	written  uint64
	// flying arrive in order at their times; stuck wait for a retransmission.
	flying, stuck []message
	rto           time.Duration
	// delivered is what the other kernel has; acked by acks, which arrive later.
	delivered, acked uint64
	acks             []ack
	reacking         bool
	reRTO            time.Duration
	// again counts retransmissions by the sender, odd what the receiver got
	// twice or out of order.
	again, odd uint64
}

type ack struct {
	at  time.Duration
	end uint64
}

// What happens to a flow.
const (
	flowArrives = iota
	flowAgain
	flowAckAgain
)

func newConn(p *prober, id int, s *server) *conn {
	c := &conn{w: p.a.w, id: id, prober: p, server: s, life: s.life}
	c.up = flow{c: c, from: p.a.place, to: s.place, rto: firstRTO}
	c.down = flow{c: c, from: s.place, to: p.a.place, rto: firstRTO}
	return c
}

// send writes a message to the socket.
func (f *flow) send(m message, size uint64) {
	if f.c.closed {
		return
	}
	f.written += size
	m.end = f.written
	w := f.c.w
	ok := w.passes(f.from, f.to)
	switch {
	case len(f.stuck) > 0:
		f.stuck = append(f.stuck, m)
		if ok {
			f.odd++ // it arrives before what is stuck
		}
	case ok:
		f.fly(m)
	default:
		f.stuck = append(f.stuck, m)
		w.at(w.now+f.rto, f, flowAgain, 0)
	}
}

func (f *flow) fly(m message) {
	w := f.c.w
	f.flying = append(f.flying, m)
	w.at(w.now+w.delay(f.from, f.to), f, flowArrives, 0)
}

func (f *flow) handle(kind int, _ int64) {
	if f.c.closed {
		return
	}
	w := f.c.w
	switch kind {
	case flowArrives:
		m := f.flying[0]
		f.flying = f.flying[1:]
		f.delivered = m.end
		f.acknowledge()
		f.c.receive(f, m)
	case flowAgain:
		f.again++
		if !w.passes(f.from, f.to) {
			f.rto = min(2*f.rto, lastRTO)
			w.at(w.now+f.rto, f, flowAgain, 0)
			return
		}
		f.rto = firstRTO
		for _, m := range f.stuck {
			f.fly(m)
		}
		f.stuck = nil
	case flowAckAgain:
		f.reacking = false
		if f.settle(); f.acked >= f.delivered {
			return
		}
		f.again++
		if w.passes(f.from, f.to) {
			f.odd++ // it comes twice
			f.acknowledge()
			return
		}
		f.ackAgain()
	}
}

// acknowledge sends the receiver's word on all that it has.
func (f *flow) acknowledge() {
	w := f.c.w
	if w.passes(f.to, f.from) {
		f.acks = append(f.acks, ack{w.now + w.delay(f.to, f.from), f.delivered})
		f.reRTO = firstRTO
		if len(f.acks) > 32 {
			f.settle()
		}
		return
	}
	f.ackAgain()
}

func (f *flow) ackAgain() {
	if f.reacking {
		return
	}
	f.reacking = true
	f.reRTO = min(max(2*f.reRTO, firstRTO), lastRTO)
	f.c.w.at(f.c.w.now+f.reRTO, f, flowAckAgain, 0)
}

// settle takes the acknowledgements that have arrived.
func (f *flow) settle() {
	n := 0
	for n < len(f.acks) && f.acks[n].at <= f.c.w.now {
		f.acked = max(f.acked, f.acks[n].end)
		n++
	}
	if n > 0 {
		f.acks = append(f.acks[:0], f.acks[n:]...)
	}
}

// sample is the word of the prober's kernel.
func (c *conn) sample() probe.Kernel {
	c.up.settle()
	return probe.Kernel{Acked: c.up.acked, Disturbance: c.up.again + c.down.odd}
}

func (c *conn) receive(f *flow, m message) {
	if f == &c.up {
		c.server.asked(c, m)
		return
	}
	c.prober.answer(c, m)
}

// reset is the other kernel's word that there is no such process: it reaches
// the prober unless the path is cut.
func (c *conn) reset() {
	if c.closed {
		return
	}
	c.w.transfer(c.server.place, c.prober.a.place, func() bool { return !c.closed }, func() { c.prober.lost(c) })
}
