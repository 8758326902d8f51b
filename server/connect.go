package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server/record"
	"github.com/rollcall-dev/rollcall/server/session"
)

const (
	// maxStrangers is how many connections may be between accept and CONNECT.
	maxStrangers = 8192
	// authenticateWithin bounds the Authenticator.
	authenticateWithin = 5 * time.Second
	// receiveMaximum is how many PUBLISHes of a client may await their PUBACK.
	receiveMaximum = 8
	// Probes choose their keep-alive themselves, within these bounds.
	minProbe, maxProbe = time.Second, time.Minute
)

// connect takes a peer's first packet.
func (p *peer) connect(frame []byte, m moment) {
	c, err := mqtt.ParseConnect(frame)
	p.version, p.limit, p.quiet = c.Version, c.MaximumPacket, c.NoProblemInfo
	if err != nil {
		p.unreadable(err)
		return
	}
	p.extra().entering = entering{key: store.SessionKey{Client: c.ClientID}}
	r := p.admit(c)
	if r != nil {
		p.refuse(*r)
		return
	}
	l, ok := p.link.(loopLink)
	if !ok {
		p.enter(c, m, p.authenticate(c))
		return
	}
	c.Password = bytes.Clone(c.Password) // it shares memory with what is read next
	p.waiting = true
	l.elsewhere(func() { r = p.authenticate(c) }, func() {
		p.waiting = false
		if !p.leaving.Load() {
			p.begun(m.read)
			defer p.over()
			p.enter(c, m, r)
		}
	})
}

// enter lets a client in and answers it, unless there is a reason not to.
func (p *peer) enter(c mqtt.Connect, m moment, r *refusal) {
	if r == nil && !p.probe {
		r = p.s.closed(p, time.Duration(c.KeepAlive)*time.Second)
	}
	if r == nil {
		r = p.begin(c, m)
	}
	if r != nil {
		p.refuse(*r)
	}
	p.greet()
}

func (p *peer) unreadable(err error) {
	var e *mqtt.Error
	if errors.As(err, &e) && e.Reason == mqtt.UnsupportedVersion {
		p.refuse(refusal{why: whyVersion, reason: e.Reason, detail: e.Detail})
		return
	}
	p.broken(nil, err)
}

// admit tells why a client is not let in, as far as that needs nobody's word.
// The order of the checks is from cheap to dear, and tells strangers nothing of
// who is here.
func (p *peer) admit(c mqtt.Connect) *refusal {
	s := p.s
	if g := guestOf(p.link); g != nil && g.over != "" {
		return &refusal{why: g.over, reason: mqtt.QuotaExceeded, detail: tooMany[g.over], retryAfter: 5 * time.Second, servers: s.directory.hints()}
	}
	if r := p.acceptable(c); r != nil {
		return r
	}
	p.probe = property(c.User, wire.PropProbe) == "1"
	if wait, ok := s.admission.admit(time.Now(), p.probe); !ok {
		return &refusal{why: whyBusy, reason: mqtt.ServerBusy, detail: "too many clients at once", retryAfter: wait, servers: s.directory.hints()}
	}
	return nil
}

// tooMany says what there is too much of.
var tooMany = map[why]string{
	whyAddress:  "too many connections from one address",
	whyListener: "too many connections on this listener",
}

