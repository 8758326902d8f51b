package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// kindOf a subject of verdicts.
type kindOf uint8

const (
	kindServer kindOf = iota
	kindNode
)

// lag is how long after the end of a fault a verdict on it may still come
// without being a mistake: what was seen of it is on its way.
const lag = 3 * time.Second

// fault is the truth: something is broken from begin to end (-1: still is).
type fault struct {
	kind       kindOf
	subject    int
	begin, end time.Duration
	// required: it should be found. Others may be, without being a mistake.
	required bool
	// machine: it is its machine's, so that its kubelet is gone too.
	machine bool
	// found by Rollcall, and by each of the other judges; -1: not.
	found time.Duration
	by    map[string]time.Duration
	// Of a server: who was on it, how many have left, and when.
	victims, gone     int
	firstGone, allOut time.Duration
}

func (f *fault) String() string {
	what := serverName(f.subject)
	if f.kind == kindNode {
		what = nodeName(f.subject)
	}
	until := "the end"
	if f.end >= 0 {
		until = fmt.Sprintf("%.3fs", f.end.Seconds())
	}
	return fmt.Sprintf("%s from %.3fs to %s", what, f.begin.Seconds(), until)
}

// tally counts the verdicts of one judge.
type tally struct {
	// Verdicts that were wrong, how long they stood, and how many subjects
	// could have been judged wrongly for how long.
	mistakes   int
	mistaken   time.Duration
	since      map[key]time.Duration // wrong ones that stand
	standing   map[key]bool          // all that stand
	killed     int
	wrongKills int
}

type key struct {
	kind    kindOf
	subject int
}

func newTally() *tally { return &tally{since: map[key]time.Duration{}, standing: map[key]bool{}} }

// outcome watches a world, and knows the truth.
type outcome struct {
	w      *world
	faults []*fault
	rivals map[string]*tally
	own    *tally

	falseDeaths, falseFailovers int
	offline, wrongOffline       int
	moves, twice                int
	peak                        float64
	serving                     int           // servers that take clients
	unserved                    time.Duration // when there last was none
	out                         []bool
	changed                     time.Duration // when a fault last began or ended
	brakes                      int
	violations                  []string

	inbreach map[Property]bool
	trace    *trace
}

func newOutcome(w *world) *outcome {
	return &outcome{
		w: w, rivals: map[string]*tally{}, own: newTally(), serving: w.set.Servers, out: make([]bool, w.set.Servers), changed: -time.Hour, unserved: -time.Hour,
		inbreach: map[Property]bool{},
	}
}

// fault notes that something breaks now.
func (o *outcome) fault(kind kindOf, subject int, required bool) *fault {
	f := &fault{kind: kind, subject: subject, begin: o.w.now, end: -1, required: required, found: -1, by: map[string]time.Duration{}, firstGone: -1, allOut: -1}
	o.faults = append(o.faults, f)
	o.changed = o.w.now
	if kind == kindServer {
		for _, c := range o.w.clients {
			if !c.agent && c.server == int32(subject) && c.state == clientOnline {
				c.victim = true
				f.victims++
			}
		}
		o.recount()
	}
	return f
}

func (o *outcome) mended(f *fault) {
	f.end, o.changed = o.w.now, o.w.now
	if f.kind == kindServer {
		for _, c := range o.w.clients {
			if c.victim && c.server == int32(f.subject) {
				c.victim = false // it may stay
			}
		}
		o.recount()
	}
}

// broken tells whether something is, or was of late, wrong with a subject.
func (o *outcome) broken(kind kindOf, subject int) bool {
	for _, f := range o.faults {
		if f.kind == kind && f.subject == subject && (f.end < 0 || o.w.now <= f.end+lag) {
			return true
		}
	}
	return false
}

// recount finds how many servers take clients.
func (o *outcome) recount() {
	if o.serving == 0 {
		o.unserved = o.w.now
	}
	o.serving = 0
	for i := range o.w.servers {
		if !o.out[i] && !slices.ContainsFunc(o.faults, func(f *fault) bool { return f.kind == kindServer && f.subject == i && f.end < 0 }) {
			o.serving++
		}
	}
}

