package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"time"
)

// handle takes what a dialer or a reader tells.
func (p *Prober) handle(ctx context.Context, e event, now time.Time) {
	switch {
	case e.dialed != nil:
		p.dialed(ctx, e, now)
	case e.session != p.current && e.session != p.next:
		// Late news of a session that was given up.
	case e.packet != nil:
		p.arrived(e, now)
	case e.err != nil:
		p.lost(e.session, e.err, now)
	}
}

func (p *Prober) dialed(ctx context.Context, e event, now time.Time) {
	p.dialing = false
	d := e.dialed
	if d.err != nil {
		if ctx.Err() != nil {
			return
		}
		p.evidence.Dialed(0, d.began, now, d.result, Kernel{})
		p.cfg.Metrics.sessions.WithLabelValues(outcome(d.result)).Inc()
		if d.result == DialLocal {
			p.cfg.Logger.Warn("Probe cannot connect from here", "server", p.cfg.Server, "error", d.err)
		}
		p.backOff(maxRetry, now)
		return
	}
	s := e.session
	p.cfg.Metrics.sessions.WithLabelValues(outcome(d.result)).Inc()
	p.evidence.Dialed(s.id, d.began, e.at, d.result, d.kernel)
	if p.current == nil {
		p.current = s
	} else {
		p.next = s
	}
	hello := s.hello
	s.hello = nil
	if s.below != nil {
		p.evidence.Asked(s.id, Connect, 0, 0, now) // what is written for it is counted below TLS
	}
	p.wg.Go(func() { s.read(hello, p.events, p.done) })
	if s.below == nil {
		p.write(s, Connect, 0, hello, now)
	}
}

// arrived takes a packet from a session that is asked.
func (p *Prober) arrived(e event, now time.Time) {
	s, k := e.session, e.packet
	if k.goodbye {
		p.cfg.Logger.Info("Server ended a probe", "server", p.cfg.Server, "reason", k.reason)
		return // the end of the connection follows
	}
	took, ok := p.evidence.Answered(s.id, k.kind, k.id, p.cfg.Limits.AnswerTime, e.at)
	if !ok {
		p.cfg.Logger.Warn("Server answered what was not asked", "server", p.cfg.Server, "kind", k.kind)
		p.drop(s, false, now)
		p.backOff(maxRetry, now)
		return
	}
	p.cfg.Metrics.answers.Observe(took.Seconds())
	if k.queueDelay >= 0 {
		p.seen.QueueDelay, p.news = k.queueDelay.Microseconds(), true
	}
	if k.kind != Connect {
		p.proven(s, now)
		return
	}
	if k.reason != 0 {
		p.cfg.Metrics.sessions.WithLabelValues("notAdmitted").Inc()
		p.cfg.Logger.Warn("Server does not admit probes", "server", p.cfg.Server, "reason", k.reason)
		p.drop(s, false, now)
		p.failures = max(p.failures, 3)
		p.backOff(refusedRetry, now)
		if at := now.Add(min(k.retryAfter, time.Minute)); at.After(p.retryAt) {
			p.retryAt = at
		}
		return
	}
	s.connected = true
	if k.incarnation != "" {
		p.seen.Incarnation, p.news = k.incarnation, true
	}
	p.ask(s, now)
}

// proven: the session has had an answer from behind CONNACK. It replaces the
// one before, unless that one owes an answer, which is evidence.
func (p *Prober) proven(s *session, now time.Time) {
	if !s.proven {
		s.proven, p.failures = true, 0
	}
	old := p.current
	if p.next == nil || !p.next.proven || old == nil {
		return
	}
	if p.evidence.Oldest(old.id, now) > Interval && !p.evidence.Troubled(old.id, doubtAfter, now) {
		return
	}
	p.close(old, true)
	p.evidence.Closed(old.id, false, now)
	p.current, p.next = p.next, nil
	p.rotate(now)
}

// lost: the connection has ended, by itself.
func (p *Prober) lost(s *session, err error, now time.Time) {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		p.cfg.Logger.Warn("Server shows a certificate that is not good here", "server", p.cfg.Server, "error", err)
	}
	p.cfg.Logger.Debug("Probe session ended", "server", p.cfg.Server, "error", err)
	proven := s.proven
	p.drop(s, endedByPeer(err), now)
	if p.current != nil {
		return // the other one goes on
	}
	if proven {
		p.retryAt = now // at once: a refusal now tells that the process is gone
		return
	}
	p.backOff(maxRetry, now)
}

// drop closes a session and forgets it.
func (p *Prober) drop(s *session, byPeer bool, now time.Time) {
	p.close(s, false)
	p.evidence.Closed(s.id, byPeer, now)
	if s == p.current {
		p.current = nil
	}
	if s == p.next {
		p.next = nil
	}
	if p.current == nil {
		p.current, p.next = p.next, nil
	}
}

func (p *Prober) close(s *session, politely bool) {
	if s == nil {
		return
	}
	if politely && s.connected {
		s.raw.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, _ = s.conn.Write(goodbye) // the close says the same
	}
	s.raw.Close()
}

// backOff sets when to try again: at random up to a bound that doubles.
func (p *Prober) backOff(most time.Duration, now time.Time) {
	bound := min(minRetry<<min(p.failures, 10), most)
	p.failures++
	p.retryAt = now.Add(rand.N(bound) + 1)
}
