package server

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server/session"
)

// peer is one connection, from accept to close: at first nobody, then a client
// with a session. Its carrier feeds it. There is one for every client, so it is
// kept small: 112 bytes.
type peer struct {
	s    *Server
	link link

	mu sync.Mutex // serialises writes
	// parting is a last word that waits for CONNACK; guarded by mu.
	parting func()

	// What follows is set once, by CONNECT, before anybody else can see it.

	session  *session.Session[peer]
	arrival  uint64
	presence *Presence // one for all clients with the same

	// What follows belongs to the goroutine that feeds.

	// turn is where answers are gathered; nil while nothing is being handled.
	turn *turn
	// interval is what CONNECT was answered; since then the table has it.
	interval time.Duration
	// more is what only some clients need, or only for a while; nil: nothing.
	more *more

	// leaving: the last word is said, though it may not have left yet. Nothing
	// that comes is looked at.
	leaving atomic.Bool
	place   int32 // among the server's peers; guarded by their mu

	// Set once, by CONNECT, like those above: limit is the longest packet that
	// the client takes, in bytes, 0: any; quiet: it wants no reason strings and
	// user properties in PUBACK.

	limit     uint32
	connected bool
	version   mqtt.Version
	rights    Rights
	probe     bool
	quiet     bool

	// waiting: CONNECT is being looked at elsewhere. Of the goroutine that feeds.
	waiting bool
	// doubtful: the session began with a CONNECT that may be from before this
	// process was stopped, and nothing has come since. Of the goroutine that feeds.
	doubtful bool
	// closed: the link is finished; guarded by mu.
	closed bool
	// ungreeted: the session has begun and its CONNACK is not sent yet
	// [MQTT-3.14.0-1]. Guarded by mu.
	ungreeted bool
}

// turn is the handling of what was read at once.
type turn struct {
	// out are the answers so far, sent together; read is when their questions
	// were read.
	out  []byte
	read time.Time
}

var turns = sync.Pool{New: func() any { return &turn{out: make([]byte, 0, 512)} }}

// entering is who wants to come in.
type entering struct {
	key       store.SessionKey
	principal Principal
	will      []byte // nil: none
}

// more is what clients have that come in, or that say more than that they are
// here.
type more struct {
	entering entering
	// signature checks what the client signs; nil: it need not sign.
	signature *signature
	// moved are the rules of where the client has gone since its CONNECT; nil: nowhere.
	moved *Presence
	// reported is when outcomes last were; 0: never.
	reported session.Tick
	reports  reports
	// subscriptions, nil: it has none; takes is how many messages the client
	// takes before it has acknowledged one, 0: any number.
	subscriptions *subscriptions
	takes         uint16
}

// extra is the peer's more, made where it has none. Only the goroutine that
// feeds calls it.
func (p *peer) extra() *more {
	if p.more == nil {
		p.more = &more{}
	}
	return p.more
}

// key names the client, as far as it is known.
func (p *peer) key() store.SessionKey {
	switch {
	case p.session != nil:
		class, client := p.session.Key()
		return store.SessionKey{Namespace: class.Namespace, Presence: class.Presence, Client: client}
	case p.more != nil:
		return p.more.entering.key
	}
	return store.SessionKey{}
}

// accept makes a peer of a new connection; nil where there are too many that
// have not connected yet.
func (s *Server) accept(l link) *peer {
	if !s.admitStranger() {
		l.abort()
		return nil
	}
	p := &peer{s: s, link: l}
	if !s.peers.add(p, s.cfg.MaxConnections) {
		s.strangers.Add(-1)
		s.turnedAway(whyConnections, l.remote())
		l.abort()
		return nil
	}
	if s.ending.Load() {
		p.bye(nil)
	}
	return p
}

// admitStranger counts one more connection that has not connected yet. It is false
// where there are too many.
func (s *Server) admitStranger() bool {
	if s.strangers.Add(1) <= maxStrangers {
		return true
	}
	s.strangers.Add(-1)
	s.metrics.refused(whyStrangers)
	return false
}

// stranger is a connection that is counted although it is no peer yet.
type stranger struct {
	s    *Server
	once sync.Once
}

// stranger counts a connection until its end is called; nil where there are too many.
func (s *Server) stranger() *stranger {
	if !s.admitStranger() {
		return nil
	}
	return &stranger{s: s}
}

// end stops counting it, once; of nil it does nothing.
func (x *stranger) end() {
	if x != nil {
		x.once.Do(func() { x.s.strangers.Add(-1) })
	}
}