// acceptable checks what needs nobody's word.
func (p *peer) acceptable(c mqtt.Connect) *refusal {
	if !wire.ValidClientID(c.ClientID) {
		return &refusal{why: whyClientID, reason: mqtt.InvalidClientID, detail: "the client id is a member's name: [A-Za-z0-9._:-]{1,128}"}
	}
	if c.AuthMethod != "" {
		return &refusal{why: whyCredentials, reason: mqtt.BadAuthMethod, detail: "extended authentication is not spoken here"}
	}
	namespace, presence, err := wire.ParseUserName(c.UserName)
	if err != nil {
		return &refusal{why: whyUserName, reason: mqtt.BadUserNameOrPassword, detail: err.Error()}
	}
	p.more.entering.key.Namespace, p.more.entering.key.Presence = namespace, presence
	if y, ok := p.s.cfg.Presences.(interface{ Synced() bool }); ok && !y.Synced() {
		return &refusal{why: whyStarting, reason: mqtt.ServerUnavailable, detail: "Presences are not known yet", retryAfter: time.Second}
	}
	found, known := p.s.cfg.Presences.Lookup(namespace, presence)
	if !known {
		return &refusal{why: whyPresence, reason: mqtt.BadUserNameOrPassword, detail: fmt.Sprintf("there is no Presence %s/%s", namespace, presence)}
	}
	if found.Foreign {
		return &refusal{why: whyPresence, reason: mqtt.BadUserNameOrPassword, detail: fmt.Sprintf(
			"Presence %s/%s belongs to %s: connect to the servers of that one", namespace, presence, whose(found))}
	}
	network, region := property(c.User, wire.PropNetwork), property(c.User, wire.PropRegion)
	if !wire.ValidPlace(network) || !wire.ValidPlace(region) {
		return badPlace
	}
	if found.MaxSkew > 0 && c.Version != mqtt.V5 && found.Kind == Clients {
		return &refusal{why: whySignature, reason: mqtt.NotAuthorized, detail: "only signed beats count here, and a key for them can be given in MQTT 5 only"}
	}
	p.presence = p.s.shared.of(found.at(network, region))
	if c.Will != nil {
		return p.willing(c)
	}
	return nil
}

// willing takes a will, or tells why not: it is published on the client's own
// presence topic, and is not kept after that.
func (p *peer) willing(c mqtt.Connect) *refusal {
	key := p.more.entering.key
	topic := wire.PresenceTopic(key.Namespace, key.Presence, key.Client)
	switch {
	case c.Will.Topic != topic:
		return &refusal{why: whyWill, reason: mqtt.TopicNameInvalid, detail: "a will's topic here is " + topic}
	case len(c.Will.Payload) > wire.MaxWill:
		return &refusal{why: whyWill, reason: mqtt.ImplementationSpecific, detail: fmt.Sprintf("a will has at most %d bytes here", wire.MaxWill)}
	case c.Will.Described:
		return &refusal{why: whyWill, reason: mqtt.ImplementationSpecific, detail: "a will has no properties here but a delay"}
	case c.Will.Retain:
		return &refusal{why: whyWill, reason: mqtt.RetainNotSupported, detail: "nothing is retained here"}
	case c.Will.QoS == 2 && c.Version == mqtt.V5: // CONNACK would have said so [MQTT-3.2.2-12]
		return &refusal{why: whyWill, reason: mqtt.QoSNotSupported, detail: "QoS 2 is not taken"}
	}
	p.more.entering.will = bytes.Clone(c.Will.Payload) // it shares memory with what is read next
	if p.more.entering.will == nil {
		p.more.entering.will = []byte{}
	}
	return nil
}

// whose words the installation of a Presence that is not ours.
func whose(p Presence) string {
	if p.Installation == "" {
		return "the cluster's default installation of Rollcall"
	}
	return "the installation of Rollcall in namespace " + p.Installation
}

// authenticate asks who the client is, and whether it may connect.
func (p *peer) authenticate(c mqtt.Connect) *refusal {
	ctx, cancel := context.WithTimeout(p.s.ctx(), authenticateWithin)
	defer cancel()
	principal, err := p.s.cfg.Authenticator.Authenticate(ctx, Credentials{
		Namespace: p.more.entering.key.Namespace, Presence: p.more.entering.key.Presence, ClientID: p.more.entering.key.Client,
		Kind: p.presence.Kind, Password: c.Password, RemoteAddr: p.link.remote(), Certificate: certificateOf(p.link),
	})
	switch {
	case errors.Is(err, ErrCredentials):
		return &refusal{why: whyCredentials, reason: mqtt.BadUserNameOrPassword, detail: "bad credentials"}
	case err != nil:
		p.s.log.Warn("Client could not be authenticated", "error", err)
		return &refusal{why: whyStarting, reason: mqtt.ServerUnavailable, detail: "credentials cannot be checked now", retryAfter: time.Second}
	}
	p.more.entering.principal = principal
	needed := Connect
	if p.probe {
		needed |= Report
	}
	if !principal.Rights.Has(needed) {
		return &refusal{why: whyUnauthorized, reason: mqtt.NotAuthorized, detail: "no right to connect so"}
	}
	if p.presence.Kind == Servers && !p.probe {
		return &refusal{why: whyUnauthorized, reason: mqtt.NotAuthorized, detail: "the members of this Presence are servers"}
	}
	return nil
}

