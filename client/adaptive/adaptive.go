// Package adaptive finds how rarely a client may beat without a NAT on its way
// forgetting the connection, for clients on batteries. It decides and does
// nothing else: it sends no beat, holds no timer and reads no clock. Inside a
// cluster, where nothing forgets connections, a fixed interval is the better
// choice.
//
// A Strategy is a pure function: state, event, now → state, decision. The state
// is plain data, so a program can keep it across restarts, and a client in
// another language can be held to testdata, which has events, decisions and
// states as JSON.
//
// There are two: Mars, the smart heartbeat of Tencent's Mars, and Bisect, ours.
// docs/assets/adaptive.md compares them on the same simulated networks.
//
// The caller's part:
//
//   - After Connected it sends a beat at once, and after each answer the next
//     one when nothing was sent for Decision.Interval. Jitter, if any, makes it
//     earlier, never later.
//   - It tells how long the connection had really been silent before a beat:
//     other packets sent in between keep a NAT's memory fresh too, and phones
//     wake late.
//   - Each new Interval is declared to the server, in whole seconds rounded up,
//     so that the lease fits.
//   - On Decision.Probe it sends another beat at once; on Decision.Leave it
//     reconnects.
package adaptive

import "time"

// Strategy decides on the interval between two beats.
type Strategy interface {
	// Name is the strategy's name in State.
	Name() string
	// Next takes what has happened. It changes nothing that s refers to. The
	// same arguments give the same results. The zero State is a beginning, and
	// so is the state of another strategy.
	Next(s State, e Event, now time.Time) (State, Decision)
}

// Decision is what to do now.
type Decision struct {
	// Interval is how long the connection may be silent before the next beat:
	// never 0, within [Min, Max] of the strategy, and never above the server's
	// limit, which wins over Min too.
	Interval Millis `json:"intervalMs"`
	// Probe: don't wait, beat again on the same connection. An answer tells
	// that only a packet was lost.
	Probe bool `json:"probe,omitempty"`
	// Leave: the connection is of no use any more, make another one. Interval
	// and Probe then say nothing.
	Leave bool `json:"leave,omitempty"`
}

// Millis is a duration in milliseconds, as JSON of every language can hold it.
type Millis int64

// Duration is m for Go.
func (m Millis) Duration() time.Duration { return time.Duration(m) * time.Millisecond }

func (m Millis) String() string { return m.Duration().String() }

// millis is d without what is below a millisecond.
func millis(d time.Duration) Millis { return Millis(d / time.Millisecond) }
