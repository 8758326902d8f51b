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
	plotTop, plotBottom            = 56, 52
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
	most += most / 12
	width, height := float64(plotWidth-plotLeft-plotRight), float64(plotHeight-plotTop-plotBottom)
	x := func(at time.Duration) float64 { return plotLeft + width*at.Seconds()/p.end.Seconds() }
	y := func(n int) float64 { return plotTop + height*(1-float64(n)/float64(most)) }
	text := func(px, py float64, anchor, colour, s string) {
		fmt.Fprintf(w, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", px, py, anchor, colour, html.EscapeString(s))
	}

	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(w, `<rect width="%d" height="%d" fill="%s"/>`+"\n", plotWidth, plotHeight, colourGround)
	title, _, _ := strings.Cut(p.title, ". ")
	fmt.Fprintf(w, `<text x="%d" y="22" font-size="15" fill="%s">%s</text>`+"\n", plotLeft, colourText, html.EscapeString(title))

	for i := range 5 {
		n := most * i / 4
		fmt.Fprintf(w, `<line x1="%d" x2="%.1f" y1="%.1f" y2="%.1f" stroke="%s"/>`+"\n", plotLeft, plotLeft+width, y(n), y(n), colourGrid)
		text(plotLeft-8, y(n)+4, "end", colourText, fmt.Sprint(n))
	}
	step := tick(p.end)
	for at := time.Duration(0); at <= p.end; at += step {
		text(x(at), plotTop+height+18, "middle", colourText, at.String())
	}
	text(plotLeft+width/2, plotHeight-12, "middle", colourText, "simulated time; clients on each server")

	// When a verdict stood, under the curves.
	for _, b := range t.bars {
		end := b.end
		if end < 0 {
			end = p.end
		}
		fmt.Fprintf(w, `<rect x="%.1f" y="%d" width="%.1f" height="%.1f" fill="%s" fill-opacity="0.06"/>`+"\n", x(b.begin), plotTop, max(1, x(end)-x(b.begin)), height, colourBad)
	}
	for s := range t.loads[0] {
		var points strings.Builder
		for i, at := range t.times {
			fmt.Fprintf(&points, "%.1f,%.1f ", x(at), y(t.loads[i][s]))
		}
		fmt.Fprintf(w, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.6"/>`+"\n", strings.TrimSpace(points.String()), colours[s%len(colours)])
	}

	// What happened, above; those that are too near share a line.
	last := -1000.0
	for _, n := range p.marks() {
		px := x(n.at)
		fmt.Fprintf(w, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%.1f" stroke="%s" stroke-dasharray="3 3"/>`+"\n", px, px, plotTop, plotTop+height, colourX)
		row := 0.0
		if px-last < 110 {
			row = 12
		}
		last = px - row*9
		text(px+3, plotTop-14+row, "start", colourText, n.text)
	}
	for s := range min(len(t.loads[0]), 14) {
		py := float64(plotTop + 8 + plotLine*s)
		fmt.Fprintf(w, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="%s" stroke-width="3"/>`+"\n", plotLeft+width+14, plotLeft+width+34, py, py, colours[s%len(colours)])
		text(plotLeft+width+40, py+4, "start", colourText, fmt.Sprintf("server-%d", s))
	}
	fmt.Fprintln(w, "</svg>")
	return w.Flush()
}

// marks are what is worth a line in the plot: the first of its kind at a time.
func (p *Plot) marks() []note {
	var l []note
	for _, n := range p.t.notes {
		word, _, _ := strings.Cut(n.text, " ")
		word = strings.TrimSuffix(word, ":")
		if word == string("Overloaded") || word == string("Dead") {
			continue
		}
		if i := len(l) - 1; i >= 0 && (l[i].text == word || n.at-l[i].at < p.end/200) {
			continue
		}
		l = append(l, note{n.at, word})
	}
	return l
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