// gone is the end of a peer: its connection is closed. A session that it has
// stays until its lease ends.
func (p *peer) gone() {
	left := !p.leaving.Swap(true) // it was not sent away
	p.s.peers.remove(p)
	p.unwatch()
	if p.session == nil {
		p.s.strangers.Add(-1)
		return
	}
	if p.doubtful && left {
		// Whoever sent it had given up by the time it was read.
		if v, ok := p.s.table.Abandon(p.session, p); ok && !p.probe {
			p.s.recorder.Left(p.key(), v.Arrival, time.Now())
		}
	}
	p.s.table.Release(p.session, p)
}

// overdue: the CONNECT has not come in time.
func (p *peer) overdue() {
	p.s.metrics.refused(whyTimeout)
	p.log("Client was refused", "reason", whyTimeout)
	p.bye(nil)
}

// feed takes what has been read: used bytes of buf are dealt with, the rest must
// come again, with more behind it. It is false when the connection has ended.
func (p *peer) feed(buf []byte, m moment) (used int, ok bool) {
	p.begun(m.read)
	defer p.over()
	for !p.leaving.Load() && !p.waiting {
		if p.session == nil && len(buf) > used && mqtt.TypeOf(buf[used]) != mqtt.CONNECT {
			p.refuse(refusal{why: whyNotConnect, reason: mqtt.ProtocolError, detail: "the first packet is not CONNECT"})
			break
		}
		n, err := mqtt.Frame(buf[used:], p.longest())
		if err != nil {
			p.broken(buf[used:], err)
			break
		}
		if n == 0 {
			break
		}
		frame := buf[used : used+n]
		used += n
		switch {
		case p.session == nil:
			p.connect(frame, m)
		case mqtt.IsPing(frame):
			p.beat(m)
			p.turn.out = append(p.turn.out, mqtt.Pong...)
		default:
			p.packet(frame, m)
		}
	}
	return used, !p.leaving.Load()
}

// begun begins a turn, over sends its answers and ends it.
func (p *peer) begun(read time.Time) {
	p.turn = turns.Get().(*turn)
	p.turn.read = read
}

func (p *peer) over() {
	p.flush()
	if cap(p.turn.out) <= maxPacket {
		turns.Put(p.turn)
	}
	p.turn = nil
}

// flush sends the answers so far.
func (p *peer) flush() {
	if p.turn != nil && len(p.turn.out) > 0 {
		p.s.send(p, p.turn.out, p.turn.read, false)
		p.turn.out = p.turn.out[:0]
	}
}

// ping answers a PINGREQ that is all that came: the hot path.
func (p *peer) ping(m moment) {
	p.beat(m)
	if !p.s.delayed.hold(p, mqtt.Pong, m.read, false) {
		p.deliver(mqtt.Pong, false) // how long it took the loop tells
	}
}

// greet sends the CONNACK, and then the last word that somebody may have had
// for the client meanwhile.
func (p *peer) greet() {
	p.flush()
	p.mu.Lock()
	parting := p.parting
	p.ungreeted, p.parting = false, nil
	p.mu.Unlock()
	if parting != nil {
		parting()
	}
}

// longest is the longest packet that the client may send.
func (p *peer) longest() int {
	switch {
	case p.session == nil:
		return maxConnect
	case p.rights.Has(Report):
		return maxReport
	}
	return maxPacket
}

// beat takes that a packet came, which is a beat unless only signed ones are.
func (p *peer) beat(m moment) {
	p.s.metrics.beats.Inc()
	if p.more == nil || p.more.signature == nil {
		p.alive(m)
	}
}

// alive records a beat. The first after a gap proves nothing, but it
// renews: else a client that beats rarely would be held silent for two intervals.
func (p *peer) alive(m moment) {
	attended := p.session.Beat(m.stamp.Tick)
	if !m.trusted {
		return
	}
	if p.doubtful {
		p.doubtful = false
	}
	if attended && !p.probe {
		p.s.recorder.Packet(p.key(), m.revision, m.stamp.Gaps)
	}
}

// broken: what came is not a packet.
func (p *peer) broken(buf []byte, err error) {
	r := refusal{why: whyMalformed, reason: mqtt.Malformed, detail: err.Error()}
	var e *mqtt.Error
	if errors.As(err, &e) {
		r.reason, r.detail = e.Reason, e.Detail
		switch e.Reason {
		case mqtt.TooLarge:
			r.why = whyTooLarge
		case mqtt.ProtocolError:
			r.why = whyProtocol
		}
	}
	if p.version == 0 {
		p.version = mqtt.PeekVersion(buf)
	}
	p.refuse(r)
}

