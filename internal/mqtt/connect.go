package mqtt

// Connect is a CONNECT packet. Its strings are copies, and Password shares
// memory with the frame.
type Connect struct {
	Version  Version
	ClientID string
	// KeepAlive in seconds; 0 switches it off.
	KeepAlive   uint16
	Clean       bool
	HasUserName bool
	UserName    string
	HasPassword bool
	Password    []byte
	Will        *Will

	// The rest is of version 5.

	// NoProblemInfo: the client wants reason strings and user properties in
	// CONNACK, DISCONNECT and PUBLISH only (section 3.1.2.11.7).
	NoProblemInfo bool
	// SessionExpiry in seconds that the client asks for.
	SessionExpiry uint32
	// MaximumPacket is the longest packet that the client takes, in bytes; 0: any.
	MaximumPacket uint32
	// ReceiveMaximum is how many PUBLISHes the client takes before it has
	// acknowledged one; 0: 65,535.
	ReceiveMaximum uint16
	// AuthMethod names an extended authentication, which needs AUTH packets.
	AuthMethod string
	User       []User
}

// Will is what CONNECT says of a will.
type Will struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	// Described: it has properties that would have to be published with it
	// (version 5): any but a delay.
	Described bool
}

// PeekVersion reads the version off the beginning of a CONNECT, whole or not,
// so that even a packet that cannot be read is refused in its own language; 0
// where it can't be told.
func PeekVersion(buf []byte) Version {
	if len(buf) == 0 || TypeOf(buf[0]) != CONNECT {
		return 0
	}
	_, used, err := varint(buf[1:])
	if err != nil || used == 0 || len(buf) < 1+used+7 || string(buf[1+used:1+used+6]) != "\x00\x04MQTT" {
		return 0
	}
	return Version(buf[1+used+6])
}

// ParseConnect reads a whole frame that is a CONNECT. With an error comes nothing
// but the Version, where it could be read: to be refused in it.
func ParseConnect(frame []byte) (Connect, error) {
	var c Connect
	r, err := body(frame)
	if err != nil {
		return c, err
	}
	if TypeOf(frame[0]) != CONNECT {
		return c, violation("the first packet is %v", TypeOf(frame[0])) // [MQTT-3.1.0-1]
	}
	name := r.string("protocol name")
	c.Version = Version(r.byte("protocol version"))
	switch {
	case r.err != nil:
		return Connect{}, r.err
	case name == "MQIsdp" && c.Version == 3, name == "MQTT" && c.Version != V311 && c.Version != V5:
		return Connect{Version: c.Version}, &Error{UnsupportedVersion, "neither 3.1.1 nor 5"}
	case name != "MQTT":
		return Connect{}, violation("protocol name %q", name) // [MQTT-3.1.2-1]
	}
	flags := r.byte("connect flags")
	c.KeepAlive = r.uint16("keep alive")
	if r.err == nil && flags&1 != 0 {
		r.fail("the reserved connect flag is set") // [MQTT-3.1.2-3]
	}
	if c.Version == V5 {
		p := r.properties(inConnect)
		c.NoProblemInfo, c.SessionExpiry, c.MaximumPacket = p.noProblemInfo, p.sessionExpiry, p.maximumPacket
		c.ReceiveMaximum, c.AuthMethod, c.User = p.receiveMaximum, p.authMethod, p.user
	}
	c.Clean = flags&2 != 0
	c.ClientID = r.string("client identifier")
	c.Will = r.will(flags, c.Version)
	c.HasUserName, c.HasPassword = flags&0x80 != 0, flags&0x40 != 0
	if c.HasPassword && !c.HasUserName && c.Version == V311 {
		r.fail("a password without a user name") // [3.1.1: 3.1.2.9]
	}
	if c.HasUserName {
		c.UserName = r.string("user name")
	}
	if c.HasPassword {
		c.Password = r.binary("password")
	}
	if err := r.end(); err != nil {
		return Connect{Version: c.Version}, err
	}
	return c, nil
}

func (r *reader) will(flags byte, v Version) *Will {
	w := Will{QoS: flags >> 3 & 3, Retain: flags&0x20 != 0}
	if flags&4 == 0 {
		if w.QoS != 0 || w.Retain {
			r.fail("will flags without a will") // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
		}
		return nil
	}
	if w.QoS == 3 {
		r.fail("a will of QoS 3") // [MQTT-3.1.2-12]
	}
	if v == V5 {
		w.Described = r.properties(inWill).described
	}
	w.Topic = r.string("will topic")
	w.Payload = r.binary("will payload")
	return &w
}
