package sim

import (
	"math"
	"time"
)

// judge is another way to tell who is broken, asked about the same world.
type judge interface {
	name() string
	begin()
}

// group of judges that share a world. Those that act have one of their own.
type group struct {
	make func(w *world) []judge
}

// The names of the other judges.
const (
	rivalTCP        = "tcpSocket"
	rivalHTTP       = "httpGet readiness"
	rivalLiveness   = "liveness"
	rivalTuned      = "liveness, tuned"
	rivalMemberlist = "memberlist"
	rivalPhi        = "phi-accrual 8"
	rivalLease      = "node lease"
)

// RivalNames are the other judges, in the order of a table.
var RivalNames = []string{rivalTCP, rivalHTTP, rivalLiveness, rivalTuned, rivalMemberlist, rivalPhi, rivalLease}

func groups() []group {
	return []group{
		{func(w *world) []judge {
			return []judge{
				&kubelet{w: w, called: rivalTCP, period: 10 * time.Second, failures: 3},
				&kubelet{w: w, called: rivalHTTP, period: 10 * time.Second, failures: 3, works: true},
				newMemberlist(w), newPhi(w), newNodeLease(w),
			}
		}},
		{func(w *world) []judge {
			return []judge{&kubelet{w: w, called: rivalLiveness, period: 10 * time.Second, failures: 3, works: true, kills: true, grace: 30 * time.Second}}
		}},
		{func(w *world) []judge {
			return []judge{&kubelet{w: w, called: rivalTuned, period: time.Second, failures: 2, works: true, kills: true}}
		}},
	}
}

// judges tells whether a judge is one of servers, or of nodes. A kubelet can
// say nothing of what goes with its own machine.
func judges(name string, f *fault) bool {
	switch name {
	case rivalTCP, rivalHTTP, rivalLiveness, rivalTuned:
		return f.kind == kindServer && !f.machine
	case rivalLease:
		return f.kind == kindNode
	}
	return true
}

// kubelet probes the servers of its node: period and failures as in a pod's
// spec, timeoutSeconds 1, successThreshold 1. The best is assumed of the HTTP
// handler: that it answers from the work path.
type kubelet struct {
	w        *world
	called   string
	period   time.Duration
	failures int
	works    bool // asks the process, not its kernel
	kills    bool
	grace    time.Duration // until SIGKILL, for a process that does not end
	failed   []int
	restarts []int
	killing  []bool
}

// httpTimeout is timeoutSeconds.
const httpTimeout = time.Second

func (k *kubelet) name() string { return k.called }

func (k *kubelet) begin() {
	k.failed, k.restarts, k.killing = make([]int, len(k.w.servers)), make([]int, len(k.w.servers)), make([]bool, len(k.w.servers))
	for i := range k.w.servers {
		k.w.at(time.Duration(k.w.rnd.Int64N(int64(k.period))), k, 0, int64(i))
	}
}

func (k *kubelet) handle(_ int, server int64) {
	w, i := k.w, int(server)
	s := w.servers[i]
	w.at(w.now+k.period, k, 0, server)
	if w.net.dead[s.place] || k.killing[i] {
		return
	}
	switch {
	case s.dead:
		k.ended(i, false)
	case !k.works:
		k.ended(i, true)
	default:
		done, life := false, s.life
		end := func(ok bool) {
			if !done {
				done = true
				k.ended(i, ok)
			}
		}
		var ask func()
		ask = func() {
			switch {
			case s.life != life || done:
			case !s.free():
				s.hold(ask)
			default:
				s.answer(costPing, func() bool { return !done }, func() { end(true) })
			}
		}
		ask()
		w.after(httpTimeout, func() { end(false) })
	}
}

func (k *kubelet) ended(i int, ok bool) {
	o := k.w.out
	if ok {
		k.failed[i] = 0
		o.verdict(o.rivals[k.called], k.called, kindServer, i, false)
		return
	}
	if k.failed[i]++; k.failed[i] < k.failures {
		return
	}
	o.verdict(o.rivals[k.called], k.called, kindServer, i, true)
	if k.kills && !k.killing[i] {
		k.kill(i)
	}
}

// kill ends a container, and starts it again after the kubelet's back-off: at
// once the first time, then 10 s, twice as long each time, up to 5 min.
func (k *kubelet) kill(i int) {
	w, s := k.w, k.w.servers[i]
	t := w.out.rivals[k.called]
	k.killing[i] = true
	wait := time.Duration(0)
	if !s.free() {
		wait = k.grace
	}
	w.after(wait, func() {
		k.killing[i] = false
		k.failed[i] = 0
		if s.dead {
			return
		}
		t.killed++
		if !w.out.broken(kindServer, i) {
			t.wrongKills++
		}
		backoff := time.Second
		if n := k.restarts[i]; n > 0 {
			backoff = min(10*time.Second<<min(n-1, 6), 5*time.Minute)
		}
		k.restarts[i]++
		s.crash()
		w.after(backoff, func() {
			if s.dead && !w.net.dead[s.place] {
				s.begin()
			}
			o := w.out
			o.verdict(o.rivals[k.called], k.called, kindServer, i, false)
		})
	})
}

