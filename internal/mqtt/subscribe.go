package mqtt

// AppendSuback answers a SUBSCRIBE, each filter with the QoS that it is granted
// or the reason why it is refused.
func AppendSuback(b []byte, v Version, packetID uint16, reasons []Reason) []byte {
	codes := make([]byte, len(reasons))
	for i, r := range reasons {
		codes[i] = byte(r)
		if v != V5 && r.Failed() {
			codes[i] = 0x80 // the only failure of 3.1.1 [3.1.1: 3.9.3-2]
		}
	}
	return acknowledgement(b, SUBACK, v, packetID, codes)
}

// AppendUnsuback answers an UNSUBSCRIBE, each filter with Success or
// NoSubscriptionExisted.
func AppendUnsuback(b []byte, v Version, packetID uint16, reasons []Reason) []byte {
	var codes []byte // 3.1.1 has none
	if v == V5 {
		for _, r := range reasons {
			codes = append(codes, byte(r))
		}
	}
	return acknowledgement(b, UNSUBACK, v, packetID, codes)
}

func acknowledgement(b []byte, t Type, v Version, packetID uint16, codes []byte) []byte {
	head := []byte{byte(packetID >> 8), byte(packetID)}
	if v != V5 {
		return frame(b, t, head, codes)
	}
	return (&props{}).finish(b, t, head, codes, 0)
}

// Message is a PUBLISH from the server, of QoS 0 or 1.
type Message struct {
	Topic   string
	Payload []byte
	Retain  bool
	// PacketID is 0 where the QoS is 0.
	PacketID uint16
	User     []User // version 5
}

// Append appends the packet, without User where it would be longer than limit
// bytes with it; 0: no limit. Where it is longer all the same it appends nothing,
// and false tells so: it must not be sent [MQTT-3.1.2-24].
func (m Message) Append(b []byte, v Version, limit uint32) ([]byte, bool) {
	first := byte(PUBLISH) << 4
	head := appendString(make([]byte, 0, 2+len(m.Topic)+8), m.Topic)
	if m.Retain {
		first |= 1
	}
	if m.PacketID != 0 {
		first |= 1 << 1
		head = append(head, byte(m.PacketID>>8), byte(m.PacketID))
	}
	at := len(b)
	if v == V5 {
		b = (&props{users: m.User}).finish(b, Type(0), head, m.Payload, limit)
	} else {
		b = frame(b, Type(0), head, m.Payload)
	}
	b[at] = first
	if limit > 0 && len(b)-at > int(limit) {
		return b[:at], false
	}
	return b, true
}
