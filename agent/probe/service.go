package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/agent/stall"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	// ServiceRate bounds what all observers together ask of one service in a
	// second: half of it on connections that are kept open, half on new ones, so
	// that it bounds new connections likewise.
	ServiceRate = 6
	// askAnew is how long a question on a new connection is left unanswered
	// before another is asked on another. The first is given up when the second
	// is answered, or as overdue as the first was.
	askAnew = 5 * time.Second
)

// ServiceEvery is the time between two questions of a kind by one of so many observers.
func ServiceEvery(observers int) time.Duration {
	return time.Duration(max(1, observers)) * time.Second * 2 / ServiceRate
}

// ServiceConfig is what a ServiceProber is made of.
type ServiceConfig struct {
	// Server is the name, "namespace/pod", and Address where it listens.
	Server, Address string
	Limits          Limits
	Way             Way
	// Every is the time between two questions on the kept connection, and between
	// two new connections: see ServiceEvery.
	Every time.Duration
	// Phase is when in each Every to ask first: observers of one server should differ.
	Phase time.Duration

	// Observe is called with each observation, from one goroutine: at once when
	// something changes, else at every question. It must not block.
	Observe func(wire.Observation)
	Stall   *stall.Watch
	Logger  *slog.Logger
	Metrics *Metrics
}

func (c *ServiceConfig) validate() error {
	if err := validate(c.Server, c.Address, c.Limits); err != nil {
		return err
	}
	switch {
	case c.Way == nil:
		return fmt.Errorf("%s: no way to ask it is given", c.Server)
	case c.Every < ServiceEvery(1):
		return fmt.Errorf("%s: a question every %v is more than %d a second", c.Server, c.Every, ServiceRate)
	case c.Phase < 0 || c.Phase >= c.Every:
		return fmt.Errorf("phase %v is not within %v", c.Phase, c.Every)
	}
	return nil
}

// ServiceProber asks one server that is not Rollcall's own, half of the time on
// a connection that it keeps, and half on new ones: a stuck worker shows in the
// first, a queue of connections that nobody accepts in the second.
type ServiceProber struct {
	cfg    ServiceConfig
	events chan serviceEvent
	done   chan struct{} // closed when the loop ends
	wg     sync.WaitGroup

	// All below belongs to the loop.

	evidence  *Evidence
	judgement Judgement
	well      bool  // it has answered in time, some time
	made      int   // connections, so far
	kept      *line // nil: none
	fresh     []*line
	keepAt    time.Time // when to ask on the kept connection
	freshAt   time.Time // when to ask on a new one
}

// line is one connection.
type line struct {
	id     int
	began  time.Time
	stop   context.CancelFunc
	ask    chan struct{} // one question at a time
	conn   *counted      // nil until it is connected
	socket socket
	busy   bool // a question is being asked, or the connection being made
}

// serviceEvent is what the goroutine of a line tells.
type serviceEvent struct {
	line *line
	at   time.Time
	conn net.Conn // it is connected
	err  error    // of the attempt to connect, where conn never came, else of a question
}

// NewService checks cfg; Run does the work.
func NewService(cfg ServiceConfig) (*ServiceProber, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &ServiceProber{cfg: cfg, events: make(chan serviceEvent, 16), done: make(chan struct{})}, nil
}

// Run probes until ctx ends.
func (p *ServiceProber) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	now := time.Now()
	p.evidence = NewEvidence(now)
	p.keepAt = now.Add(p.cfg.Phase)
	p.freshAt = now.Add((p.cfg.Phase + p.cfg.Every/2) % p.cfg.Every)
	defer func() {
		cancel()
		close(p.done)
		p.wg.Wait()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(time.Until(p.due()))
		var ev *serviceEvent
		select {
		case <-ctx.Done():
			return nil
		case e := <-p.events:
			ev = &e
		case <-timer.C:
		}
		now := time.Now()
		if p.cfg.Stall.Check(p.due(), now) {
			p.cfg.Logger.Debug("Probe loop was stalled", "server", p.cfg.Server)
		}
		p.evidence.Stalled(p.cfg.Stall.Last())
		if ev != nil {
			p.handle(ev, now)
		}
		p.judge(now, p.tick(ctx, now))
	}
}

