package sim

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
	"time"
)

// The plot's measures, in pixels.
const (
	plotWidth, plotHeight          = 960, 420
	plotLeft, plotRight            = 60, 150
	plotTop, plotBottom            = 64, 52
	plotLine                       = 18
	colourGround, colourText       = "#ffffff", "#24292f"
	colourGrid, colourBad, colourX = "#d8dee4", "#cf222e", "#8c959f"
)

// colours are told apart by people who don't see all of them (Okabe and Ito).
var colours = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#000000"}

// WriteSVG draws the clients of each server over time, with what broke and what
// Rollcall made of it.
func (p *Plot) WriteSVG(out io.Writer) error {
	w := bufio.NewWriter(out)
	t := p.t
	most := 1
	for _, l := range t.loads {
		most = max(most, slices.Max(l))
	}
	rise := nice(most)
	most += most / 20
	width, height := float64(plotWidth-plotLeft-plotRight), float64(plotHeight-plotTop-plotBottom)
	x := func(at time.Duration) float64 { return plotLeft + width*at.Seconds()/p.end.Seconds() }
	y := func(n int) float64 { return plotTop + height*(1-float64(n)/float64(most)) }
	text := func(px, py float64, anchor, colour, s string) {
		fmt.Fprintf(w, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", px, py, anchor, colour, html.EscapeString(s))
	}

	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(w, `<rect width="%d" height="%d" fill="%s"/>`+"\n", plotWidth, plotHeight, colourGround)
	title, _, _ := strings.Cut(strings.TrimSuffix(p.title, "."), ". ")
	fmt.Fprintf(w, `<text x="%d" y="22" font-size="15" fill="%s">%s</text>`+"\n", plotLeft, colourText, html.EscapeString(title))

	for n := 0; n <= most; n += rise {
		fmt.Fprintf(w, `<line x1="%d" x2="%.1f" y1="%.1f" y2="%.1f" stroke="%s"/>`+"\n", plotLeft, plotLeft+width, y(n), y(n), colourGrid)
		text(plotLeft-8, y(n)+4, "end", colourText, fmt.Sprint(n))
	}
	step := tick(p.end)
	for at := time.Duration(0); at <= p.end; at += step {
		text(x(at), plotTop+height+18, "middle", colourText, at.String())
	}
	text(plotLeft+width/2, plotHeight-12, "middle", colourText, "simulated time; clients on each server")

	// While any verdict stood, under the curves.
	for _, b := range p.bad() {
		fmt.Fprintf(w, `<rect x="%.1f" y="%d" width="%.1f" height="%.1f" fill="%s" fill-opacity="0.07"/>`+"\n", x(b.begin), plotTop, max(1, x(b.end)-x(b.begin)), height, colourBad)
	}
	curve := func(s int, colour string, thick float64) {
		var points strings.Builder
		for i, at := range t.times {
			fmt.Fprintf(&points, "%.1f,%.1f ", x(at), y(t.loads[i][s]))
		}
		fmt.Fprintf(w, `<polyline points="%s" fill="none" stroke="%s" stroke-width="%.1f"/>`+"\n", strings.TrimSpace(points.String()), colour, thick)
	}
	row := 0
	legend := func(colour, name string) {
		py := float64(plotTop + 8 + plotLine*row)
		row++
		fmt.Fprintf(w, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="%s" stroke-width="3"/>`+"\n", plotLeft+width+14, plotLeft+width+34, py, py, colour)
		text(plotLeft+width+40, py+4, "start", colourText, name)
	}
	named := p.telling()
	for s := range t.loads[0] {
		if !slices.Contains(named, s) {
			curve(s, colourX, 1)
		}
	}
	for n, s := range named {
		curve(s, colours[n%len(colours)], 2)
		legend(colours[n%len(colours)], fmt.Sprintf("server-%d", s))
	}
	if len(named) < len(t.loads[0]) {
		legend(colourX, "the others")
	}

	// What happened, above; those that are too near get a line of their own.
	var ends [3]float64 // of the texts in each line
	for _, n := range p.marks() {
		px := x(n.at)
		fmt.Fprintf(w, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%.1f" stroke="%s" stroke-dasharray="3 3"/>`+"\n", px, px, plotTop, plotTop+height, colourX)
		line := 0
		for line < len(ends) && px < ends[line] {
			line++
		}
		if line == len(ends) {
			continue // no room for the word
		}
		ends[line] = px + 7*float64(len(n.text)) + 8
		text(px+3, float64(plotTop-28+12*line), "start", colourText, n.text)
	}
	fmt.Fprintln(w, "</svg>")
	return w.Flush()
}

// bad are the times in which any verdict stood.
func (p *Plot) bad() []span {
	var l []span
	for _, b := range p.t.bars {
		if b.end < 0 {
			b.end = p.end
		}
		if i := len(l) - 1; i >= 0 && b.begin <= l[i].end {
			l[i].end = max(l[i].end, b.end)
			continue
		}
		l = append(l, b)
	}
	return l
}

// telling are the servers whose curves are told apart: all of a few, else those
// that lost half of their clients.
func (p *Plot) telling() []int {
	var all, fell []int
	for s, before := range p.t.loads[0] {
		all = append(all, s)
		if slices.ContainsFunc(p.t.loads, func(l []int) bool { return 2*l[s] < before }) {
			fell = append(fell, s)
		}
	}
	if len(all) <= len(colours) {
		return all
	}
	return fell[:min(len(fell), len(colours))]
}

// marks are what is worth a line in the plot: the first of its kind in a row.
func (p *Plot) marks() []note {
	var l []note
	for _, n := range p.t.notes {
		word := n.text
		switch {
		case strings.HasPrefix(word, "Verdict"):
			word = "verdict"
		case strings.HasSuffix(word, "(Returned)"):
			word = "share returns"
		case strings.HasSuffix(word, "(Rebalance)"):
			word = "evened"
		case strings.Contains(word, ": Moved"):
			word = "all moved"
		case strings.HasPrefix(word, "Blocked: Frozen"):
			word = "frozen"
		case strings.HasPrefix(word, "Failover"), strings.HasPrefix(word, "Overloaded"), strings.HasPrefix(word, "Dead"), strings.HasPrefix(word, "Blocked"):
			continue
		}
		if slices.ContainsFunc(l, func(o note) bool { return o.text == word && n.at-o.at < p.end/6 }) {
			continue
		}
		l = append(l, note{n.at, word})
	}
	return l
}

// nice is a round number of which a few make most.
func nice(most int) int {
	for unit := 1; ; unit *= 10 {
		for _, n := range []int{1, 2, 5} {
			if most <= 6*n*unit {
				return n * unit
			}
		}
	}
}

// tick is the time between two marks of the axis.
func tick(end time.Duration) time.Duration {
	for _, d := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour} {
		if end/d <= 12 {
			return d
		}
	}
	return end / 6
}
