package sim

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Result is what came of a scenario, all its runs together.
type Result struct {
	Scenario *Scenario
	// Figures by name, those of figureNames.
	Figures map[string]float64
	// Violations of what is promised whatever happens.
	Violations []string
	// Unseen are the faults that no verdict found, in words.
	Unseen []string
	// Rivals are the judges that it was compared with.
	Rivals map[string]Rival
	// Events is how many things happened in it.
	Events uint64
}

// Rival is how another judge did.
type Rival struct {
	// Faults that should have been found, and those that were, with how long it took.
	Faults, Found int
	P50, P99      float64
	// Mistakes and how long they stood in all, in seconds.
	Mistakes int
	Mistaken float64
	// Kills are processes that it ended; WrongKills those that were well.
	Kills, WrongKills int
	Moves             int
	Offline           int
}

// figureNames are the figures that a bar can be about. Times are in seconds.
var figureNames = []string{
	"verdict.p50", "verdict.p99", "verdict.max", // of servers, since the fault
	"node.p50", "node.p99", "node.max", // of nodes
	"missed",                        // faults that no verdict found
	"false.verdicts", "false.nodes", // verdicts on those that were well
	"false.failovers",
	"mistaken",              // seconds for which false verdicts stood
	"failovers", "levelled", // Failovers that took a server out, and those that only evened the load
	"unfinished",               // those that had no end
	"offline", "false.offline", // clients declared Offline, and those who were there
	"first.moved", "all.moved", // the slowest, since the fault
	"left.behind",    // clients still on a broken server at the end of its fault
	"moves", "twice", // moves, and clients that were moved more than once
	"peak",       // of a receiver's load over the mean
	"unevenness", // greatest load over the mean, at the end
	"lost",       // clients without a server at the end
	"frozen",     // judgements under the brake
	"violations",
}

type sums struct {
	verdicts, nodes []float64
	rivals          map[string]*rivalSums
	figures         map[string]float64
	violations      []string
	missed          []string
	events          uint64
}

type rivalSums struct {
	took []float64
	r    Rival
}

// Run plays a scenario with a seed, as often as it says, and then once more for
// each group of rivals, if asked.
func Run(sc *Scenario, seed uint64, rivals bool) *Result {
	s := &sums{rivals: map[string]*rivalSums{}, figures: map[string]float64{}}
	for n := range sc.Repeat {
		w := newWorld(sc.Setting, seed+uint64(n)*0x9e3779b97f4a7c15, true)
		w.play(sc.Steps)
		w.run(sc.End)
		s.take(w)
	}
	if rivals && !sc.Alone {
		for n := range sc.Repeat {
			for _, g := range groups() {
				w := newWorld(sc.Setting, seed+uint64(n)*0x9e3779b97f4a7c15, false)
				for _, j := range g.make(w) {
					w.judges = append(w.judges, j)
					w.out.rivals[j.name()] = newTally()
					j.begin()
				}
				w.play(sc.Steps)
				w.run(sc.End)
				s.takeRivals(w)
			}
		}
	}
	return s.result(sc)
}

// Trace plays a scenario once, and keeps what a plot needs.
func Trace(sc *Scenario, seed uint64) *Plot {
	w := newWorld(sc.Setting, seed, true)
	w.out.trace = &trace{w: w, every: max(sc.End/600, 50*time.Millisecond)}
	w.out.trace.sample()
	w.play(sc.Steps)
	w.run(sc.End)
	return w.out.trace.plot(sc)
}

func (s *sums) take(w *world) {
	o := w.out
	add := func(name string, v float64) { s.figures[name] += v }
	most := func(name string, v float64) { s.figures[name] = max(s.figures[name], v) }
	for _, f := range o.faults {
		switch {
		case f.required && f.found >= 0 && f.kind == kindServer:
			s.verdicts = append(s.verdicts, (f.found - f.begin).Seconds())
		case f.required && f.found >= 0:
			s.nodes = append(s.nodes, (f.found - f.begin).Seconds())
		case f.required:
			add("missed", 1)
			s.missed = append(s.missed, f.String())
		}
		if f.kind != kindServer || !f.required || f.victims == 0 {
			continue
		}
		if f.firstGone >= 0 {
			most("first.moved", (f.firstGone - f.begin).Seconds())
		}
		if f.allOut >= 0 {
			most("all.moved", (f.allOut - f.begin).Seconds())
		} else {
			add("left.behind", float64(f.victims-f.gone))
		}
	}
	for _, since := range o.own.since {
		o.own.mistaken += w.now - since
	}
	add("false.verdicts", float64(o.own.mistakes-o.falseDeaths))
	add("false.nodes", float64(o.falseDeaths))
	add("false.failovers", float64(o.falseFailovers))
	add("mistaken", o.own.mistaken.Seconds())
	drains := 0
	for _, f := range w.failovers {
		if f.drains() {
			drains++
		}
	}
	add("failovers", float64(drains))
	add("levelled", float64(len(w.failovers)-drains))
	add("offline", float64(o.offline+o.wrongOffline))
	add("false.offline", float64(o.wrongOffline))
	add("moves", float64(o.moves))
	add("twice", float64(o.twice))
	add("frozen", float64(o.brakes))
	most("peak", o.peak)
	lost, unfinished, uneven := w.balance()
	add("lost", float64(lost))
	add("unfinished", float64(unfinished))
	most("unevenness", uneven)
	add("violations", float64(len(o.violations)))
	s.violations = append(s.violations, o.violations...)
	s.events += w.done
}

