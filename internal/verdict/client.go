package verdict

import (
	"fmt"
	"time"
)

// ClientPolicy is how silent a client may be.
type ClientPolicy struct {
	// MissesUntilLate is how many intervals may pass without a beat before a
	// client is Late; below 1 counts as 1.
	MissesUntilLate int
	// MissesUntilOffline is how many times 1.5 intervals may pass, plus Grace,
	// before it is Offline; below 1 counts as 1.
	MissesUntilOffline int
	Grace              time.Duration
}

// Lease is how long a session lives after a beat.
func (p ClientPolicy) Lease(interval time.Duration) time.Duration {
	return time.Duration(max(p.MissesUntilOffline, 1))*(interval+interval/2) + p.Grace
}

// Patience is how long a client may take to come to another server after its own
// was lost: a lease, and an interval more. An ordinary client finds that out when its
// next PINGREQ goes unanswered for as long again.
func (p ClientPolicy) Patience(interval time.Duration) time.Duration {
	return p.Lease(interval) + interval
}

// Session is all that is known of one client.
type Session struct {
	LastBeat time.Time
	// Interval that the client declared; zero: none, and it is never Late or
	// Offline by silence.
	Interval time.Duration
	// Goodbye: it left on purpose.
	Goodbye bool
	// ServerLost is since when its server is gone; zero: the server is there.
	ServerLost time.Time
	// Failover: one of that server is in progress. FailoverEnded is when the
	// last one ended; zero: none.
	Failover      bool
	FailoverEnded time.Time
}

// Client judges one session, under the brake of its server's Presence. It
// returns the verdict and when to look again; zero: only when something changes.
//
// A client whose server is lost is Orphaned, and Offline only when the policy's
// Patience is over after the loss, the end of that server's Failover and the end of any freeze,
// whichever is last: it had no fair chance to beat elsewhere before. While the
// server is there, the lease alone decides, and the brake has no say.
//
// Since is when the state began; zero for Online.
func Client(now time.Time, p ClientPolicy, s Session, brake Brake) (Verdict, time.Time) {
	switch {
	case s.Goodbye:
		return Verdict{State: Offline, Since: s.LastBeat, Reason: ReasonGoodbye, Message: "It left on purpose"}, time.Time{}
	case !s.ServerLost.IsZero():
		return orphan(now, p, s, brake)
	case s.Interval <= 0:
		return Verdict{State: Online, Reason: ReasonBeating, Message: "It declared no interval"}, time.Time{}
	}

	misses := max(p.MissesUntilLate, 1)
	late := s.LastBeat.Add(time.Duration(misses) * s.Interval)
	end := s.LastBeat.Add(p.Lease(s.Interval))
	switch {
	case !now.Before(end):
		return Verdict{State: Offline, Since: end, Detected: late, Reason: ReasonLeaseEnded, Proven: true,
			Message: fmt.Sprintf("No beat for %v (interval %v)", p.Lease(s.Interval), s.Interval)}, time.Time{}
	case !now.Before(late):
		return Verdict{State: Late, Since: late, Detected: late, Reason: ReasonMissed,
			Message: fmt.Sprintf("No beat for %v (interval %v)", time.Duration(misses)*s.Interval, s.Interval)}, end
	}
	return Verdict{State: Online, Reason: ReasonBeating, Message: "It beats"}, earliest(late, end)
}

func orphan(now time.Time, p ClientPolicy, s Session, brake Brake) (Verdict, time.Time) {
	v := Verdict{State: Orphaned, Since: s.ServerLost, Detected: s.ServerLost, Reason: ReasonServerLost}
	switch {
	case brake.Frozen:
		v.Message = "Its server is lost; nobody is declared offline while frozen: " + brake.Reason
		return v, time.Time{}
	case s.Failover:
		v.Message = "Its server is lost, and its clients are being moved"
		return v, time.Time{}
	case s.Interval <= 0:
		v.Message = "Its server is lost, and it declared no interval"
		return v, time.Time{}
	}
	end := latest(latest(s.ServerLost, s.FailoverEnded), brake.Since).Add(p.Patience(s.Interval))
	if now.Before(end) {
		v.Message = fmt.Sprintf("Its server is lost; it has %v to beat elsewhere (interval %v)", p.Patience(s.Interval), s.Interval)
		return v, end
	}
	v.State, v.Since, v.Proven = Offline, end, true
	v.Message = fmt.Sprintf("Its server is lost, and it did not come to another within %v", p.Patience(s.Interval))
	return v, time.Time{}
}

// earliest is the earlier of two moments, zero meaning never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// latest is the later of two moments, zero meaning long ago.
func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
