package mqtt

import "encoding/binary"

// Connack is the answer to CONNECT. Session Present is always 0.
type Connack struct {
	Version Version
	Reason  Reason

	// The rest is of version 5.

	// KeepAlive replaces the client's, in seconds, where HasKeepAlive.
	KeepAlive    uint16
	HasKeepAlive bool
	// NoSessionExpiry tells a client that asked for a session expiry that it gets none.
	NoSessionExpiry bool
	// MaximumPacket is the longest packet that the server takes, in bytes; 0 is not sent.
	MaximumPacket uint32
	// ReceiveMaximum bounds the client's unacknowledged PUBLISHes; 0 is not sent.
	ReceiveMaximum uint16
	// Reference is another server, with UseAnotherServer.
	Reference string
	Text      string // reason string
	User      []User
}

// Append appends the packet. Text and User are left out where it would be
// longer than limit bytes with them [MQTT-3.2.2-19] [MQTT-3.2.2-20]; 0: no limit.
// A refusal that version 3.1.1 has no code for appends nothing.
func (c Connack) Append(b []byte, limit uint32) []byte {
	if c.Version != V5 {
		code, ok := c.Reason.ReturnCode()
		if !ok {
			return b
		}
		return append(b, byte(CONNACK)<<4, 2, 0, code)
	}
	p := props{text: c.Text, users: c.User}
	if c.Reason == Success {
		// What a heartbeat server does not do (section 3.2.2.3).
		p.byte(propMaximumQoS, 1)
		p.byte(propRetainAvailable, 0)
		p.byte(propSubIDAvailable, 0)
		p.byte(propSharedAvailable, 0)
	}
	if c.HasKeepAlive {
		p.uint16(propServerKeepAlive, c.KeepAlive)
	}
	if c.NoSessionExpiry {
		p.uint32(propSessionExpiry, 0)
	}
	if c.MaximumPacket > 0 {
		p.uint32(propMaximumPacketSize, c.MaximumPacket)
	}
	if c.ReceiveMaximum > 0 {
		p.uint16(propReceiveMaximum, c.ReceiveMaximum)
	}
	if c.Reference != "" {
		p.string(propServerReference, c.Reference)
	}
	return p.finish(b, CONNACK, []byte{0, byte(c.Reason)}, nil, limit)
}

// Goodbye is a DISCONNECT from the server, which exists in version 5 only.
type Goodbye struct {
	Reason Reason
	// Reference is another server, with UseAnotherServer.
	Reference string
	Text      string // reason string
	User      []User
}

// Append appends the packet, without Text and User where it would be longer
// than limit bytes; 0: no limit.
func (g Goodbye) Append(b []byte, limit uint32) []byte {
	p := props{text: g.Text, users: g.User}
	if g.Reference != "" {
		p.string(propServerReference, g.Reference)
	}
	return p.finish(b, DISCONNECT, []byte{byte(g.Reason)}, nil, limit)
}

// Puback acknowledges a PUBLISH of QoS 1.
type Puback struct {
	PacketID uint16

	// The rest is of version 5.

	Reason Reason
	Text   string // reason string
	User   []User
}

// Append appends the packet, without Text and User where it would be longer
// than limit bytes; 0: no limit.
func (a Puback) Append(b []byte, v Version, limit uint32) []byte {
	if v != V5 || a.Reason == Success && a.Text == "" && len(a.User) == 0 {
		return append(b, byte(PUBACK)<<4, 2, byte(a.PacketID>>8), byte(a.PacketID))
	}
	p := props{text: a.Text, users: a.User}
	head := []byte{byte(a.PacketID >> 8), byte(a.PacketID), byte(a.Reason)}
	return p.finish(b, PUBACK, head, nil, limit)
}

// props gathers properties in their encoded form, and the reason string and the
// user properties, which may have to be left out.
type props struct {
	b     []byte
	text  string
	users []User
}

func (p *props) byte(id, v byte) { p.b = append(p.b, id, v) }
func (p *props) uint16(id byte, v uint16) {
	p.b = binary.BigEndian.AppendUint16(append(p.b, id), v)
}
func (p *props) uint32(id byte, v uint32) {
	p.b = binary.BigEndian.AppendUint32(append(p.b, id), v)
}
func (p *props) string(id byte, s string) { p.b = appendString(append(p.b, id), s) }

// finish appends a packet of head, properties and tail; text and users only
// where limit allows them, each by itself.
func (p *props) finish(b []byte, t Type, head, tail []byte, limit uint32) []byte {
	size := func(n int) int { return 1 + 4 + len(head) + 4 + n + len(tail) } // at most
	fits := func(n int) bool { return limit == 0 || size(len(p.b)+n) <= int(limit) }
	if p.text != "" && fits(3+len(p.text)) {
		p.string(propReasonString, p.text)
	}
	n := 0
	for _, u := range p.users {
		n += 5 + len(u.Name) + len(u.Value)
	}
	if fits(n) {
		for _, u := range p.users {
			p.b = appendString(appendString(append(p.b, propUser), u.Name), u.Value)
		}
	}
	head = appendVarint(head, len(p.b))
	return frame(b, t, append(head, p.b...), tail)
}

func frame(b []byte, t Type, head, tail []byte) []byte {
	b = appendVarint(append(b, byte(t)<<4), len(head)+len(tail))
	return append(append(b, head...), tail...)
}

func appendVarint(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// appendString writes at most 65,535 bytes of s, as many as a string can have.
func appendString(b []byte, s string) []byte {
	s = s[:min(len(s), 65535)]
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}
