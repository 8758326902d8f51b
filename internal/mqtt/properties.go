package mqtt

// Property identifiers (section 2.2.2.2).
const (
	propPayloadFormat     = 0x01
	propMessageExpiry     = 0x02
	propContentType       = 0x03
	propResponseTopic     = 0x08
	propCorrelationData   = 0x09
	propSubscriptionID    = 0x0B
	propSessionExpiry     = 0x11
	propServerKeepAlive   = 0x13
	propAuthMethod        = 0x15
	propAuthData          = 0x16
	propRequestProblem    = 0x17
	propWillDelay         = 0x18
	propRequestResponse   = 0x19
	propServerReference   = 0x1C
	propReasonString      = 0x1F
	propReceiveMaximum    = 0x21
	propTopicAliasMaximum = 0x22
	propTopicAlias        = 0x23
	propMaximumQoS        = 0x24
	propRetainAvailable   = 0x25
	propUser              = 0x26
	propMaximumPacketSize = 0x27
	propWildcardAvailable = 0x28
	propSubIDAvailable    = 0x29
	propSharedAvailable   = 0x2A
)

// User is a user property. A name may come more than once.
type User struct{ Name, Value string }

// MaxUsers is how many user properties of one packet are read; a packet with
// more is refused, so that a small packet cannot ask for much memory.
const MaxUsers = 64

// where is a set of places that properties may stand in.
type where uint16

const (
	inConnect where = 1 << iota
	inWill
	inPublish
	inAck // PUBACK, PUBREC, PUBREL, PUBCOMP
	inSubscribe
	inUnsubscribe
	inDisconnect
	inAuth
)

// allowed says where a client may send which property (table 2-4).
var allowed = map[int]where{
	propPayloadFormat:     inWill | inPublish,
	propMessageExpiry:     inWill | inPublish,
	propContentType:       inWill | inPublish,
	propResponseTopic:     inWill | inPublish,
	propCorrelationData:   inWill | inPublish,
	propSubscriptionID:    inSubscribe, // in PUBLISH only from a server [MQTT-3.3.4-6]
	propSessionExpiry:     inConnect | inDisconnect,
	propAuthMethod:        inConnect | inAuth,
	propAuthData:          inConnect | inAuth,
	propRequestProblem:    inConnect,
	propWillDelay:         inWill,
	propRequestResponse:   inConnect,
	propReasonString:      inAck | inDisconnect | inAuth,
	propReceiveMaximum:    inConnect,
	propTopicAliasMaximum: inConnect,
	propTopicAlias:        inPublish,
	propUser:              inConnect | inWill | inPublish | inAck | inSubscribe | inUnsubscribe | inDisconnect | inAuth,
	propMaximumPacketSize: inConnect,
}

// properties are those that a heartbeat server looks at; the rest is checked
// and left.
type properties struct {
	sessionExpiry  uint32
	noProblemInfo  bool
	receiveMaximum uint16 // 0: not given
	maximumPacket  uint32 // 0: not given
	topicAlias     uint16
	hasTopicAlias  bool
	subscriptionID int
	authMethod     string
	hasAuthMethod  bool
	hasAuthData    bool
	described      bool // one of a message, but for a will's delay
	user           []User
}

// properties reads a length and the properties in it. Each may stand once, but
// for user properties; a property out of place is malformed (section 2.2.2.2),
// a repeated one a protocol error (section 2.2.2.2 and each property's own).
func (r *reader) properties(in where) (p properties) {
	p2 := reader{b: r.take(r.varint("properties"), "properties")}
	if r.err != nil {
		return properties{}
	}
	var seen uint64
	for len(p2.b) > 0 && r.err == nil {
		id := p2.varint("property identifier")
		if p2.err == nil && allowed[id]&in == 0 {
			p2.fail("property %#02x does not belong here", id)
		}
		if p2.err == nil && id != propUser {
			if seen&(1<<id) != 0 {
				p2.violate("property %#02x is given twice", id)
				break
			}
			seen |= 1 << id
		}
		p.described = p.described || id != propWillDelay
		p2.property(id, &p)
		if p2.err != nil {
			break
		}
	}
	if p2.err != nil {
		r.stop(p2.err)
		return properties{}
	}
	if p.hasAuthData && !p.hasAuthMethod && in&inConnect != 0 {
		r.violate("authentication data without a method") // section 3.1.2.11.10
	}
	return p
}

func (r *reader) property(id int, p *properties) {
	switch id {
	case propPayloadFormat:
		r.bool("payload format indicator")
	case propRequestResponse:
		r.bool("request response information")
	case propRequestProblem:
		p.noProblemInfo = !r.bool("request problem information")
	case propMessageExpiry, propWillDelay:
		r.uint32("an interval")
	case propSessionExpiry:
		p.sessionExpiry = r.uint32("session expiry interval")
	case propContentType, propResponseTopic, propReasonString:
		r.string("a string property")
	case propCorrelationData:
		r.binary("correlation data")
	case propAuthData:
		r.binary("authentication data")
		p.hasAuthData = true
	case propAuthMethod:
		p.authMethod, p.hasAuthMethod = r.string("authentication method"), true
	case propSubscriptionID:
		if p.subscriptionID = r.varint("subscription identifier"); p.subscriptionID == 0 && r.err == nil {
			r.violate("subscription identifier 0") // section 3.8.2.1.2
		}
	case propReceiveMaximum:
		if p.receiveMaximum = r.uint16("receive maximum"); p.receiveMaximum == 0 && r.err == nil {
			r.violate("receive maximum 0") // section 3.1.2.11.3
		}
	case propMaximumPacketSize:
		if p.maximumPacket = r.uint32("maximum packet size"); p.maximumPacket == 0 && r.err == nil {
			r.violate("maximum packet size 0") // section 3.1.2.11.4
		}
	case propTopicAliasMaximum:
		r.uint16("topic alias maximum")
	case propTopicAlias:
		p.topicAlias, p.hasTopicAlias = r.uint16("topic alias"), true
	case propUser:
		u := User{r.string("user property name"), r.string("user property value")}
		if len(p.user) == MaxUsers {
			r.fail("more than %d user properties", MaxUsers)
			return
		}
		p.user = append(p.user, u)
	}
}

// bool reads a byte that must be 0 or 1; anything else is a protocol error.
func (r *reader) bool(what string) bool {
	b := r.byte(what)
	if b > 1 && r.err == nil {
		r.violate("%s is %d", what, b)
	}
	return b == 1
}
