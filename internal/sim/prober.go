package sim

import (
	"time"

	"github.com/rollcall-dev/rollcall/agent/probe"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	// doubtAfter, minRetry, maxRetry and rotationJitter are those of agent/probe.
	doubtAfter     = 400 * time.Millisecond
	minRetry       = 50 * time.Millisecond
	maxRetry       = time.Second
	rotationJitter = 0.2
)

// prober keeps a probe session on one server: the loop of agent/probe's Prober
// over the real Evidence and its real judgement.
type prober struct {
	a      *agent
	server *server
	slot   int // among the server's observers
	limits probe.Limits

	evidence  *probe.Evidence
	judgement probe.Judgement
	told      seen // what the board has
	life      int  // that answered last
	delay     time.Duration

	current, next *link
	dialling      bool
	made          int
	failures      int

	tickAt, retryAt, rotateAt time.Time
	posted                    time.Time // when the next wake is due
	gen                       int64
}

// link is one session.
type link struct {
	*conn
	connected, proven bool
	nextID            uint16
	ticks             int
	sent              time.Duration // when something last was
}

func (p *prober) begin() {
	now := p.a.clock()
	p.evidence, p.judgement, p.told = probe.NewEvidence(now), probe.Judgement{}, seen{}
	p.current, p.next, p.dialling, p.failures, p.life, p.delay = nil, nil, false, 0, 0, 0
	p.tickAt = now.Add(time.Duration(p.a.w.rnd.Int64N(int64(probe.Interval))))
	p.rotate(now)
	p.posted = time.Time{}
	p.dial(now)
	p.post()
}

// drop forgets everything, as the end of the process does.
func (p *prober) drop() {
	p.gen++
	for _, l := range p.links() {
		l.closed = true
	}
	p.current, p.next = nil, nil
}

func (p *prober) handle(_ int, gen int64) {
	if gen != p.gen || !p.a.runs(p, 0, gen) {
		return
	}
	p.posted = time.Time{}
	p.step(nil)
}

// event lets the loop take something that arrived, when the agent runs.
func (p *prober) event(f func(now time.Time)) {
	life := p.a.life
	if !p.a.running() {
		if !p.a.dead {
			p.a.parked = append(p.a.parked, event{h: call(func() {
				if p.a.life == life {
					p.event(f)
				}
			})})
		}
		return
	}
	p.step(f)
}

// step is one turn of the loop.
func (p *prober) step(f func(now time.Time)) {
	now := p.a.clock()
	if p.a.watch.Check(p.tickAt, now) {
		p.a.stalledAt()
	}
	if last := p.a.watch.Last(); !last.IsZero() {
		p.evidence.Stalled(last)
	}
	if f != nil {
		f(now)
	}
	p.tick(now)
	p.judge(now)
	p.post()
}

// post has the loop woken when something is due.
func (p *prober) post() {
	due := p.tickAt
	if t := p.judgement.Next; !t.IsZero() && t.Before(due) {
		due = t
	}
	if p.idle() && p.retryAt.Before(due) {
		due = p.retryAt
	}
	if due.Equal(p.posted) {
		return
	}
	p.gen++
	p.posted = due
	p.a.w.at(p.a.w.now+due.Sub(p.a.clock()), p, 0, p.gen)
}

func (p *prober) idle() bool { return p.current == nil && p.next == nil && !p.dialling }

func (p *prober) tick(now time.Time) {
	if !p.judgement.Next.IsZero() && !now.Before(p.judgement.Next) {
		p.sample(now)
	}
	if !now.Before(p.tickAt) {
		if p.tickAt = p.tickAt.Add(probe.Interval); !p.tickAt.After(now) {
			p.tickAt = now.Add(probe.Interval)
		}
		p.sample(now)
		p.ask(p.current, now)
		p.ask(p.next, now)
		p.doubt(now)
	}
	if p.idle() && !now.Before(p.retryAt) {
		p.dial(now)
	}
}

func (p *prober) doubt(now time.Time) {
	if p.current == nil || p.next != nil || p.dialling || now.Before(p.retryAt) {
		return
	}
	old := !now.Before(p.rotateAt) && p.evidence.Oldest(p.current.id, now) <= probe.Interval
	if old || p.evidence.Troubled(p.current.id, doubtAfter, now) {
		p.dial(now)
	}
}

func (p *prober) links() []*link {
	l := make([]*link, 0, 2)
	for _, s := range []*link{p.current, p.next} {
		if s != nil {
			l = append(l, s)
		}
	}
	return l
}

func (p *prober) sample(now time.Time) {
	if p.current != nil {
		p.evidence.Sampled(p.current.id, p.current.sample(), now)
	}
	if p.next != nil {
		p.evidence.Sampled(p.next.id, p.next.sample(), now)
	}
}

func (p *prober) ask(l *link, now time.Time) {
	if l == nil || !l.connected {
		return
	}
	l.ticks++
	if l.ticks%2 == 1 {
		p.write(l, probe.Ping, 0, 2, now)
		return
	}
	if l.nextID++; l.nextID == 0 {
		l.nextID = 1
	}
	p.write(l, probe.Beat, l.nextID, 19, now)
}

func (p *prober) write(l *link, kind probe.Kind, id uint16, size int, now time.Time) {
	if p.evidence.Asked(l.id, kind, id, size, now) {
		l.sent = p.a.w.now
		l.up.send(message{kind: kind, id: id}, uint64(size))
		return
	}
	l.keepAlive()
}

