package client

import (
	"math/rand/v2"
	"time"
)

// news is something that happened, for the loop.
type news struct {
	of    *session // whose; nil: the client's own
	event any      // for the core
}

// loop is the client's one long-lived goroutine: it owns the core, the session
// and the timer.
func (c *Client) loop() {
	core := newCore(c.cfg, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	timer := time.NewTimer(0)
	defer timer.Stop()
	var current *session
	step := func(event any) {
		for _, action := range core.step(time.Now(), event) {
			current = c.perform(action, current)
		}
	}
	take := func(n news) {
		if a, ok := n.event.(accepted); ok {
			current = n.of
			c.setState(current, nil)
			close(current.adopted)
			step(a)
			return
		}
		if n.of == current || n.of == nil {
			step(n.event)
		}
	}
	step(started{})
	for {
		timer.Stop()
		var due <-chan time.Time
		if at := core.wake(); !at.IsZero() {
			timer.Reset(time.Until(at))
			due = timer.C
		}
		select {
		case <-c.ctx.Done():
			if current != nil {
				c.leave(current)
			}
			return
		case n := <-c.inbox:
			take(n)
		case <-due:
			// What has come counts before the time: an answer that waits to
			// be taken is not late.
			for waiting := true; waiting; {
				select {
				case n := <-c.inbox:
					take(n)
				default:
					waiting = false
				}
			}
			step(ticked{})
		}
	}
}

// perform carries out one action, and returns the session after it.
func (c *Client) perform(action any, current *session) *session {
	switch a := action.(type) {
	case dial:
		c.wg.Go(func() { c.connect(a) })
	case ping:
		c.wg.Go(current.conn.ping)
	case hangUp:
		c.setState(nil, nil)
		c.wg.Go(current.close)
		return nil
	case tell:
		c.log(a.event)
		c.events.emit(a.event)
	}
	return current
}

// connect makes one attempt and hands its outcome to the loop.
func (c *Client) connect(d dial) {
	s, event := c.attempt(c.ctx, d)
	if r, ok := event.(rejected); ok && c.ctx.Err() == nil {
		c.cfg.Logger.Debug("Attempt failed", "client", c.cfg.ClientID, "address", d.address, "error", r.err)
		c.setState(nil, r.err)
	}
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
	case <-s.gone:
		return
	}
	select {
	case c.inbox <- news{s, event}:
	case <-s.gone:
	}
}

// leave says goodbye to the server, for Close to tell how it went.
func (c *Client) leave(s *session) {
	c.setState(nil, ErrClosed)
	err := s.goodbye()
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