// due is when the loop must wake.
func (p *ServiceProber) due() time.Time {
	due := p.keepAt
	for _, t := range []time.Time{p.freshAt, p.judgement.Next} {
		if !t.IsZero() && t.Before(due) {
			due = t
		}
	}
	return due
}

// tick does what time asks for, and tells whether it was time to ask.
func (p *ServiceProber) tick(ctx context.Context, now time.Time) bool {
	p.sample(now)
	asking := false
	if !now.Before(p.keepAt) {
		asking, p.keepAt = true, p.next(p.keepAt, now)
		switch {
		case p.cfg.Way.Once(): // there is nothing to keep
		case p.kept == nil:
			p.kept = p.dial(ctx, now)
		case !p.kept.busy:
			p.question(p.kept, now)
		}
	}
	if !now.Before(p.freshAt) {
		asking, p.freshAt = true, p.next(p.freshAt, now)
		if len(p.fresh) == 2 && now.Sub(p.fresh[1].began) >= HungAfter {
			p.drop(p.fresh[0], false, now)
		}
		if len(p.fresh) == 0 || len(p.fresh) == 1 && now.Sub(p.fresh[0].began) >= askAnew {
			p.fresh = append(p.fresh, p.dial(ctx, now))
		}
	}
	return asking
}

// next tick is counted from this one, unless that has passed too.
func (p *ServiceProber) next(t, now time.Time) time.Time {
	if t = t.Add(p.cfg.Every); t.After(now) {
		return t
	}
	return now.Add(p.cfg.Every)
}

func (p *ServiceProber) lines() []*line {
	l := slices.Clone(p.fresh)
	if p.kept != nil {
		l = append(l, p.kept)
	}
	return l
}

// sample reads what the kernel says of each connection, which must be known
// before anything is judged.
func (p *ServiceProber) sample(now time.Time) {
	for _, l := range p.lines() {
		if l.conn == nil {
			continue
		}
		p.evidence.Written(l.id, l.conn.written.Load())
		if k, ok := l.socket.sample(); ok {
			p.evidence.Sampled(l.id, k, now)
		}
	}
}

// question has the line ask once more.
func (p *ServiceProber) question(l *line, now time.Time) {
	if !p.evidence.Asked(l.id, Request, 0, 0, now) {
		return
	}
	l.busy = true
	l.ask <- struct{}{}
	p.cfg.Metrics.asked.Inc()
}

// dial begins a connection, and asks on it as soon as it is made.
func (p *ServiceProber) dial(ctx context.Context, now time.Time) *line {
	p.made++
	ctx, stop := context.WithCancel(ctx)
	l := &line{id: p.made, began: now, stop: stop, ask: make(chan struct{}, 1), busy: true}
	p.wg.Go(func() { p.speak(ctx, l) })
	return l
}

// speak connects, and asks whenever it is told to, until ctx ends or the
// connection does.
func (p *ServiceProber) speak(ctx context.Context, l *line) {
	tell := func(e serviceEvent) {
		e.line, e.at = l, time.Now()
		select {
		case p.events <- e:
		case <-p.done:
		}
	}
	conn, err := dialer.DialContext(ctx, "tcp", p.cfg.Address)
	if err != nil {
		tell(serviceEvent{err: err})
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	below := &counted{Conn: conn}
	tell(serviceEvent{conn: below})
	var asker Asker
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.ask:
		}
		if asker == nil {
			if asker, err = p.cfg.Way.Open(ctx, below); err != nil {
				tell(serviceEvent{err: err})
				return
			}
		}
		err = asker(ctx)
		tell(serviceEvent{err: err})
		if err != nil && !isWrong(err) {
			return
		}
	}
}

func isWrong(err error) bool {
	_, wrong := errors.AsType[*WrongAnswer](err)
	return wrong
}

// handle takes what a line tells.
func (p *ServiceProber) handle(e *serviceEvent, now time.Time) {
	l := e.line
	switch {
	case l != p.kept && !slices.Contains(p.fresh, l):
		// Late news of one that was given up.
	case e.conn != nil:
		p.connected(l, e, now)
	case l.conn == nil:
		p.unconnected(l, e.err, now)
	default:
		p.answered(l, e, now)
	}
}

