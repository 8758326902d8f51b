package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/agent/stall"
	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

const (
	// DialTimeout bounds an attempt to connect. A SYN is sent again after 1 s
	// (RFC 6298), so that an attempt is two.
	DialTimeout = HungAfter
	// Rotation is how long a session is kept, ± rotationJitter of it.
	Rotation       = 30 * time.Second
	rotationJitter = 0.2

	// doubtAfter is how long the kernel there may owe an acknowledgement
	// before a second connection is tried, to tell a bad connection from a bad path.
	doubtAfter = 400 * time.Millisecond
	// apart is how long the last question must be in flight before the next follows
	// it, where the tick comes soon after CONNACK or after a tick that was late. The
	// kernel there delays its acknowledgement, by 40 ms as a rule, while ours takes
	// the second of two small segments in flight for lost after two round trips, and
	// sends it again (a tail loss probe: RFC 8985, section 7.2). A server that hung
	// just then would be excused as a path that loses packets.
	apart = Interval / 2
	// minRetry and maxRetry bound the wait between attempts, at random: the
	// first follows the loss of a session at once.
	minRetry = 50 * time.Millisecond
	maxRetry = time.Second
	// refusedRetry bounds the wait after a CONNACK that refuses the probe.
	refusedRetry = 2 * time.Second
	// writeTimeout ends a connection whose send buffer is full.
	writeTimeout = 100 * time.Millisecond
)

// keepAlive is TCP's own. It has nothing to do while the probe asks five times a
// second. But that ends with maxPending unanswered questions, and without it a
// machine that forgets the connection after that, because it is switched off and
// on, would be taken for a server that hangs for ever.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: KeepAliveAfter, Interval: KeepAliveAfter, Count: 3}

// dialer connects all probes.
var dialer = net.Dialer{Timeout: DialTimeout, KeepAliveConfig: keepAlive}

// KeepAliveAfter is how long nothing is sent on a connection before the kernel
// asks the one there whether it still knows it; three times.
const KeepAliveAfter = 5 * time.Second

// Config is what a Prober is made of.
type Config struct {
	// Server is the name, "namespace/pod", and Address where it listens.
	Server, Address string
	// Limits of the server's Presence.
	Limits Limits
	// ClientID makes the id of session n; ids in use at once differ.
	ClientID func(n int) string
	// User is the MQTT user name, Token the password; "" is no password.
	User  string
	Token func(context.Context) (string, error)
	// TLS is how to speak it, asked at each connection; nil: plain TCP.
	TLS func() *tls.Config

	// Observe is called with each observation, from one goroutine: at once when
	// something changes, else at every question. It must not block.
	Observe func(wire.Observation)

	// Phase is when in each Interval to ask. The probers of one agent share it,
	// so that it wakes up once for all of them; those of two agents should not.
	Phase time.Duration
	// Stall is shared by the loops of the process.
	Stall *stall.Watch
	// Rotation is for tests; zero: Rotation.
	Rotation time.Duration
	Logger   *slog.Logger
	Metrics  *Metrics
}

func (c *Config) validate() error {
	if err := validate(c.Server, c.Address, c.Limits); err != nil {
		return err
	}
	if c.Phase < 0 || c.Phase >= Interval {
		return fmt.Errorf("phase %v is not within %v", c.Phase, Interval)
	}
	if c.Rotation == 0 {
		c.Rotation = Rotation
	}
	return nil
}

// validate checks what is asked, and by what limits it is judged.
func validate(server, address string, l Limits) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("address of %s: %w", server, err)
	}
	if l.AnswerTime <= 0 || l.Window <= 0 {
		return fmt.Errorf("limits of %s: answer time %v and window %v must be positive", server, l.AnswerTime, l.Window)
	}
	return nil
}

// Prober keeps one probe session on one server, and says what it sees of it.
type Prober struct {
	cfg    Config
	events chan event
	done   chan struct{} // closed when the loop ends
	wg     sync.WaitGroup

	// All below belongs to the loop.

	evidence  *Evidence
	judgement Judgement
	seen      wire.Observation
	news      bool // seen has changed, but for what judge puts there

	// current is asked; next replaces it as soon as it is proven. Either may be
	// nil. Both are asked while both exist.
	current, next *session
	dialing       bool
	made          int // sessions, so far
	failures      int // attempts in a row that came to nothing

	tickAt, retryAt, rotateAt time.Time
}