// loaded is told when a server has taken a client.
func (o *outcome) loaded(s *server) {
	if o.serving == 0 || len(o.w.clients) == 0 || o.changed < 0 {
		return
	}
	mean := float64(o.w.set.Clients) / float64(o.serving)
	n := len(s.sessions)
	if o.w.rollcall {
		n -= 2 * len(o.w.agents) / len(o.w.servers)
	}
	if mean >= 50 { // below, chance is all
		o.peak = max(o.peak, float64(n)/mean)
	}
}

// moved is told when a client has come to another server than its last.
func (o *outcome) moved(c *client, to *server) {
	now := o.w.now
	o.moves++
	c.moves++
	if c.moves == 2 {
		o.twice++
	}
	if c.moves > 1 && c.why == leftDirected && now-c.movedAt < 30*time.Second && o.changed < c.movedAt-lag && !o.broken(kindServer, int(c.server)) {
		o.breach(NotMovedTwice, "told to within 30s")
	}
	c.movedAt = now
	if !c.victim {
		return
	}
	c.victim = false
	for _, f := range slices.Backward(o.faults) {
		if f.kind == kindServer && f.subject == int(c.server) && f.gone < f.victims {
			if f.gone == 0 {
				f.firstGone = now
			}
			if f.gone++; f.gone == f.victims {
				f.allOut = now
			}
			return
		}
	}
}

// forsaken tells whether there was no server for a client at some time of its
// lease: none that was well and took clients.
func (o *outcome) forsaken(lease time.Duration) bool {
	return o.serving == 0 || o.w.now-o.unserved < lease
}

func (o *outcome) falseOffline(*client) {
	o.wrongOffline++
	o.breach(NoFalseOffline, "a client that is there is called Offline")
}

// verdict notes what a judge says of a subject.
func (o *outcome) verdict(t *tally, name string, kind kindOf, subject int, bad bool) {
	k := key{kind, subject}
	if bad == t.standing[k] {
		return
	}
	t.standing[k] = bad
	if o.trace != nil {
		o.trace.verdict(o.w.now, name, kind, subject, bad)
	}
	if !bad {
		delete(t.standing, k)
		if since, wrong := t.since[k]; wrong {
			t.mistaken += o.w.now - since
			delete(t.since, k)
		}
		return
	}
	if !o.broken(kind, subject) {
		t.mistakes++
		t.since[k] = o.w.now
		if t == o.own && kind == kindNode {
			o.falseDeaths++
		}
		return
	}
	for _, f := range o.faults {
		if f.kind != kind || f.subject != subject || f.end >= 0 && o.w.now > f.end+lag {
			continue
		}
		if t == o.own {
			if f.found < 0 {
				f.found = o.w.now
			}
		} else if _, known := f.by[name]; !known {
			f.by[name] = o.w.now
		}
	}
}

// judged takes the verdicts of the leader.
func (o *outcome) judged(c *controller) {
	for i, s := range o.w.servers {
		if v := c.servers.Verdicts[s.name]; v.State != "" {
			if o.trace != nil && v.State.Bad() && !o.own.standing[key{kindServer, i}] {
				o.trace.note(o.w.now, string(v.State)+": "+v.Message)
			}
			o.verdict(o.own, "rollcall", kindServer, i, v.State.Bad())
		}
	}
	for i := range o.w.agents {
		if v := c.nodes.Verdicts[nodeName(i)]; v.State != "" {
			o.verdict(o.own, "rollcall", kindNode, i, v.State == verdict.Dead)
		}
	}
	if c.servers.Brake.Frozen || c.nodes.Brake.Frozen {
		o.brakes++
	}
}

