package sim

import (
	"fmt"
	"time"
)

// trace keeps what a plot needs.
type trace struct {
	w     *world
	every time.Duration
	times []time.Duration
	loads [][]int // by sample and server
	lost  []int
	notes []note
	bars  []span
	open  map[key]int
	said  string
}

type note struct {
	at   time.Duration
	text string
}

// span is how long a verdict stood.
type span struct {
	kind       kindOf
	subject    int
	begin, end time.Duration
}

func (t *trace) sample() {
	loads := make([]int, len(t.w.servers))
	lost := 0
	for _, c := range t.w.clients {
		switch {
		case c.agent:
		case c.state == clientOnline:
			loads[c.server]++
		default:
			lost++
		}
	}
	t.times, t.loads, t.lost = append(t.times, t.w.now), append(t.loads, loads), append(t.lost, lost)
	t.w.after(t.every, t.sample)
}

func (t *trace) note(at time.Duration, text string) { t.notes = append(t.notes, note{at, text}) }

func (t *trace) blocked(at time.Duration, text string) {
	if text != t.said {
		t.said = text
		t.note(at, "Blocked: "+text)
	}
}

func (t *trace) verdict(at time.Duration, who string, kind kindOf, subject int, bad bool) {
	if who != "rollcall" {
		return
	}
	if t.open == nil {
		t.open = map[key]int{}
	}
	k := key{kind, subject}
	if bad {
		t.open[k] = len(t.bars)
		t.bars = append(t.bars, span{kind, subject, at, -1})
		what := "server"
		if kind == kindNode {
			what = "node"
		}
		t.note(at, fmt.Sprintf("Verdict on %s-%d", what, subject))
		return
	}
	if i, ok := t.open[k]; ok {
		t.bars[i].end = at
		delete(t.open, k)
	}
}

// Plot is one run, to be drawn and to be told.
type Plot struct {
	title string
	end   time.Duration
	t     *trace
}

func (t *trace) plot(sc *Scenario) *Plot { return &Plot{sc.Title, sc.End, t} }

// Notes are what happened, in order, a line each.
func (p *Plot) Notes() []string {
	var l []string
	for _, n := range p.t.notes {
		l = append(l, fmt.Sprintf("%8.3fs %s", n.at.Seconds(), n.text))
	}
	return l
}
