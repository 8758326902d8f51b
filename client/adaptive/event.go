package adaptive

import "time"

// Kind says what an Event is.
type Kind string

// The kinds of events. Event's constructors of the same names say what they mean.
const (
	KindConnected      Kind = "connected"
	KindAnswered       Kind = "answered"
	KindFailed         Kind = "failed"
	KindLost           Kind = "lost"
	KindForeground     Kind = "foreground"
	KindBackground     Kind = "background"
	KindNetworkChanged Kind = "networkChanged"
	KindTick           Kind = "tick"
)

// Event is what has happened to the connection or to the program. One of an
// unknown kind is a Tick.
type Event struct {
	Kind Kind `json:"kind"`
	// Network is where the client is, of Connected.
	Network string `json:"network,omitempty"`
	// Limit is the longest interval the server allows, of Connected; zero: any.
	Limit Millis `json:"limitMs,omitempty"`
	// Silence is how long nothing was sent before the beat, of Answered, Failed
	// and Lost.
	Silence Millis `json:"silenceMs,omitempty"`
}

// Connected says that a connection was made over a network, and a beat is sent at once.
// The network's name is whatever tells NATs apart (an SSID, an operator with
// its access point), at most MaxNetworkName bytes; with an empty one nothing is
// learned. Limit is the Server Keep Alive, or zero.
func Connected(network string, limit time.Duration) Event {
	return Event{Kind: KindConnected, Network: network, Limit: millis(limit)}
}

// Answered says that the answer to a beat came in time; the beat had been sent after
// that long a silence.
func Answered(silence time.Duration) Event {
	return Event{Kind: KindAnswered, Silence: millis(silence)}
}

// Failed says that no answer to a beat came in time, and the connection still looks open.
func Failed(silence time.Duration) Event {
	return Event{Kind: KindFailed, Silence: millis(silence)}
}

// Lost says that the connection has ended. When that was the answer to a beat, silence
// is how long nothing had been sent before it; else zero, and nothing is
// learned: servers close connections for reasons of their own.
func Lost(silence time.Duration) Event {
	return Event{Kind: KindLost, Silence: millis(silence)}
}

// Foreground says that a person looks at the program: beats are at Min until Background.
func Foreground() Event { return Event{Kind: KindForeground} }

// Background ends Foreground. A program begins in the background.
func Background() Event { return Event{Kind: KindBackground} }

// NetworkChanged says that the connection's network is gone. Nothing is learned, and the
// decision is to leave.
func NetworkChanged() Event { return Event{Kind: KindNetworkChanged} }

// Tick says that only time has passed.
func Tick() Event { return Event{Kind: KindTick} }

// sane is e with nothing in it that a State could not hold.
func (e Event) sane() Event {
	e.Limit = min(max(e.Limit, 0), maxMillis)
	e.Silence = min(max(e.Silence, 0), maxMillis)
	return e
}
