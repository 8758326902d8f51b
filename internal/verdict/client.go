package verdict

import "time"

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

// Session is all that is known of one client.
type Session struct {
	LastBeat time.Time
	// Interval that the client declared; zero: none, and it is never Late or Offline by silence.
	Interval time.Duration
	// Goodbye: it left on purpose.
	Goodbye bool
	// ServerLost is since when its server is gone; zero: the server is there.
	ServerLost time.Time
	// Failover: one of that server is in progress. FailoverEnded is when the last one ended; zero: none.
	Failover      bool
	FailoverEnded time.Time
}

// Client judges one session, under the brake of the servers. It returns the
// verdict and when to look again; zero: only when something changes.
func Client(now time.Time, p ClientPolicy, s Session, brake Brake) (Verdict, time.Time) {
	return Verdict{}, time.Time{}
}
