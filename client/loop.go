package client

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
)

// news is something that happened, for the loop.
type news struct {
	of    *session // whose; nil: the client's own
	event any      // for the core
}

// asked asks the loop for the state of the Heartbeat.
type asked chan<- adaptive.State

// loop is the client's one long-lived goroutine: it owns the core, the session
// and the timer.
type loop struct {
	*Client
	core    *core
	current *session // nil: no server holds the client
	offered *session // accepted, and neither adopted nor discarded yet
	trying  map[int]context.CancelFunc
	lostAt  time.Time // the last session was
	now     time.Time // of what the core decided last
}

func (c *Client) loop() {
	l := &loop{
		Client: c, trying: map[int]context.CancelFunc{},
		core: newCore(c.cfg, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))),
	}
	l.step(started{})
	for l.next() {
	}
	l.giveUp()
	if l.current != nil {
		c.leave(l.current)
		c.metrics.connected.Dec()
	}
	c.mu.Lock()
	c.heartbeat = l.core.rhythm.state
	c.mu.Unlock()
}

// next takes what comes next; false: nothing does.
func (l *loop) next() bool {
	var due <-chan time.Time
	if at := l.core.wake(); !at.IsZero() {
		c, stop := l.cfg.Clock.After(at.Sub(l.cfg.Clock.Now()))
		defer stop()
		due = c
	}
	select {
	case <-l.ctx.Done():
		return false
	case n := <-l.inbox:
		l.take(n)
	case <-due:
		// What has come counts before the time: an answer that waits to be
		// taken is not late.
		for waiting := true; waiting; {
			select {
			case n := <-l.inbox:
				l.take(n)
			default:
				waiting = false
			}
		}
		t := ticked{}
		if l.current != nil && l.core.expects(l.cfg.Clock.Now()) {
			t.path = unacknowledged // nobody acknowledges datagrams
			if !l.current.byDatagram() {
				t.path = l.current.kernel.path()
			}
		}
		l.step(t)
	}
	return true
}

func (l *loop) take(n news) {
	switch e := n.event.(type) {
	case asked:
		e <- l.core.rhythm.state
		return
	case reply:
		if n.of == l.current {
			l.replied(n.of, e)
		}
		return
	case unreachable:
		if n.of != l.current || !n.of.byDatagram() {
			n.of.line.tried = trials
			return
		}
		n.event = broke(e)
	case summoned:
		if l.current == nil || !l.current.byDatagram() {
			return
		}
	case spared:
		l.settleBy(l.current)
		return
	case wanted:
		if s := l.current; s != nil && s.byDatagram() {
			l.step(summoned{}) // the next connection is told of all watches
			return
		} else if s != nil {
			l.wg.Go(func() { l.subscribe(s, e.watch) })
		}
		return
	case unwanted:
		if s := l.current; s != nil && !s.byDatagram() {
			l.wg.Go(func() { s.unsubscribe(e.filter) })
			l.settleBy(s)
		}
		return
	case accepted:
		delete(l.trying, e.id)
		l.offered = n.of
		l.metrics.attempts.WithLabelValues(outcomeAccepted).Inc()
	case rejected:
		delete(l.trying, e.id)
		if l.core.attempts[e.id] != "" {
			l.cfg.Logger.Debug("Attempt failed", "client", l.cfg.ClientID, "address", e.address, "error", e.err)
			l.metrics.attempts.WithLabelValues(outcomeOf(e.err)).Inc()
			l.setState(nil, e.err)
		}
	case heard:
		if n.of != l.current {
			return
		}
		if b := &l.core.beats; e.pong && len(b.sent) > 0 {
			l.metrics.answer.Observe(l.cfg.Clock.Now().Sub(b.sent[0].at).Seconds())
		}
	case broke, dismissed, spoke, declined:
		if n.of != l.current {
			return
		}
	}
	l.step(n.event)
}

func (l *loop) step(event any) {
	l.now = l.cfg.Clock.Now()
	for _, action := range l.core.step(l.now, event) {
		l.perform(action)
	}
}

// perform carries out one action.
func (l *loop) perform(action any) {
	switch a := action.(type) {
	case dial:
		ctx, cancel := context.WithCancel(l.ctx)
		l.trying[a.id] = cancel
		l.wg.Go(func() { defer cancel(); l.connect(ctx, a) })
	case giveUp:
		l.giveUp()
	case adopt:
		l.current, l.offered = l.offered, nil
		l.metrics.connected.Inc()
		l.setState(l.current, nil)
		if s := l.current; s.line != nil {
			l.wg.Go(func() { s.line.listen(func(e any) { s.tell(s, e) }) })
		}
		l.adopted(l.current)
		close(l.current.adopted)
	case discard:
		l.wg.Go(l.offered.close)
		l.offered = nil
	case ping:
		l.metrics.beats.Inc()
		s, now := l.current, l.cfg.Clock.Now()
		if !l.beatBy(s) {
			l.wg.Go(func() { s.beat(now) })
		}
	case report:
		if s := l.current; !s.byDatagram() { // for this alone nobody connects
			l.wg.Go(func() { l.report(s, a) })
		}
	case declare:
		if s := l.current; s.byDatagram() {
			l.metrics.changes.Inc()
			s.line.declare(time.Duration(a.seconds) * time.Second)
			l.beatBy(s)
		} else {
			l.wg.Go(func() { l.declare(s, a) })
		}
	case fit:
		l.current.kernel.fit(a.interval, l.patience())
	case hangUp:
		l.lostAt = l.cfg.Clock.Now()
		l.setState(nil, nil)
		l.metrics.connected.Dec()
		l.wg.Go(l.current.close)
		l.current = nil
	case tell:
		l.log(a.event)
		l.metrics.events.WithLabelValues(string(a.event.Kind)).Inc()
		l.events.emit(a.event)
	}
}

// patience is when the client has surely left a server that acknowledges nothing.
func (l *loop) patience() time.Duration {
	tries := l.cfg.Misses
	if l.cfg.Heartbeat != nil {
		tries = max(tries, 4)
	}
	return time.Duration(tries+1) * l.cfg.AckTimeout
}

func (l *loop) giveUp() {
	for id, cancel := range l.trying {
		cancel()
		delete(l.trying, id)
	}
}

// connect makes one attempt and hands its outcome to the loop.
func (c *Client) connect(ctx context.Context, d dial) {
	s, event := c.attempt(ctx, d)
	select {
	case c.inbox <- news{s, event}:
	case <-c.ctx.Done():
		if s != nil {
			c.leave(s)
		}
	}
}

// hear hands a session's news to the loop.
func (c *Client) hear(s *session, event any) {
	select {
	case <-s.adopted:
	case <-s.life.Done():
		return
	}
	select {
	case c.inbox <- news{s, event}:
	case <-s.life.Done():
	}
}

// leave says goodbye to the server, for Close to tell how it went.
func (c *Client) leave(s *session) {
	c.setState(nil, ErrClosed)
	err := s.goodbye(c.cfg.AckTimeout)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byeErr = err
}

func (c *Client) log(e Event) {
	log := c.cfg.Logger.With("client", c.cfg.ClientID, "server", e.Server, "address", e.Address)
	switch e.Kind {
	case Connected:
		log.Info("Connected", "previous", e.Previous, "reason", e.Reason)
	case Moved:
		log.Info("Moved", "previous", e.Previous, "reason", e.Reason)
	case Late:
		log.Warn("Answer is late")
	case Offline:
		log.Warn("Offline", "previous", e.Previous, "reason", e.Reason, "error", e.Err)
	}
}