// keepAlive is TCP's own, where nothing else is sent for long: a machine that
// does not know the connection any more says so.
func (l *link) keepAlive() {
	w := l.w
	if w.now-l.sent < probe.KeepAliveAfter {
		return
	}
	l.sent = w.now
	if s := l.server; w.passes(l.prober.a.place, s.place) && s.life != l.life {
		l.reset()
	}
}

// dial tries to connect, for DialTimeout: a SYN and one more.
func (p *prober) dial(now time.Time) {
	p.dialling = true
	p.made++
	p.syn(p.made, now, p.a.w.now, synRTO)
}

func (p *prober) syn(id int, began time.Time, start, rto time.Duration) {
	w, s, life := p.a.w, p.server, p.a.life
	end := func(after time.Duration, r probe.DialResult) {
		w.after(after, func() {
			if p.a.life == life {
				p.event(func(now time.Time) { p.dialled(id, began, r, now) })
			}
		})
	}
	if w.passes(p.a.place, s.place) && w.passes(s.place, p.a.place) {
		trip := 2 * w.delay(p.a.place, s.place)
		if s.dead {
			end(trip, probe.DialRefused)
		} else {
			end(trip, probe.DialConnected)
		}
		return
	}
	if w.now+rto-start >= probe.DialTimeout {
		end(start+probe.DialTimeout-w.now, probe.DialFailed)
		return
	}
	w.after(rto, func() {
		if p.a.life == life {
			p.syn(id, began, start, 2*rto)
		}
	})
}

func (p *prober) dialled(id int, began time.Time, r probe.DialResult, now time.Time) {
	p.dialling = false
	if r == probe.DialConnected && p.server.dead {
		r = probe.DialRefused
	}
	if r != probe.DialConnected {
		p.evidence.Dialed(0, began, now, r, probe.Kernel{})
		p.backOff(now)
		return
	}
	l := &link{conn: newConn(p, id, p.server)}
	p.evidence.Dialed(id, began, now, r, probe.Kernel{})
	if p.current == nil {
		p.current = l
	} else {
		p.next = l
	}
	p.write(l, probe.Connect, 0, 60, now)
}

// answer takes a packet from a session that is asked.
func (p *prober) answer(c *conn, m message) {
	p.event(func(now time.Time) {
		l := p.of(c)
		if l == nil {
			return
		}
		if _, ok := p.evidence.Answered(l.id, m.kind, m.id, p.limits.AnswerTime, now); !ok {
			return
		}
		switch m.kind {
		case probe.Beat:
			p.delay = m.delay
		case probe.Connect:
			l.connected, p.life = true, c.life
			p.ask(l, now)
			return
		}
		p.proved(l, now)
	})
}

func (p *prober) of(c *conn) *link {
	switch {
	case p.current != nil && p.current.conn == c:
		return p.current
	case p.next != nil && p.next.conn == c:
		return p.next
	}
	return nil
}

// proved: the session has had an answer from behind CONNACK.
func (p *prober) proved(l *link, now time.Time) {
	if !l.proven {
		l.proven, p.failures = true, 0
	}
	old := p.current
	if p.next == nil || !p.next.proven || old == nil {
		return
	}
	if p.evidence.Oldest(old.id, now) > probe.Interval && !p.evidence.Troubled(old.id, doubtAfter, now) {
		return
	}
	old.closed = true
	p.evidence.Closed(old.id, false, now)
	p.current, p.next = p.next, nil
	p.rotate(now)
}

// severed: the server's process has ended, and its kernel says so.
func (p *prober) severed() {
	for _, l := range p.links() {
		l.reset()
	}
}

// lost is the reset of a connection.
func (p *prober) lost(c *conn) {
	p.event(func(now time.Time) {
		l := p.of(c)
		if l == nil {
			return
		}
		l.closed = true
		p.evidence.Closed(l.id, true, now)
		if l == p.current {
			p.current = nil
		} else {
			p.next = nil
		}
		if p.current == nil {
			p.current, p.next = p.next, nil
		}
		switch {
		case p.current != nil:
		case l.proven:
			p.retryAt = now
		default:
			p.backOff(now)
		}
	})
}

func (p *prober) backOff(now time.Time) {
	bound := min(minRetry<<min(p.failures, 10), maxRetry)
	p.failures++
	p.retryAt = now.Add(time.Duration(p.a.w.rnd.Int64N(int64(bound))) + 1)
}

func (p *prober) rotate(now time.Time) {
	d := float64(probe.Rotation) * (1 + rotationJitter*(2*p.a.w.rnd.Float64()-1))
	p.rotateAt = now.Add(time.Duration(d))
}

// judge forms an observation, and tells it if it says something new, by the rule
// of agent/report.
func (p *prober) judge(now time.Time) {
	p.judgement = p.evidence.Judge(p.limits, p.judgement, now)
	j := &p.judgement
	if j.Band == "" {
		return
	}
	t, limit := &p.told, p.limits.AnswerTime
	median := p.evidence.Median(max(p.limits.Window, time.Second), now)
	if t.band == j.Band && t.life == p.life && !wire.Crosses(t.answer, median, limit/2) && !wire.Crosses(t.queueDelay, p.delay, limit) {
		return
	}
	*t = seen{server: p.server.id, slot: p.slot, band: j.Band, life: p.life, queueDelay: p.delay, detail: j.Detail}
	t.answer = median
	p.a.tell(p.server.id)
}