// New checks cfg; Run does the work.
func New(cfg Config) (*Prober, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Prober{cfg: cfg, events: make(chan event, 16), done: make(chan struct{})}, nil
}

// Run probes until ctx ends, and then says goodbye.
func (p *Prober) Run(ctx context.Context) error {
	now := time.Now()
	p.evidence = NewEvidence(now)
	p.tickAt = NextTick(now, p.cfg.Phase)
	p.rotate(now)
	defer func() {
		p.close(p.current, true)
		p.close(p.next, true)
		close(p.done)
		p.wg.Wait()
		for { // a dial may have ended with a connection that nobody took
			select {
			case e := <-p.events:
				if e.dialed != nil && e.session != nil {
					e.session.raw.Close()
				}
			default:
				return
			}
		}
	}()

	timer := time.NewTimer(0)
	defer timer.Stop()
	p.dial(ctx, now)
	for {
		timer.Reset(time.Until(p.due()))
		var ev *event
		select {
		case <-ctx.Done():
			return nil
		case e := <-p.events:
			ev = &e
		case <-timer.C:
		}
		now := time.Now()
		if p.cfg.Stall.Check(p.tickAt, now) {
			p.cfg.Logger.Debug("Probe loop was stalled", "server", p.cfg.Server, "late", now.Sub(p.tickAt))
		}
		p.evidence.Stalled(p.cfg.Stall.Last())
		if ev != nil {
			p.handle(ctx, *ev, now)
		}
		asked := p.tick(ctx, now)
		p.judge(now, asked)
	}
}

// NextTick is when the probers of a phase ask next after now. What an agent does
// now and then it does at such a time, so that it does not wake up for that alone.
func NextTick(now time.Time, phase time.Duration) time.Time {
	into := time.Duration(now.UnixNano() % int64(Interval))
	at := now.Add(phase - into) // Truncate would lose the monotonic clock
	if !at.After(now) {
		at = at.Add(Interval)
	}
	return at
}

// due is when the loop must wake.
func (p *Prober) due() time.Time {
	due := p.tickAt
	if t := p.judgement.Next; !t.IsZero() && t.Before(due) {
		due = t
	}
	if p.idle() && p.retryAt.Before(due) {
		due = p.retryAt
	}
	return due
}

// idle: there is no session, and none is being made.
func (p *Prober) idle() bool { return p.current == nil && p.next == nil && !p.dialing }

// tick does what time alone asks for, and tells whether it was time to ask.
func (p *Prober) tick(ctx context.Context, now time.Time) bool {
	if !p.judgement.Next.IsZero() && !now.Before(p.judgement.Next) {
		p.sample(now)
	}
	asking := !now.Before(p.tickAt)
	if asking {
		// The next tick is counted from this one, unless that has passed too.
		if p.tickAt = p.tickAt.Add(Interval); !p.tickAt.After(now) {
			p.tickAt = now.Add(Interval)
		}
		p.sample(now)
		for _, s := range p.sessions() {
			if now.Sub(s.asked) >= apart || p.evidence.Oldest(s.id, now) == 0 {
				p.ask(s, now)
			}
		}
		p.doubt(ctx, now)
	}
	if p.idle() && !now.Before(p.retryAt) {
		p.dial(ctx, now)
	}
	return asking
}

// doubt replaces the current session when it is old, or gets no acknowledgement.
func (p *Prober) doubt(ctx context.Context, now time.Time) {
	if p.current == nil || p.next != nil || p.dialing || now.Before(p.retryAt) {
		return
	}
	// An old session that owes an answer is kept, since what it owes is evidence.
	old := !now.Before(p.rotateAt) && p.evidence.Oldest(p.current.id, now) <= Interval
	if old || p.evidence.Troubled(p.current.id, doubtAfter, now) {
		p.dial(ctx, now)
	}
}

func (p *Prober) sessions() []*session {
	l := make([]*session, 0, 2)
	for _, s := range []*session{p.current, p.next} {
		if s != nil {
			l = append(l, s)
		}
	}
	return l
}

func (p *Prober) sample(now time.Time) {
	for _, s := range p.sessions() {
		if s.below != nil {
			p.evidence.Written(s.id, s.below.written.Load())
		}
		if k, ok := s.socket.sample(); ok {
			p.evidence.Sampled(s.id, k, now)
		}
	}
}

