package sim

import "time"

// handler is whatever things happen to. kind tells it what, arg which; most
// events need no more, and so cost no allocation.
type handler interface{ handle(kind int, arg int64) }

// call is a handler that is one function.
type call func()

func (c call) handle(int, int64) { c() }

type event struct {
	at   time.Duration
	seq  uint64 // those of one moment happen in the order in which they were made
	kind int
	arg  int64
	h    handler
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// queue holds what is to happen, in a heap with four children a node: it is
// flatter than one with two, and a simulation waits for memory more than for
// comparisons.
type queue struct {
	now  time.Duration
	seq  uint64
	heap []event
	done uint64 // events so far
}

// at makes something happen at a time, or now if that has passed.
func (q *queue) at(at time.Duration, h handler, kind int, arg int64) {
	e := event{at: max(at, q.now), seq: q.seq, kind: kind, arg: arg, h: h}
	q.seq++
	q.heap = append(q.heap, e)
	i := len(q.heap) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if !e.before(&q.heap[parent]) {
			break
		}
		q.heap[i] = q.heap[parent]
		i = parent
	}
	q.heap[i] = e
}

// after calls f once d has passed.
func (q *queue) after(d time.Duration, f func()) { q.at(q.now+d, call(f), 0, 0) }

// run lets everything happen up to a time, and leaves the clock there.
func (q *queue) run(until time.Duration) {
	for len(q.heap) > 0 && q.heap[0].at <= until {
		e := q.pop()
		q.now = e.at
		q.done++
		e.h.handle(e.kind, e.arg)
	}
	q.now = until
}

func (q *queue) pop() event {
	top := q.heap[0]
	n := len(q.heap) - 1
	e := q.heap[n]
	q.heap[n] = event{}
	q.heap = q.heap[:n]
	if n == 0 {
		return top
	}
	i := 0
	for {
		first := 4*i + 1
		if first >= n {
			break
		}
		least := first
		for c := first + 1; c < min(first+4, n); c++ {
			if q.heap[c].before(&q.heap[least]) {
				least = c
			}
		}
		if !q.heap[least].before(&e) {
			break
		}
		q.heap[i] = q.heap[least]
		i = least
	}
	q.heap[i] = e
	return top
}

// process is one program on one machine: it can be stopped, starved, killed and
// started again. Events for it go through runs, which keeps those that come
// while it can't run until it can: that is what a kernel does with packets, and
// what a late timer is.
type process struct {
	w     *world
	place int
	// dead: there is no process. life counts those that there were.
	dead bool
	died time.Duration
	life int
	// stopped by SIGSTOP; stalled until then by a lack of CPU.
	stopped bool
	stalled time.Duration
	kept    time.Duration // how long it was, or will have been, stalled in all
	waking  bool          // an event that ends a stall is under way
	parked  []event
	// skew is how far its clock is ahead.
	skew time.Duration
}

// running tells whether it could take an event now.
func (p *process) running() bool { return !p.dead && !p.stopped && p.stalled <= p.w.now }

// runs tells whether an event can be taken now. If not, it is dropped (no
// process) or comes again when the process runs.
func (p *process) runs(h handler, kind int, arg int64) bool {
	switch {
	case p.dead:
		return false
	case p.running():
		return true
	}
	p.parked = append(p.parked, event{h: h, kind: kind, arg: arg})
	return false
}

// clock is the process's own.
func (p *process) clock() time.Time { return epoch.Add(p.w.now + p.skew) }

func (p *process) stop() { p.stopped = true }

func (p *process) resume() {
	p.stopped = false
	p.wake()
}

// stall keeps the process from running for d.
func (p *process) stall(d time.Duration) {
	if until := p.w.now + d; until > p.stalled {
		p.kept += until - max(p.stalled, p.w.now)
		p.stalled = until
	}
	if !p.waking {
		p.waking = true
		p.w.at(p.stalled, (*waker)(p), 0, 0)
	}
}

type waker process

func (k *waker) handle(int, int64) {
	p := (*process)(k)
	if p.stalled > p.w.now {
		p.w.at(p.stalled, k, 0, 0)
		return
	}
	p.waking = false
	p.wake()
}

// wake lets everything that waited happen, in its order.
func (p *process) wake() {
	if !p.running() {
		return
	}
	parked := p.parked
	p.parked = nil
	for _, e := range parked {
		p.w.at(p.w.now, e.h, e.kind, e.arg)
	}
}

// die ends the process, and all that it was about to do.
func (p *process) die() {
	p.dead, p.died, p.stopped, p.stalled, p.parked = true, p.w.now, false, 0, nil
}

// start begins a new life.
func (p *process) start() {
	p.dead = false
	p.life++
}
