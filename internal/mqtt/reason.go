package mqtt

import "fmt"

// Reason is a reason code of MQTT 5 (section 2.4). Version 3.1.1 has return
// codes for CONNACK only; see ReturnCode.
type Reason byte

// The reason codes that a heartbeat server sends or reads.
const (
	Success                Reason = 0x00
	GrantedQoS1            Reason = 0x01
	DisconnectWithWill     Reason = 0x04
	NoSubscriptionExisted  Reason = 0x11
	UnspecifiedError       Reason = 0x80
	Malformed              Reason = 0x81
	ProtocolError          Reason = 0x82
	ImplementationSpecific Reason = 0x83
	UnsupportedVersion     Reason = 0x84
	InvalidClientID        Reason = 0x85
	BadUserNameOrPassword  Reason = 0x86
	NotAuthorized          Reason = 0x87
	ServerUnavailable      Reason = 0x88
	ServerBusy             Reason = 0x89
	ServerShuttingDown     Reason = 0x8B
	BadAuthMethod          Reason = 0x8C
	KeepAliveTimeout       Reason = 0x8D
	SessionTakenOver       Reason = 0x8E
	TopicFilterInvalid     Reason = 0x8F
	TopicNameInvalid       Reason = 0x90
	ReceiveMaximumExceeded Reason = 0x93
	TopicAliasInvalid      Reason = 0x94
	TooLarge               Reason = 0x95
	MessageRateTooHigh     Reason = 0x96
	QuotaExceeded          Reason = 0x97
	PayloadFormatInvalid   Reason = 0x99
	RetainNotSupported     Reason = 0x9A
	QoSNotSupported        Reason = 0x9B
	UseAnotherServer       Reason = 0x9C
	SharedNotSupported     Reason = 0x9E
	SubIDNotSupported      Reason = 0xA1
)

// Failed tells whether the reason is an error: 0x80 and above.
func (r Reason) Failed() bool { return r >= 0x80 }

// ReturnCode is what a CONNACK of version 3.1.1 says instead (3.1.1, table 3.1),
// and whether there is such a code: where there is none, the server closes
// without a word.
func (r Reason) ReturnCode() (code byte, ok bool) {
	switch r {
	case Success:
		return 0, true
	case UnsupportedVersion:
		return 1, true
	case InvalidClientID:
		return 2, true
	case ServerUnavailable, ServerBusy, ServerShuttingDown, UseAnotherServer, QuotaExceeded:
		return 3, true
	case BadUserNameOrPassword:
		return 4, true
	case NotAuthorized, TopicNameInvalid, QoSNotSupported, RetainNotSupported, ImplementationSpecific, BadAuthMethod:
		return 5, true
	}
	return 0, false
}

var reasons = map[Reason]string{
	Success:                "success",
	GrantedQoS1:            "granted QoS 1",
	DisconnectWithWill:     "disconnect with will",
	NoSubscriptionExisted:  "no subscription existed",
	UnspecifiedError:       "unspecified error",
	Malformed:              "malformed packet",
	ProtocolError:          "protocol error",
	ImplementationSpecific: "implementation specific error",
	UnsupportedVersion:     "unsupported protocol version",
	InvalidClientID:        "client identifier not valid",
	BadUserNameOrPassword:  "bad user name or password",
	NotAuthorized:          "not authorized",
	ServerUnavailable:      "server unavailable",
	ServerBusy:             "server busy",
	ServerShuttingDown:     "server shutting down",
	BadAuthMethod:          "bad authentication method",
	KeepAliveTimeout:       "keep alive timeout",
	SessionTakenOver:       "session taken over",
	TopicFilterInvalid:     "topic filter invalid",
	TopicNameInvalid:       "topic name invalid",
	ReceiveMaximumExceeded: "receive maximum exceeded",
	TopicAliasInvalid:      "topic alias invalid",
	TooLarge:               "packet too large",
	MessageRateTooHigh:     "message rate too high",
	QuotaExceeded:          "quota exceeded",
	PayloadFormatInvalid:   "payload format invalid",
	RetainNotSupported:     "retain not supported",
	QoSNotSupported:        "QoS not supported",
	UseAnotherServer:       "use another server",
	SharedNotSupported:     "shared subscriptions not supported",
	SubIDNotSupported:      "subscription identifiers not supported",
}

func (r Reason) String() string {
	if s, ok := reasons[r]; ok {
		return s
	}
	return fmt.Sprintf("reason %#02x", byte(r))
}
