package sim

import "time"

// costArrival is what an arrival costs all that take part in it, where they
// share processors: 0.31 ms in the client (one of many in a process, with the
// SDK), 0.27 ms in the server (reading, admission, credentials, session, the
// answer and its list of servers, the record) and 0.18 ms in etcd. Measured in the
// demo's fault "kill", by the processors' time of each kind of process while 679
// clients came back, less what they take at rest.
const costArrival = 760 * time.Microsecond

// processors of one machine, and until when each is busy. There are none where
// machines are not short of them.
type processors []time.Duration

// take gives the next free processor a piece of work, and tells when it is done:
// after that long.
func (p processors) take(now, cost time.Duration) time.Duration {
	if len(p) == 0 {
		return 0
	}
	first := 0
	for i, busy := range p {
		if busy < p[first] {
			first = i
		}
	}
	p[first] = max(p[first], now) + cost
	return p[first] - now
}