// phi is the accrual detector of Hayashibara et al. (2004), with a threshold of
// 8, a heartbeat a second, a window of 1,000 and a least deviation of 100 ms (as
// in Akka, but for its pause of 3 s on top). The heartbeat comes from a thread
// of its own, by UDP, to one monitor.
type phi struct {
	w       *world
	monitor int
	of      []watched
}

type watched struct {
	key   key
	p     *process
	last  time.Duration
	gaps  []float64
	next  int
	sum   float64
	sq    float64
	alarm int64
}

const (
	phiEvery  = time.Second
	phiWindow = 1000
	phiLeast  = 0.1
	// phiDeviations is where a normal distribution leaves 10^-8 above it.
	phiDeviations = 5.612
)

const (
	phiBeat = iota
	phiArrives
	phiAlarm
)

func newPhi(w *world) *phi { return &phi{w: w} }

func (p *phi) name() string { return rivalPhi }

func (p *phi) begin() {
	for i, s := range p.w.servers {
		p.of = append(p.of, watched{key: key{kindServer, i}, p: &s.process})
	}
	for i, a := range p.w.agents {
		p.of = append(p.of, watched{key: key{kindNode, i}, p: &a.process})
	}
	for i := range p.of {
		p.w.at(time.Duration(p.w.rnd.Int64N(int64(phiEvery))), p, phiBeat, int64(i))
	}
}

func (p *phi) handle(kind int, arg int64) {
	i := int(arg & 0xffffffff)
	x, w := &p.of[i], p.w
	switch kind {
	case phiBeat:
		at := w.now + phiEvery
		if x.p.stalled > at {
			at = x.p.stalled
		}
		w.at(at, p, phiBeat, arg)
		if x.p.running() && w.passes(x.p.place, p.monitor) {
			w.at(w.now+w.delay(x.p.place, p.monitor), p, phiArrives, arg)
		}
	case phiArrives:
		p.arrived(x, i)
	case phiAlarm:
		if arg>>32 == x.alarm {
			w.out.verdict(w.out.rivals[rivalPhi], rivalPhi, x.key.kind, x.key.subject, true)
		}
	}
}

func (p *phi) arrived(x *watched, i int) {
	w := p.w
	if x.last > 0 {
		gap := (w.now - x.last).Seconds()
		if len(x.gaps) < phiWindow {
			x.gaps = append(x.gaps, gap)
		} else {
			old := x.gaps[x.next]
			x.sum, x.sq = x.sum-old, x.sq-old*old
			x.gaps[x.next] = gap
			x.next = (x.next + 1) % phiWindow
		}
		x.sum, x.sq = x.sum+gap, x.sq+gap*gap
	}
	x.last = w.now
	w.out.verdict(w.out.rivals[rivalPhi], rivalPhi, x.key.kind, x.key.subject, false)
	mean, deviation := phiEvery.Seconds(), phiEvery.Seconds()/4
	if n := float64(len(x.gaps)); n > 0 {
		mean = x.sum / n
		deviation = math.Sqrt(max(0, x.sq/n-mean*mean))
	}
	x.alarm++
	limit := mean + phiDeviations*max(deviation, phiLeast)
	w.at(w.now+time.Duration(limit*float64(time.Second)), p, phiAlarm, int64(i)|x.alarm<<32)
}

// nodeLease is Kubernetes' own: a kubelet renews its lease every 10 s, and a
// controller that looks every 5 s calls a node NotReady after 50 s without.
type nodeLease struct {
	w    *world
	seen []time.Duration
}

const (
	leaseRenew = 10 * time.Second
	leaseGrace = 50 * time.Second
	leaseLook  = 5 * time.Second
)

func newNodeLease(w *world) *nodeLease { return &nodeLease{w: w} }

func (l *nodeLease) name() string { return rivalLease }

func (l *nodeLease) begin() {
	l.seen = make([]time.Duration, len(l.w.agents))
	for i := range l.seen {
		l.w.at(time.Duration(l.w.rnd.Int64N(int64(leaseRenew))), l, 1, int64(i))
	}
	l.w.at(leaseLook, l, 0, 0)
}

func (l *nodeLease) handle(kind int, arg int64) {
	w := l.w
	if kind == 1 {
		if a := w.agents[arg]; !a.dead {
			w.transfer(a.place, w.net.store(), func() bool { return !a.dead }, func() {
				if !w.etcd.away {
					l.seen[arg] = w.now
				}
			})
		}
		w.at(w.now+leaseRenew, l, 1, arg)
		return
	}
	for i, at := range l.seen {
		w.out.verdict(w.out.rivals[rivalLease], rivalLease, kindNode, i, w.now-at > leaseGrace)
	}
	w.at(w.now+leaseLook, l, 0, 0)
}