// closed tells why a client that asks for an interval is not let in now, if so.
func (s *Server) closed(p *peer, asked time.Duration) *refusal {
	if r := s.closing(p, asked); r != nil {
		return r
	}
	return s.full(p)
}

// closing tells why clients are sent elsewhere, if so: those who are here, too.
func (s *Server) closing(p *peer, asked time.Duration) *refusal {
	if r := s.ends(); r != nil {
		return r
	}
	if t, ok := s.drain.refuge(); ok && !s.drain.stranded(time.Now(), p.more.entering.key, patience(p.presence.lease(p.presence.interval(asked, false)))) {
		r := &refusal{why: whyDraining, reason: mqtt.UseAnotherServer, detail: "clients are moved away from here", servers: s.directory.hints()}
		if t.Address != "" {
			r.reference, r.servers = t.Address, first(t.Address, r.servers)
		} else if len(r.servers) > 0 {
			r.reference = r.servers[0].Address
		}
		return r
	} else if ok {
		s.metrics.stranded.Inc()
		p.log("Client is let in, where it was sent it was not taken")
	}
	return nil
}

// full tells why there is no room for a client, if so.
func (s *Server) full(p *peer) *refusal {
	if wait := s.drain.shedding(); wait > 0 && p.newcomer() {
		return &refusal{why: whyShedding, reason: mqtt.QuotaExceeded, detail: "overloaded, and nobody else has room", retryAfter: wait}
	}
	if most := s.cfg.SessionsPerPresence; most > 0 && p.newcomer() {
		key := p.more.entering.key
		if s.table.Class(key.Namespace, key.Presence, false).Live() >= most {
			return &refusal{
				why: whyPresenceFull, reason: mqtt.QuotaExceeded, detail: "the Presence has as many sessions here as one may",
				retryAfter: 5 * time.Second, servers: s.directory.hints(),
			}
		}
	}
	if s.recorder.Full() {
		return &refusal{why: whyBusy, reason: mqtt.ServerBusy, detail: "too much waits to be recorded", retryAfter: time.Second, servers: s.directory.hints()}
	}
	if s.table.Live() >= s.cfg.Capacity+s.cfg.Capacity/4 {
		return &refusal{why: whyFull, reason: mqtt.QuotaExceeded, detail: "the server is full", retryAfter: 5 * time.Second, servers: s.directory.hints()}
	}
	return nil
}

// newcomer tells whether a client would be one more. Agents are never that: they
// are few, and everybody's eyes.
func (p *peer) newcomer() bool {
	key := p.more.entering.key
	return p.presence.Kind == Clients && !p.s.table.Has(p.s.table.Class(key.Namespace, key.Presence, false), key.Client)
}