func (p *ServiceProber) connected(l *line, e *serviceEvent, now time.Time) {
	l.conn = e.conn.(*counted)
	var k Kernel
	l.socket, k = newSocket(l.conn.Conn)
	p.evidence.Dialed(l.id, l.began, e.at, DialConnected, k)
	p.cfg.Metrics.sessions.WithLabelValues(outcome(DialConnected)).Inc()
	p.question(l, now)
}

func (p *ServiceProber) unconnected(l *line, err error, now time.Time) {
	result := dialResult(err)
	p.cfg.Metrics.sessions.WithLabelValues(outcome(result)).Inc()
	p.cfg.Logger.Debug("Probe cannot connect", "server", p.cfg.Server, "error", err)
	if result == DialFailed && p.goesOn(now) {
		p.evidence.TurnedAway()
	} else {
		p.evidence.Dialed(0, l.began, now, result, Kernel{})
	}
	p.remove(l)
}

// goesOn tells whether the kernel there has just acknowledged something on the
// connection that is kept.
func (p *ServiceProber) goesOn(now time.Time) bool {
	return p.kept != nil && p.kept.conn != nil && !p.evidence.Troubled(p.kept.id, doubtAfter, now) &&
		p.evidence.Reached(now) < p.cfg.Every+DialTimeout
}

// answered takes the end of a question.
func (p *ServiceProber) answered(l *line, e *serviceEvent, now time.Time) {
	l.busy = false
	wrong, isWrong := errors.AsType[*WrongAnswer](e.err)
	unaskable, isUnaskable := errors.AsType[*Unaskable](e.err)
	switch {
	case e.err == nil, errors.Is(e.err, errLast):
		if took, ok := p.evidence.Answered(l.id, Request, 0, p.cfg.Limits.AnswerTime, e.at); ok {
			p.cfg.Metrics.answers.Observe(took.Seconds())
		}
	case isWrong:
		p.evidence.Wrong(l.id, Request, wrong.Error(), e.at)
	case isUnaskable:
		p.evidence.Unasked(unaskable.Why)
	case errors.Is(e.err, errNotYet):
	case ended(e.err):
		p.cfg.Logger.Debug("Server ended a probe's connection", "server", p.cfg.Server, "error", e.err)
		p.drop(l, true, now)
		return
	default: // it is no answer that can be understood
		p.evidence.Wrong(l.id, Request, e.err.Error(), e.at)
	}
	if l != p.kept || e.err != nil && !isWrong {
		p.drop(l, false, now)
	}
	// One that was asked after another has been answered: the other is not waited for.
	for _, old := range slices.Clone(p.fresh) {
		if l != p.kept && old.began.Before(l.began) && now.Sub(old.began) >= askAnew {
			p.drop(old, false, now)
		}
	}
}

// ended tells whether a connection ended, rather than that what came was nonsense.
func ended(err error) bool {
	var ne net.Error
	return endedByPeer(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.Canceled) || errors.As(err, &ne) && ne.Timeout()
}

// drop closes a line and forgets it.
func (p *ServiceProber) drop(l *line, byPeer bool, now time.Time) {
	p.evidence.Closed(l.id, byPeer, now)
	p.remove(l)
}

func (p *ServiceProber) remove(l *line) {
	l.stop()
	if l == p.kept {
		p.kept = nil
	}
	p.fresh = slices.DeleteFunc(p.fresh, func(x *line) bool { return x == l })
}

// judge forms an observation, and hands it on when it was time to ask or when
// it says something new.
func (p *ServiceProber) judge(now time.Time, asked bool) {
	before := p.judgement.Band
	p.judgement = p.evidence.Judge(p.cfg.Limits, p.judgement, now)
	j := p.judgement
	if j.Band != before {
		announce(p.cfg.Metrics, p.cfg.Logger, p.cfg.Server, before, j)
	}
	p.well = p.well || j.Band == wire.BandOK
	if j.Band == "" || !asked && j.Band == before {
		return
	}
	p.cfg.Observe(wire.Observation{
		Band: j.Band, Since: j.Since, Detail: j.Detail, Address: p.cfg.Address, Answered: p.well,
		Answer: p.evidence.Median(max(p.cfg.Limits.Window, 2*p.cfg.Every), now).Microseconds(),
	})
}