// balance is how things stand: clients without a server that answers, Failovers
// without an end, and the greatest load over the mean.
func (w *world) balance() (lost, unfinished int, uneven float64) {
	loads := make([]int, len(w.servers))
	for _, c := range w.clients {
		switch {
		case c.agent:
		case c.state != clientOnline || c.offline:
			lost++
		default:
			loads[c.server]++
		}
	}
	for _, f := range w.failovers {
		if !f.finished {
			unfinished++
		}
	}
	if w.set.Clients > 0 {
		uneven = float64(slices.Max(loads)) * float64(len(loads)) / float64(w.set.Clients)
	}
	return lost, unfinished, uneven
}

func (s *sums) takeRivals(w *world) {
	for name, t := range w.out.rivals {
		r := s.rivals[name]
		if r == nil {
			r = &rivalSums{}
			s.rivals[name] = r
		}
		for _, f := range w.out.faults {
			if !f.required || !judges(name, f) {
				continue
			}
			r.r.Faults++
			if at, ok := f.by[name]; ok {
				r.took = append(r.took, (at - f.begin).Seconds())
			}
		}
		for _, since := range t.since {
			t.mistaken += w.now - since
		}
		r.r.Mistakes += t.mistakes
		r.r.Mistaken += t.mistaken.Seconds()
		r.r.Kills += t.killed
		r.r.WrongKills += t.wrongKills
		r.r.Moves += w.out.moves
		r.r.Offline += w.out.wrongOffline + w.out.offline
	}
	s.events += w.done
}

func (s *sums) result(sc *Scenario) *Result {
	for name, l := range map[string][]float64{"verdict": s.verdicts, "node": s.nodes} {
		for q, share := range map[string]float64{".p50": 0.5, ".p99": 0.99, ".max": 1} {
			if v, ok := quantile(l, share); ok {
				s.figures[name+q] = v
			}
		}
	}
	r := &Result{Scenario: sc, Figures: s.figures, Violations: s.violations, Unseen: s.missed, Events: s.events, Rivals: map[string]Rival{}}
	for name, x := range s.rivals {
		x.r.Found = len(x.took)
		x.r.P50, _ = quantile(x.took, 0.5)
		x.r.P99, _ = quantile(x.took, 0.99)
		r.Rivals[name] = x.r
	}
	return r
}

// quantile is the least value that a share of all do not exceed.
func quantile(l []float64, share float64) (float64, bool) {
	if len(l) == 0 {
		return 0, false
	}
	l = slices.Sorted(slices.Values(l))
	return l[min(len(l)-1, int(math.Ceil(share*float64(len(l))))-1)], true
}

// Miss is a bar that a result does not meet.
type Miss struct {
	Bar  string
	Is   string
	Why  string // where it is known
	Seen []string
}

// Misses are the bars that were not met. A figure about verdicts that never
// came is no good figure.
func (r *Result) Misses() []Miss {
	var l []Miss
	for _, b := range r.Scenario.Bars {
		v, ok := r.Figures[b.Figure]
		if ok && b.Holds(v) || !ok && b.Op == "=" && b.Holds(0) {
			continue
		}
		m := Miss{Bar: b.Text, Is: number(v), Why: r.Scenario.Known[b.Figure]}
		switch {
		case !ok && b.Op != "=":
			m.Is = "never"
		case b.Figure == "missed":
			m.Seen = r.Unseen
		case b.Figure == "violations":
			m.Seen = r.Violations
		}
		l = append(l, m)
	}
	return l
}

func (m Miss) String() string {
	s := m.Bar + ": it is " + m.Is
	for i, x := range m.Seen {
		if i == 3 {
			s += fmt.Sprintf(", and %d more", len(m.Seen)-i)
			break
		}
		s += "; " + x
	}
	if m.Why != "" {
		s += " (known: " + m.Why + ")"
	}
	return s
}
