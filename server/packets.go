package server

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
	"github.com/rollcall-dev/rollcall/internal/wire"
	"github.com/rollcall-dev/rollcall/server/session"
)

// beat is the payload of wire.TopicBeat: a JSON object, or nothing. Names that
// are not known are left.
type beat struct {
	// Interval until the client's next beats, in milliseconds; 0: as before.
	Interval int64 `json:"interval"`
	// Attributes replace those of the session; nil: as before.
	Attributes map[string]string `json:"attributes"`
	// Network and Region are where the client is, both of them where one is
	// given; neither: as before.
	Network *string `json:"network"`
	Region  *string `json:"region"`
	// Outcomes of silences since the last report.
	Outcomes []wire.Outcomes `json:"outcomes"`
}

// packet takes a whole packet that is not a PINGREQ, from a client with a session.
func (p *peer) packet(frame []byte, m moment) {
	var err error
	switch t := mqtt.TypeOf(frame[0]); t {
	case mqtt.PUBLISH:
		err = p.published(frame, m)
	case mqtt.SUBSCRIBE:
		err = p.subscribed(frame, m)
	case mqtt.UNSUBSCRIBE:
		err = p.unsubscribed(frame, m)
	case mqtt.PUBACK:
		err = p.acknowledged(frame, m)
	case mqtt.DISCONNECT:
		var d mqtt.Disconnect
		if d, err = mqtt.ParseDisconnect(frame, p.version); err == nil {
			p.leave(m, d.Reason)
		}
	case mqtt.PINGREQ: // with a length in more bytes than needed
		p.beat(m)
		p.turn.out = append(p.turn.out, mqtt.Pong...)
	case mqtt.CONNECT:
		err = &mqtt.Error{Reason: mqtt.ProtocolError, Detail: "a second CONNECT"} // [MQTT-3.1.0-2]
	default: // nothing was sent that these could acknowledge
		err = &mqtt.Error{Reason: mqtt.ProtocolError, Detail: t.String() + " from a client, unasked"}
	}
	if err != nil {
		p.broken(nil, err)
	}
}

// leave: the member left on purpose. With any reason but success its will
// stands [MQTT-3.14.4-3].
func (p *peer) leave(m moment, why mqtt.Reason) {
	p.flush()
	if v, ok := p.s.table.Leave(p.session, p); ok && !p.probe {
		p.s.recordDescriptions(p.s.descriptions.last(p.key()))
		if why == mqtt.Success {
			p.s.recorder.Left(p.key(), v.Arrival, m.read)
		} else {
			p.s.recorder.Offline(p.key(), v.Arrival, m.read, m.read)
		}
		if p.presence.Kind == Clients {
			p.s.ended.Add(1)
		}
		p.log("Client left", "code", why.String())
	}
	p.bye(nil)
}

// published takes a PUBLISH: a beat, and what it carries.
func (p *peer) published(frame []byte, m moment) error {
	pub, err := mqtt.ParsePublish(frame, p.version)
	if err != nil {
		return err
	}
	p.beat(m)
	switch { // CONNACK has said so (section 3.2.2.3)
	case pub.HasTopicAlias:
		p.refuse(refusal{why: whyAlias, reason: mqtt.TopicAliasInvalid, detail: "topic aliases are not taken"})
	case pub.QoS == 2:
		p.refuse(refusal{why: whyQoS, reason: mqtt.QoSNotSupported, detail: "QoS 2 is not taken"})
	case pub.Retain:
		p.refuse(refusal{why: whyRetain, reason: mqtt.RetainNotSupported, detail: "nothing is retained here"})
	case pub.Topic == wire.TopicBeat:
		r := p.signed(&pub, m)
		if r == nil {
			r = p.told(pub.Payload, m)
		}
		p.acknowledge(pub, r)
	case pub.Topic == wire.TopicKeepAlive:
		r := p.signed(&pub, m)
		if r == nil {
			r = p.keepAlive(pub.Payload)
		}
		p.acknowledge(pub, r)
	case pub.Topic == wire.TopicReport:
		p.report(pub)
	default:
		p.acknowledge(pub, &refusal{why: whyTopic, reason: mqtt.TopicNameInvalid, detail: "nobody takes this topic"})
	}
	return nil
}

// acknowledge answers a PUBLISH, refused where r is not nil. What cannot be
// refused in a PUBACK ends the connection, unless it is tolerated: nothing else is
// dropped in silence.
func (p *peer) acknowledge(pub mqtt.Publish, r *refusal) {
	code, text := mqtt.Success, ""
	if r != nil {
		if (p.version != mqtt.V5 || pub.QoS == 0) && !r.tolerated {
			p.refuse(*r)
			return
		}
		p.s.metrics.refused(r.why)
		p.log("Publication was refused", "reason", r.why, "code", r.reason.String(), "detail", r.detail)
		code, text = r.reason, r.detail
	}
	if pub.QoS == 1 {
		p.puback(pub, code, text)
	}
}

