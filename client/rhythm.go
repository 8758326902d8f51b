package client

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
)

// rhythm decides how long a connection may be silent before the next beat: a
// fixed time, or a strategy's.
type rhythm struct {
	foreground, rest time.Duration // fixed: before jitter
	jitter           float64       // how much earlier, at most, as a share
	background       bool

	strategy adaptive.Strategy // nil: fixed
	state    adaptive.State
	network  string
	interval time.Duration // the strategy's last decision

	// least and most are the server's bounds; zero: none. most is kept beyond
	// a session, until a server allows more.
	least, most time.Duration
	// asked and declared are what CONNECT asked for and what the server holds
	// now, in seconds.
	asked, declared uint16
}

func newRhythm(c Config) rhythm {
	r := rhythm{
		foreground: c.Interval, rest: c.BackgroundInterval, jitter: c.Jitter,
		strategy: c.Heartbeat, state: c.HeartbeatState, network: c.Network,
	}
	// A strategy begins in the background.
	if r.adapts() {
		r.background = true
		r.state.Foreground = false
		if r.state.Strategy == r.strategy.Name() && r.state.Network == r.network {
			r.interval = r.state.Interval.Duration()
		}
	}
	return r
}

func (r *rhythm) adapts() bool { return r.strategy != nil }

// silence is how long the connection may be silent now.
func (r *rhythm) silence() time.Duration {
	d := r.foreground
	switch {
	case r.adapts():
		return r.interval // within the server's limit already
	case r.background:
		d = r.rest
	}
	if r.most > 0 {
		d = min(d, r.most)
	}
	return max(d, r.least)
}

// first is when the beat after the one at a connection's beginning is due.
func (r *rhythm) first(now time.Time, rnd *rand.Rand) time.Time {
	if r.adapts() || r.jitter == 0 {
		return r.after(now, rnd)
	}
	return now.Add(time.Duration((1 - rnd.Float64()) * float64(r.silence())))
}

// after is when the next beat is due, where the last packet was sent at last.
func (r *rhythm) after(last time.Time, rnd *rand.Rand) time.Time {
	return last.Add(time.Duration((1 - r.jitter*rnd.Float64()) * float64(r.silence())))
}

// ask is the interval to declare in CONNECT, in seconds. While a strategy still
// searches it asks for the longest there is: the answer tells the server's limit.
func (r *rhythm) ask() uint16 {
	if _, settled := r.state.Settled(); r.adapts() && (!settled || r.interval == 0) {
		r.asked = math.MaxUint16
	} else {
		r.asked = seconds(r.silence())
	}
	return r.asked
}

// connected takes the interval that the server imposes; 0: it takes what was
// asked.
func (r *rhythm) connected(now time.Time, imposed uint16) {
	r.declared = r.asked
	r.least = 0
	switch k := time.Duration(imposed) * time.Second; {
	case imposed == 0 || imposed == r.asked:
		if asked := time.Duration(r.asked) * time.Second; r.asked == math.MaxUint16 || r.most < asked {
			r.most = 0
		}
	case imposed < r.asked:
		r.most, r.declared = k, imposed
	default:
		r.least, r.declared = k, imposed
		r.most = 0
	}
	r.tell(now, adaptive.Connected(r.network, r.most))
}

// refused takes that the server has refused a declaration: what it holds is the
// longest that it allows.
func (r *rhythm) refused(now time.Time, held uint16) {
	r.declared = held
	r.most = time.Duration(held) * time.Second
	r.tell(now, adaptive.Connected(r.network, r.most))
}

// declare tells what to declare to the server, in seconds; false: it holds that.
func (r *rhythm) declare() (uint16, bool) {
	s := seconds(max(r.silence(), r.least))
	return s, s != r.declared
}

// answered takes an answer, timely or late.
func (r *rhythm) answered(now time.Time, silence time.Duration) {
	r.tell(now, adaptive.Answered(silence))
}

// failed takes that a beat was not answered, and tells whether to leave.
func (r *rhythm) failed(now time.Time, silence time.Duration) (leave bool) {
	return r.tell(now, adaptive.Failed(silence)).Leave
}

// lost takes that the connection has ended.
func (r *rhythm) lost(now time.Time, silence time.Duration) { r.tell(now, adaptive.Lost(silence)) }

// moved takes that the network has changed.
func (r *rhythm) moved(now time.Time, network string) {
	r.network = network
	r.tell(now, adaptive.NetworkChanged())
}

// see takes that a person looks at the program, or does no more.
func (r *rhythm) see(now time.Time, foreground bool) {
	r.background = !foreground
	if foreground {
		r.tell(now, adaptive.Foreground())
	} else {
		r.tell(now, adaptive.Background())
	}
}

func (r *rhythm) tell(now time.Time, e adaptive.Event) adaptive.Decision {
	if !r.adapts() {
		return adaptive.Decision{}
	}
	var d adaptive.Decision
	r.state, d = r.strategy.Next(r.state, e, now)
	if d.Interval > 0 {
		r.interval = d.Interval.Duration()
	}
	return d
}

// seconds is d as keepalive declares it: no beat is further from the one before.
func seconds(d time.Duration) uint16 {
	return uint16(min(max(math.Ceil(d.Seconds()-1e-6), 1), math.MaxUint16))
}