// begin makes the session and answers CONNECT.
func (p *peer) begin(c mqtt.Connect, m moment) *refusal {
	s, principal, will := p.s, p.more.entering.principal, p.more.entering.will
	asked := time.Duration(c.KeepAlive) * time.Second
	p.interval = p.presence.interval(asked, p.probe)
	now := time.Now()
	p.rights = principal.Rights // before a sweep can see it
	p.mu.Lock()
	p.ungreeted = true
	p.mu.Unlock()
	class := s.table.Class(p.more.entering.key.Namespace, p.more.entering.key.Presence, p.probe)
	byDatagram := p.mayDatagram(c)
	attached, err := s.table.Attach(session.Arrival[peer]{
		Class: class, Client: p.more.entering.key.Client, Principal: principal.Name, Lease: p.presence.lease(p.interval),
		Link: p, Now: s.clock.Stamp().Tick, WallClock: now.UnixMilli(), Datagrams: byDatagram, Rights: uint8(principal.Rights),
	})
	if err != nil {
		p.greet() // nobody else has seen it
		return &refusal{why: whyPrincipal, reason: mqtt.NotAuthorized, detail: "the session is another principal's"}
	}
	p.doubtful = attached.New && !m.trusted
	p.session, p.arrival, p.connected, p.more = attached.Session, attached.Arrival, true, nil
	if n := c.ReceiveMaximum; n > 0 && n < maxInFlight {
		p.more = &more{takes: n}
	}
	var key string
	if p.presence.MaxSkew > 0 && p.presence.Kind == Clients && !p.probe {
		p.extra().signature, key = newSignature()
	}
	s.strangers.Add(-1)
	if attached.Before != nil {
		attached.Before.goodbye(mqtt.Goodbye{Reason: mqtt.SessionTakenOver})
	}
	if !p.probe {
		s.recorder.Online(record.Arrival{
			Key: p.key(), Number: attached.Arrival, Proof: m.proof(), Gaps: m.stamp.Gaps, Left: p.left(c.User), Witness: p.rights.Has(Report),
			Session: store.Session{Principal: principal.Name, Since: attached.Began, Interval: p.interval.Milliseconds(), Will: will},
		})
		if !s.table.Holds(attached.Session, attached.Arrival) {
			s.recorder.Offline(p.key(), attached.Arrival, now, now) // it has ended before it was recorded
		}
	}
	p.log("Client connected", "presence", class.Name(), "probe", p.probe, "resumed", !attached.New)
	answer := mqtt.Connack{
		Version: p.version, Reason: mqtt.Success,
		KeepAlive: uint16(p.interval / time.Second), HasKeepAlive: p.interval != asked,
		NoSessionExpiry: c.SessionExpiry > 0, MaximumPacket: uint32(p.longest()), ReceiveMaximum: receiveMaximum,
		User: append([]mqtt.User{
			{Name: wire.PropServer, Value: s.name}, {Name: wire.PropIncarnation, Value: s.cfg.Incarnation},
		}, refusal{servers: s.directory.hints()}.users()...),
	}
	if key != "" {
		answer.User = append(answer.User, mqtt.User{Name: wire.PropBeatKey, Value: key})
	}
	if byDatagram {
		answer.User = append(answer.User, s.udp.grant(attached.Place, attached.Arrival, s.clock.Stamp().Tick))
	}
	p.turn.out = answer.Append(p.turn.out, p.limit)
	return nil
}

// interval is what counts, where a client asks for one; 0 asks for none.
// Clients of version 3.1.1 cannot be told: who asks for none or too long a one
// is given the longest, and must beat more often than it said; who asks for too
// short a one beats more often than it must.
func (p Presence) interval(asked time.Duration, probe bool) time.Duration {
	lo, hi := p.MinInterval, p.MaxInterval
	if probe {
		lo, hi = minProbe, maxProbe
	}
	if asked == 0 {
		return hi
	}
	return min(max(asked, lo), hi)
}

// lease is what a session lives by. A beat is missed when it is a quarter of an
// interval late: clients jitter, and networks do.
func (p Presence) lease(interval time.Duration) session.Lease {
	offline := time.Duration(max(p.MissesUntilOffline, 1))*interval*3/2 + p.Grace
	late := time.Duration(max(p.MissesUntilLate, 1))*interval + interval/4
	return session.Lease{Interval: interval, Late: min(late, offline), Offline: offline}
}

func property(users []mqtt.User, name string) string {
	for _, u := range users {
		if u.Name == name {
			return u.Value
		}
	}
	return ""
}

// left is why a client left its last server, as far as that counts. That answers
// were late an agent has said already, as an observer: it is no other witness.
func (p *peer) left(users []mqtt.User) string {
	why := reasonLeft(users)
	if why == wire.LeftLate && p.presence.Kind != Clients {
		return wire.LeftBroken
	}
	return why
}

// reasonLeft is why a client left its last server, empty where it doesn't say.
func reasonLeft(users []mqtt.User) string {
	_, reason, _ := strings.Cut(property(users, wire.PropLeft), " ")
	return reason
}

// first moves an address to the front of a server list, where it may be new.
func first(address string, l []wire.ServerHint) []wire.ServerHint {
	out := []wire.ServerHint{{Address: address}}
	for _, h := range l {
		if h.Address == address {
			out[0].Load = h.Load
		} else {
			out = append(out, h)
		}
	}
	return out[:min(len(out), maxHints)]
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }
