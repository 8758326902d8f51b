package client

import "time"

// granularity is the least margin above the smoothed round trip: G of RFC 6298.
const granularity = 10 * time.Millisecond

// roundTrip estimates how long an answer may take, as RFC 6298 does for TCP.
//
// Two of its rules are not needed. Answers to a beat that was sent again can be
// told apart here, so all of them count (Karn's algorithm leaves them out). And
// the timeout isn't doubled when it passes: a beat of two bytes adds to nobody's
// congestion, and a hung server is to be left in a known time.
type roundTrip struct {
	floor, ceiling time.Duration
	// smoothed and variation are SRTT and RTTVAR; smoothed is zero before the
	// first answer.
	smoothed, variation time.Duration
}

// observe takes how long an answer took.
func (r *roundTrip) observe(d time.Duration) {
	d = max(d, 1)
	if r.smoothed == 0 {
		r.smoothed, r.variation = d, d/2
		return
	}
	r.variation += ((r.smoothed - d).Abs() - r.variation) / 4
	r.smoothed += (d - r.smoothed) / 8
}

// timeout is how long to wait for an answer.
func (r *roundTrip) timeout() time.Duration {
	if r.smoothed == 0 {
		return r.ceiling
	}
	return min(max(r.smoothed+max(granularity, 4*r.variation), r.floor), r.ceiling)
}