// ask sends the next question on a session that has been let in: a PINGREQ and
// a beat by turns.
func (p *Prober) ask(s *session, now time.Time) {
	if !s.connected {
		return
	}
	s.asked = now
	s.ticks++
	if s.ticks%2 == 1 {
		p.write(s, Ping, 0, mqtt.Ping, now)
		return
	}
	if s.nextID++; s.nextID == 0 {
		s.nextID = 1
	}
	b, err := beatPacket(s.nextID)
	if err != nil {
		p.cfg.Logger.Error("Beat of a probe was not encoded", "error", err)
		return
	}
	p.write(s, Beat, s.nextID, b, now)
}

func (p *Prober) write(s *session, kind Kind, id uint16, b []byte, now time.Time) {
	size := len(b)
	if s.below != nil {
		size = 0 // it is known when it is encrypted
	}
	if !p.evidence.Asked(s.id, kind, id, size, now) {
		return
	}
	s.raw.SetWriteDeadline(now.Add(writeTimeout))
	_, err := s.conn.Write(b)
	if s.below != nil {
		p.evidence.Written(s.id, s.below.written.Load())
	}
	if err != nil {
		// The reader sees the end too, and says why; a full buffer only shows here.
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			s.raw.Close()
		}
		return
	}
	p.cfg.Metrics.asked.Inc()
}

// dial begins an attempt to connect; its end comes as an event.
func (p *Prober) dial(ctx context.Context, now time.Time) {
	p.dialing = true
	p.made++
	id := p.made
	p.wg.Go(func() {
		e := p.attempt(ctx, id, now)
		select {
		case p.events <- e:
		case <-p.done:
			if e.session != nil {
				e.session.raw.Close()
			}
		}
	})
}

// attempt connects, with the credentials of this moment.
func (p *Prober) attempt(ctx context.Context, id int, now time.Time) event {
	failed := func(r DialResult, err error) event {
		return event{at: time.Now(), dialed: &dialed{began: now, result: r, err: err}}
	}
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	token, err := p.cfg.Token(ctx)
	if err != nil {
		return failed(DialLocal, fmt.Errorf("get a token: %w", err))
	}
	hello, err := connectPacket(p.cfg.ClientID(id), p.cfg.User, token)
	if err != nil {
		return failed(DialLocal, err)
	}
	conn, err := dialer.DialContext(ctx, "tcp", p.cfg.Address)
	if err != nil {
		return failed(dialResult(err), err)
	}
	s := &session{id: id, conn: conn, raw: conn, hello: hello}
	if p.cfg.TLS != nil {
		if err := s.secure(p.cfg.Address, p.cfg.TLS()); err != nil {
			conn.Close()
			return failed(DialLocal, err)
		}
	}
	r := &dialed{began: now}
	s.socket, r.kernel = newSocket(conn)
	return event{session: s, at: time.Now(), dialed: r}
}

// judge forms an observation, and hands it on when it was time to ask again
// or when it says something new.
func (p *Prober) judge(now time.Time, asked bool) {
	before := p.judgement.Band
	p.judgement = p.evidence.Judge(p.cfg.Limits, p.judgement, now)
	j := p.judgement
	if j.Band != before {
		announce(p.cfg.Metrics, p.cfg.Logger, p.cfg.Server, before, j)
	}
	if j.Band == "" || !asked && j.Band == before && !p.news {
		return
	}
	p.news = false
	p.seen.Band, p.seen.Since, p.seen.Detail = j.Band, j.Since, j.Detail
	p.seen.Address = p.cfg.Address
	p.seen.Answer = p.evidence.Median(max(p.cfg.Limits.Window, time.Second), now).Microseconds()
	p.cfg.Observe(p.seen)
}

// announce tells people and metrics that a server has come into another band.
func announce(m *Metrics, log *slog.Logger, server string, before wire.Band, j Judgement) {
	m.bands.WithLabelValues(string(j.Band)).Inc()
	log.Info("Probe band changed", "server", server, "from", before, "to", j.Band, "detail", j.Detail)
}

func (p *Prober) rotate(now time.Time) {
	d := float64(p.cfg.Rotation) * (1 + rotationJitter*(2*rand.Float64()-1))
	p.rotateAt = now.Add(time.Duration(d))
}
