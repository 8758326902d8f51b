package mqtt

import "strings"

// Publish is a PUBLISH packet. Payload shares memory with the frame.
type Publish struct {
	Topic     string
	QoS       byte
	Duplicate bool
	Retain    bool
	PacketID  uint16 // 0 where QoS is 0
	Payload   []byte

	// TopicAlias stands for the topic where HasTopicAlias (version 5).
	TopicAlias    uint16
	HasTopicAlias bool
	User          []User
}

// ParsePublish reads a whole frame that is a PUBLISH from a client.
func ParsePublish(frame []byte, v Version) (Publish, error) {
	var p Publish
	r, err := open(frame, PUBLISH)
	if err != nil {
		return p, err
	}
	p.QoS, p.Duplicate, p.Retain = frame[0]>>1&3, frame[0]&8 != 0, frame[0]&1 != 0
	p.Topic = r.string("topic name")
	if p.QoS > 0 {
		p.PacketID = r.packetID()
	}
	if v == V5 {
		props := r.properties(inPublish)
		p.TopicAlias, p.HasTopicAlias, p.User = props.topicAlias, props.hasTopicAlias, props.user
	}
	if r.err == nil && strings.ContainsAny(p.Topic, "+#") {
		r.fail("wildcards in a topic name") // [MQTT-3.3.2-2]
	}
	if r.err == nil && p.Topic == "" && !p.HasTopicAlias {
		if v == V5 {
			r.violate("neither a topic nor an alias") // section 3.3.2.1
		} else {
			r.fail("an empty topic name") // [3.1.1: 4.7.3-1]
		}
	}
	if r.err != nil {
		return Publish{}, r.err
	}
	p.Payload = r.b
	return p, nil
}

// Subscribe is a SUBSCRIBE or UNSUBSCRIBE packet.
type Subscribe struct {
	PacketID uint16
	Filters  []Filter
	// SubscriptionID is 0 where none is given.
	SubscriptionID int
}

// Filter is one topic filter, and how it is subscribed to.
type Filter struct {
	Topic string
	// QoS is the greatest that is asked for.
	QoS byte

	// The rest is of version 5 (section 3.8.3.1), and left where the filter is
	// of an UNSUBSCRIBE.

	// AsPublished: RETAIN is sent as it was published.
	AsPublished bool
	// Current tells when what is retained is sent.
	Current RetainHandling
}

// RetainHandling is when a new subscriber is sent what is retained.
type RetainHandling byte

// The ways to handle it.
const (
	RetainSend RetainHandling = iota
	RetainSendNew
	RetainDoNotSend
)

// ParseSubscribe reads a whole frame that is a SUBSCRIBE.
func ParseSubscribe(frame []byte, v Version) (Subscribe, error) {
	r, err := open(frame, SUBSCRIBE)
	if err != nil {
		return Subscribe{}, err
	}
	s := Subscribe{PacketID: r.packetID()}
	if v == V5 {
		s.SubscriptionID = r.properties(inSubscribe).subscriptionID
	}
	return s.filters(r, func(filter *Filter) {
		o := r.byte("subscription options")
		filter.QoS, filter.AsPublished, filter.Current = o&3, o&8 != 0, RetainHandling(o>>4&3)
		reserved := o & 0xfc // [3.1.1: 3.8.3-4]
		if v == V5 {
			reserved = o & 0xc0 // [MQTT-3.8.3-5]
		}
		switch {
		case r.err != nil:
		case reserved != 0 || o&3 == 3:
			r.fail("subscription options %#02x", o)
		case o&0x30 == 0x30:
			r.violate("retain handling 3") // section 3.8.3.1
		case o&4 != 0 && strings.HasPrefix(filter.Topic, "$share/"):
			r.violate("no local on a shared subscription") // [MQTT-3.8.3-4]
		}
	})
}

// ParseUnsubscribe reads a whole frame that is an UNSUBSCRIBE.
func ParseUnsubscribe(frame []byte, v Version) (Subscribe, error) {
	r, err := open(frame, UNSUBSCRIBE)
	if err != nil {
		return Subscribe{}, err
	}
	s := Subscribe{PacketID: r.packetID()}
	if v == V5 {
		r.properties(inUnsubscribe)
	}
	return s.filters(r, func(*Filter) {})
}

func (s Subscribe) filters(r *reader, options func(*Filter)) (Subscribe, error) {
	for len(r.b) > 0 {
		filter := Filter{Topic: r.string("topic filter")}
		if r.err == nil && filter.Topic == "" {
			r.fail("an empty topic filter") // [MQTT-4.7.3-1]
		}
		options(&filter)
		s.Filters = append(s.Filters, filter)
	}
	if r.err == nil && len(s.Filters) == 0 {
		r.violate("no topic filter") // [MQTT-3.8.3-2] [MQTT-3.10.3-2]
	}
	if r.err != nil {
		return Subscribe{}, r.err
	}
	return s, nil
}

// Disconnect is a DISCONNECT packet from a client.
type Disconnect struct {
	Reason Reason // Success in version 3.1.1
	// SessionExpiry in seconds, where the client changes it (version 5).
	SessionExpiry uint32
}

// ParseDisconnect reads a whole frame that is a DISCONNECT.
func ParseDisconnect(frame []byte, v Version) (Disconnect, error) {
	r, err := open(frame, DISCONNECT)
	if err != nil {
		return Disconnect{}, err
	}
	var d Disconnect
	if v == V5 && len(r.b) > 0 {
		d.Reason = Reason(r.byte("reason code"))
		if len(r.b) > 0 {
			d.SessionExpiry = r.properties(inDisconnect).sessionExpiry
		}
	}
	return d, r.end()
}

// ParseAck reads a whole frame that is a PUBACK, PUBREC, PUBREL or PUBCOMP, for
// its packet identifier.
func ParseAck(frame []byte, v Version) (uint16, error) {
	r, err := body(frame)
	if err != nil {
		return 0, err
	}
	id := r.packetID()
	if v == V5 && len(r.b) > 0 {
		r.byte("reason code")
		if len(r.b) > 0 {
			r.properties(inAck)
		}
	}
	return id, r.end()
}

func open(frame []byte, t Type) (*reader, error) {
	r, err := body(frame)
	if err == nil && TypeOf(frame[0]) != t {
		err = malformed("%v is not %v", TypeOf(frame[0]), t)
	}
	return r, err
}

// packetID reads a packet identifier, which is never 0 [MQTT-2.2.1-3].
func (r *reader) packetID() uint16 {
	id := r.uint16("packet identifier")
	if id == 0 && r.err == nil {
		r.violate("packet identifier 0")
	}
	return id
}