// refusal is why a client is sent away, or what it asks for is refused.
type refusal struct {
	why    why // for the counter
	reason mqtt.Reason
	detail string
	// reference and servers are where else to go; retryAfter is when to come
	// back; zero values are not sent.
	reference  string
	servers    []wire.ServerHint
	retryAfter time.Duration
	// tolerated: a publication is refused, and its connection stays even where
	// nothing can say so.
	tolerated bool
}

func (r refusal) users() []mqtt.User {
	var users []mqtt.User
	if len(r.servers) > 0 {
		users = append(users, mqtt.User{Name: wire.PropServers, Value: wire.FormatServers(r.servers)})
	}
	if r.retryAfter > 0 {
		users = append(users, mqtt.User{Name: wire.PropRetryAfter, Value: milliseconds(r.retryAfter)})
	}
	return users
}

// refuse ends the connection, in the client's own language. Only the goroutine
// that feeds calls it.
func (p *peer) refuse(r refusal) {
	p.flush()
	p.s.metrics.refused(r.why)
	p.log("Client was refused", "reason", r.why, "code", r.reason.String(), "detail", r.detail)
	switch {
	case p.session == nil && (p.version == mqtt.V5 || p.version == mqtt.V311 || r.reason == mqtt.UnsupportedVersion):
		c := mqtt.Connack{Version: p.version, Reason: r.reason, Reference: r.reference, Text: r.detail, User: r.users()}
		p.bye(c.Append(nil, p.limit))
	case p.session != nil && p.version == mqtt.V5:
		p.goodbye(mqtt.Goodbye{Reason: r.reason, Reference: r.reference, Text: r.detail, User: r.users()})
	default:
		p.bye(nil)
	}
}

// goodbye is the server's last word to a client that has a session: version
// 3.1.1 has none, and is disconnected.
func (p *peer) goodbye(g mqtt.Goodbye) {
	if p.version != mqtt.V5 {
		p.bye(nil)
		return
	}
	p.bye(g.Append(nil, p.limit))
}

// bye sends a last word after what was answered already, and ends the
// connection. Anyone may call it.
func (p *peer) bye(last []byte) {
	if p.leaving.Swap(true) {
		return
	}
	send := func() { p.s.send(p, last, time.Time{}, true) }
	p.mu.Lock()
	if p.ungreeted {
		p.parting, send = send, func() {}
	}
	p.mu.Unlock()
	send()
}

// deliver writes to the link; last closes it then.
func (p *peer) deliver(b []byte, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if len(b) > 0 {
		if err := p.link.write(b); err != nil {
			p.closed = true
			p.leaving.Store(true)
			p.link.abort()
			return
		}
	}
	if last {
		p.closed = true
		p.link.finish()
	}
}

// log is for the goroutine that feeds; logAbout for everyone, who knows the
// client.
func (p *peer) log(message string, args ...any) {
	if p.s.log.Enabled(p.s.ctx(), slog.LevelDebug) {
		p.logAbout(p.key().Client, message, args...)
	}
}

func (p *peer) logAbout(client, message string, args ...any) {
	if p.s.log.Enabled(p.s.ctx(), slog.LevelDebug) {
		p.s.log.Debug(message, append( //nolint:sloglint // constant at every caller
			args, "remote", p.link.remote(), "client", client)...)
	}
}

// peers are all connections.
type peers struct {
	mu  sync.Mutex
	all []*peer // each knows its place
	// others are connections that carry requests.
	others int
}

// add is false where there are as many as there may be; of at most 0, never.
func (ps *peers) add(p *peer, most int) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if most > 0 && len(ps.all)+ps.others >= most {
		return false
	}
	p.place = int32(len(ps.all))
	ps.all = append(ps.all, p)
	return true
}

// reserve counts a connection that is no peer's until release is called, if there may
// be one more.
func (ps *peers) reserve(most int) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if most > 0 && len(ps.all)+ps.others >= most {
		return false
	}
	ps.others++
	return true
}

func (ps *peers) release() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.others--
}

func (ps *peers) len() int {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return len(ps.all) + ps.others
}

func (ps *peers) remove(p *peer) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	last := len(ps.all) - 1
	ps.all[p.place], ps.all[last].place = ps.all[last], p.place
	ps.all[last] = nil
	ps.all = ps.all[:last]
}

func (ps *peers) list() []*peer {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return slices.Clone(ps.all)
}