// puback appends a PUBACK, with the server's vitals where it is of a beat.
func (p *peer) puback(pub mqtt.Publish, reason mqtt.Reason, text string) {
	a := mqtt.Puback{PacketID: pub.PacketID, Reason: reason}
	if !p.quiet {
		a.Text = text
		if pub.Topic == wire.TopicBeat {
			a.User = []mqtt.User{
				{Name: wire.PropQueueDelay, Value: strconv.FormatInt(p.s.vitals.worst().Microseconds(), 10)},
				{Name: wire.PropSessions, Value: strconv.Itoa(p.s.table.Live())},
			}
		}
	}
	p.turn.out = a.Append(p.turn.out, p.version, p.limit)
}

// signed tells why a publication does not count as a beat, where only signed ones do.
func (p *peer) signed(pub *mqtt.Publish, m moment) *refusal {
	if p.more == nil || p.more.signature == nil {
		return nil
	}
	r := p.more.signature.check(pub, time.Now(), p.presence.MaxSkew)
	if r == nil {
		p.alive(m)
	}
	return r
}

// told takes what a beat says, all of it or nothing.
func (p *peer) told(payload []byte, m moment) *refusal {
	if len(payload) == 0 {
		return nil
	}
	var b beat
	if err := json.Unmarshal(payload, &b); err != nil {
		return &refusal{why: whyPayload, reason: mqtt.PayloadFormatInvalid, detail: "a beat is a JSON object"}
	}
	if err := wire.CheckAttributes(b.Attributes); err != nil {
		return &refusal{why: whyPayload, reason: mqtt.QuotaExceeded, detail: err.Error()}
	}
	rules, interval := p.rules(), time.Duration(0) // as before
	if b.Network != nil || b.Region != nil {
		var network, region string
		if b.Network != nil {
			network = *b.Network
		}
		if b.Region != nil {
			region = *b.Region
		}
		if !wire.ValidPlace(network) || !wire.ValidPlace(region) {
			return badPlace
		}
		rules = p.s.shared.of(p.presence.at(network, region))
	}
	if b.Interval != 0 || rules != p.rules() {
		asked := cmp.Or(time.Duration(b.Interval)*time.Millisecond, p.s.table.Interval(p.session))
		if r := p.bounded(rules, asked, &interval); r != nil {
			return r
		}
	}
	if len(b.Outcomes) > 0 {
		if r := p.outcomes(rules, b.Outcomes, m.stamp.Tick); r != nil {
			return r
		}
	}
	if rules != p.rules() {
		p.extra().moved = rules
	}
	if interval != 0 {
		p.renew(interval)
	}
	if b.Attributes != nil && !p.probe {
		p.s.describe(p.key(), p.session.Principal(), b.Attributes, m.stamp.Tick)
	}
	return nil
}

var badPlace = &refusal{why: whyPayload, reason: mqtt.PayloadFormatInvalid, detail: "a network and a region are at most 32 of A-Z a-z 0-9 . _ -"}

// outcomes takes what a client reports of its silences.
func (p *peer) outcomes(rules *Presence, all []wire.Outcomes, now session.Tick) *refusal {
	if err := wire.CheckOutcomes(all); err != nil {
		return &refusal{why: whyPayload, reason: mqtt.QuotaExceeded, detail: err.Error()}
	}
	x := p.extra()
	if x.reported != 0 && now-x.reported < session.Ticks(reportEvery) {
		return &refusal{why: whyPayload, reason: mqtt.QuotaExceeded, detail: fmt.Sprintf("outcomes may be reported every %v", reportEvery)}
	}
	x.reported = now
	if p.presence.Kind == Clients && !p.probe {
		class, client := p.session.Key()
		p.s.outcomes.add(network{class.Name(), rules.network}, client, all)
	}
	return nil
}

// keepAlive takes the payload of wire.TopicKeepAlive.
func (p *peer) keepAlive(payload []byte) *refusal {
	seconds, err := strconv.ParseUint(string(payload), 10, 16)
	if err != nil {
		return &refusal{why: whyPayload, reason: mqtt.PayloadFormatInvalid, detail: "a keep-alive is a number of seconds"}
	}
	var interval time.Duration
	if r := p.bounded(p.rules(), time.Duration(seconds)*time.Second, &interval); r != nil {
		return r
	}
	p.renew(interval)
	return nil
}

// bounded sets interval to what is asked, within the rules. What is too long is
// refused, because the client would count as gone; what is too short becomes the shortest.
func (p *peer) bounded(rules *Presence, asked time.Duration, interval *time.Duration) *refusal {
	*interval = rules.interval(asked, p.probe)
	if asked <= 0 || asked > *interval {
		return &refusal{why: whyPayload, reason: mqtt.PayloadFormatInvalid, detail: fmt.Sprintf("the longest interval here is %v", rules.interval(0, p.probe))}
	}
	return nil
}

// renew changes the session's lease, and what is recorded of it. A datagram may have
// done so before: what counts is what the table has.
func (p *peer) renew(interval time.Duration) {
	if p.s.table.Renew(p.session, p.presence.lease(interval)) && !p.probe {
		p.s.recorder.Renew(p.key(), p.arrival, interval)
	}
}
