package sim

import "time"

const (
	// near and far are the times of a packet within a zone and between two;
	// wobble is added at random.
	near   = 200 * time.Microsecond
	far    = 600 * time.Microsecond
	wobble = 200 * time.Microsecond

	// firstRTO is the time after which TCP sends a segment again; it doubles up
	// to lastRTO. Linux's TCP_RTO_MIN and TCP_RTO_MAX.
	firstRTO = 200 * time.Millisecond
	lastRTO  = 120 * time.Second
	// synRTO is the same for the first packet of a connection (RFC 6298).
	synRTO = time.Second
)

// network says what becomes of packets. Places are the nodes by their number,
// then the store, then the clients outside by zone.
type network struct {
	nodes, zones int
	rules        []*rule
	dead         []bool // machines that are off
	anyDead      int
}

// rule loses a share of the packets from some places to others.
type rule struct {
	from, to func(place int) bool
	loss     float64
}

func (n *network) store() int           { return n.nodes }
func (n *network) outside(zone int) int { return n.nodes + 1 + zone }

// zone of a place. The store is in every zone: a zone that is lost leaves a
// majority of it.
func (n *network) zone(place int) int {
	switch {
	case place < n.nodes:
		return place % n.zones
	case place == n.nodes:
		return -1
	}
	return place - n.nodes - 1
}

// calm: nothing at all is lost on any way.
func (n *network) calm() bool { return len(n.rules) == 0 && n.anyDead == 0 }

// loss is the share of packets that are lost on the way.
func (n *network) loss(from, to int) float64 {
	if from == to {
		if from < n.nodes && n.dead[from] {
			return 1
		}
		return 0
	}
	if n.anyDead > 0 && (from < n.nodes && n.dead[from] || to < n.nodes && n.dead[to]) {
		return 1
	}
	pass := 1.0
	for _, r := range n.rules {
		if r.from(from) && r.to(to) {
			pass *= 1 - r.loss
		}
	}
	return 1 - pass
}

// passes tells whether one packet arrives.
func (w *world) passes(from, to int) bool {
	if w.net.calm() {
		return true
	}
	switch l := w.net.loss(from, to); l {
	case 0:
		return true
	case 1:
		return false
	default:
		return w.rnd.Float64() >= l
	}
}

// cut tells whether no packet arrives at all.
func (w *world) cut(from, to int) bool { return !w.net.calm() && w.net.loss(from, to) == 1 }

// delay is how long one packet is on its way.
func (w *world) delay(from, to int) time.Duration {
	d := far
	if from == to {
		d = near / 4
	} else if w.net.zone(from) == w.net.zone(to) {
		d = near
	}
	return d + time.Duration(w.rnd.Uint64()%uint64(wobble))
}

// transfer is a message over a connection that is kept: sent again until it
// arrives, or until nobody waits for it any more.
type transfer struct {
	w        *world
	from, to int
	rto      time.Duration
	wanted   func() bool
	arrived  func()
}

// transfer sends a message by TCP: arrived happens when it gets there; wanted
// is asked before each further attempt.
func (w *world) transfer(from, to int, wanted func() bool, arrived func()) {
	t := &transfer{w: w, from: from, to: to, rto: firstRTO, wanted: wanted, arrived: arrived}
	t.handle(0, 0)
}

func (t *transfer) handle(int, int64) {
	if t.wanted != nil && !t.wanted() {
		return
	}
	if t.w.passes(t.from, t.to) {
		t.w.after(t.w.delay(t.from, t.to), t.arrived)
		return
	}
	t.w.at(t.w.now+t.rto, t, 0, 0)
	t.rto = min(2*t.rto, lastRTO)
}