// opened checks a decision: it must have two independent witnesses, a brake
// that is off, room, and a reason in the truth.
func (o *outcome) opened(c *controller, f *failover, m *plan.Move) {
	if o.trace != nil {
		o.trace.note(o.w.now, fmt.Sprintf("Failover of %s (%s)", m.Server, m.Reason))
	}
	if c.servers.Brake.Frozen || c.nodes.Brake.Frozen {
		o.breach(BrakeHolds, "a Failover is opened under it")
	}
	if m.Reason == plan.Returned || m.Reason == plan.Rebalance {
		return
	}
	if !o.broken(kindServer, f.server) {
		o.falseFailovers++
	}
	v := c.servers.Verdicts[m.Server]
	if !witnessed(c.w, f.server, &v) {
		o.breach(TwoWitnesses, fmt.Sprintf("a Failover rests on %v alone", v.Witnesses))
	}
	out := 0
	for _, x := range c.fleet {
		if x.Out {
			out++
		}
	}
	for _, x := range o.w.failovers {
		if !x.finished && x.drains() && !c.fleet[x.server].Out {
			out++
		}
	}
	if allowed := max(1, len(o.w.servers)/10); out > allowed {
		o.breach(FewOut, fmt.Sprintf("%d are", out))
	}
	if !c.fits(f, m) {
		o.breach(BelowCap, "one is planned")
	}
}

// fits tells whether the receivers of a move stay below their capacities and
// MaxOver times their mean, with what is on its way to them already.
func (c *controller) fits(f *failover, m *plan.Move) bool {
	coming, leaving := map[string]float64{}, map[string]bool{m.Server: true}
	for _, a := range c.active {
		leaving[a.Server] = leaving[a.Server] || a.Reason != plan.Returned && a.Reason != plan.Rebalance
		weights := 0
		for _, t := range a.Targets {
			weights += t.Weight
		}
		for _, t := range a.Targets {
			coming[t.Server] += float64(a.Pending*t.Weight) / float64(max(weights, 1))
		}
	}
	total, receivers := float64(m.Clients), 0.0
	for _, x := range c.fleet {
		if x.Verdict.State == verdict.Alive && !x.Out && !x.Exempt && x.Address != "" && max(x.QueueDelay, x.Answer) < c.w.set.AnswerTime/2 && !leaving[x.Name] {
			total += float64(x.Sessions) + coming[x.Name]
			receivers++
		}
	}
	for _, t := range f.targets {
		x := &c.fleet[t.server]
		after := float64(x.Sessions+t.weight) + coming[x.Name]
		if receivers == 0 || after > plan.MaxOver*total/receivers+2 && t.weight > 1 || after > float64(c.w.set.Capacity)+2 {
			return false
		}
	}
	return true
}

// witnessed tells whether a verdict on a server rests on two independent
// sources: two kinds of evidence, or two observers from two zones, or from two
// machines where all that are assigned to it are of one zone.
func witnessed(w *world, server int, v *verdict.Verdict) bool {
	assigned, zones, names := map[string]bool{}, map[int]bool{}, 0
	for _, a := range w.assigned[server] {
		assigned[a.Zone] = true
	}
	for _, x := range v.Witnesses {
		var n int
		if _, err := fmt.Sscanf(x, "node-%d", &n); err != nil {
			return len(v.Witnesses) >= 2 // a second kind of evidence
		}
		zones[w.net.zone(n)] = true
		names++
	}
	return len(zones) >= 2 || names >= 2 && len(assigned) == 1
}

func (o *outcome) decided(c *controller, d *plan.Decision) {
	if o.trace != nil && d.Blocked != "" {
		o.trace.blocked(o.w.now, d.Blocked)
	}
	if (c.servers.Brake.Frozen || c.nodes.Brake.Frozen) && len(d.Moves)+len(d.Readmit) > 0 {
		o.breach(BrakeHolds, "something is decided under it")
	}
}

func (o *outcome) drained(f *failover) {
	if f.drains() {
		o.out[f.server] = true
		o.recount()
	}
}

func (o *outcome) admitted(server int) {
	o.out[server] = false
	o.changed = o.w.now
	o.recount()
}

func (o *outcome) ended(f *failover) {
	if o.trace != nil {
		o.trace.note(o.w.now, fmt.Sprintf("Failover of server-%d: %s, %d moved", f.server, f.outcome, f.moved))
	}
}

func (o *outcome) mark(s *Step) {
	o.changed = o.w.now
	if o.trace != nil {
		o.trace.note(o.w.now, s.Verb+" "+s.Subject)
	}
}

// breach notes that a promise was broken, once of its kind.
func (o *outcome) breach(p Property, how string) {
	if !o.inbreach[p] {
		o.inbreach[p] = true
		o.violations = append(o.violations, fmt.Sprintf("%.3fs: %s: %s", o.w.now.Seconds(), p, how))
	}
}
