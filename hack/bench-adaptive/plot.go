package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	panelWidth, panelHeight = 300.0, 240.0
	left, top, between      = 70.0, 74.0, 90.0
	width                   = left + 3*panelWidth + 2*between + 24
	height                  = top + panelHeight + 62
)

// The strategies of the plot, and their colours (told apart without red and green).
var drawn = []struct {
	strategy int
	colour   string
}{{mars, "#d55e00"}, {bisect, "#0072b2"}}

// axis is a logarithmic one.
type axis struct {
	label       string
	least, most float64
	ticks       []tick
}

type tick struct {
	at    float64
	label string
}

func (a axis) share(v float64) float64 {
	v = min(max(v, a.least), a.most)
	return math.Log(v/a.least) / math.Log(a.most/a.least)
}

// panel is one of the plot's three.
type panel struct {
	*strings.Builder
	number int
	x, y   axis
}

func (p panel) at(x, y float64) (float64, float64) {
	origin := left + float64(p.number)*(panelWidth+between)
	return origin + panelWidth*p.x.share(x), top + panelHeight*(1-p.y.share(y))
}

func (p panel) frame(title string) {
	x0, y0 := p.at(p.x.least, p.y.least)
	x1, y1 := p.at(p.x.most, p.y.most)
	fmt.Fprintf(p, `<text x="%.1f" y="%.1f" class="title">%s</text>`+"\n", x0, y1-14, title)
	for _, t := range p.x.ticks {
		x, _ := p.at(t.at, p.y.least)
		fmt.Fprintf(p, `<path d="M%.1f %.1fV%.1f" class="grid"/><text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", x, y0, y1, x, y0+18, t.label)
	}
	for _, t := range p.y.ticks {
		_, y := p.at(p.x.least, t.at)
		fmt.Fprintf(p, `<path d="M%.1f %.1fH%.1f" class="grid"/><text x="%.1f" y="%.1f" text-anchor="end">%s</text>`+"\n", x0, y, x1, x0-8, y+4, t.label)
	}
	fmt.Fprintf(p, `<path d="M%.1f %.1fV%.1fH%.1f" class="axis"/>`+"\n", x0, y1, y0, x1)
	fmt.Fprintf(p, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", (x0+x1)/2, y0+42, p.x.label)
}

func (p panel) dot(x, y float64, colour string, hollow bool) {
	cx, cy := p.at(x, y)
	fill := colour
	if hollow {
		fill = "white"
	}
	fmt.Fprintf(p, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s" stroke="%s"/>`+"\n", cx, cy, fill, colour)
}

func (p panel) line(points [][2]float64, style string) {
	fmt.Fprint(p, `<polyline points="`)
	for _, q := range points {
		x, y := p.at(q[0], q[1])
		fmt.Fprintf(p, "%.1f,%.1f ", x, y)
	}
	fmt.Fprintf(p, `" fill="none" %s/>`+"\n", style)
}

var timeouts = axis{
	label: "timeout of the NAT", least: 28, most: 1900,
	ticks: []tick{{30, "30 s"}, {60, "1 min"}, {300, "5 min"}, {1800, "30 min"}},
}

// plot draws the groups of the wide range, whose networks are the same but for
// their loss.
func plot(results []result) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="12" role="img">
<title>mars and bisect: time until an interval is of use, beats a day, connections lost</title>
<style>.title{font-weight:bold;font-size:13px}.grid{stroke:#ddd}.axis{stroke:#333;fill:none}text{fill:#222}</style>
<rect width="100%%" height="100%%" fill="white"/>
`, width, height)
	var wide []result
	for _, r := range results {
		if r.wide {
			wide = append(wide, r)
		}
	}
	plotUseful(panel{Builder: &b, number: 0}, wide[0])
	plotBeats(panel{Builder: &b, number: 1}, wide[0])
	plotLost(panel{Builder: &b, number: 2}, wide)
	x := left
	for _, d := range drawn {
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="20" r="5" fill="%s"/><text x="%.1f" y="24">%s</text>`+"\n", x+5, d.colour, x+16, names[d.strategy])
		x += 80
	}
	fmt.Fprintf(&b, `<text x="%.1f" y="24">○ never within 28 days</text><path d="M%.1f 20h24" stroke="#555" stroke-dasharray="4 3"/><text x="%.1f" y="24">as few as the timeout allows</text>`+"\n", x, x+160, x+190)
	b.WriteString("</svg>\n")
	return b.String()
}

func plotUseful(p panel, r result) {
	minute, hour := 60.0, 3600.0
	p.x = timeouts
	p.y = axis{least: minute, most: length.Seconds() * 1.3, ticks: []tick{
		{minute, "1 min"}, {10 * minute, "10 min"}, {hour, "1 h"}, {10 * hour, "10 h"}, {48 * hour, "2 d"}, {length.Seconds(), "28 d"},
	}}
	p.frame("Time until an interval is of use (no loss)")
	for _, d := range drawn {
		for i, o := range r.outcomes[d.strategy] {
			p.dot(r.timeout(i).Seconds(), mean(o.Useful).Seconds(), d.colour, o.Useless > 0)
		}
	}
}

func plotBeats(p panel, r result) {
	p.x = timeouts
	p.y = axis{least: 40, most: 4000, ticks: []tick{{50, "50"}, {100, "100"}, {200, "200"}, {500, "500"}, {1000, "1000"}, {2000, "2000"}, {4000, "4000"}}}
	p.frame("Beats a day, once stable (no loss)")
	day := (24 * time.Hour).Seconds()
	p.line([][2]float64{{30, day / 30}, {r.max.Seconds(), day / r.max.Seconds()}}, `stroke="#555" stroke-dasharray="4 3"`)
	for _, d := range drawn {
		for i, o := range r.outcomes[d.strategy] {
			p.dot(r.timeout(i).Seconds(), o.BeatsPerDay(), d.colour, false)
		}
	}
}

func plotLost(p panel, wide []result) {
	p.x = axis{label: "beats without an answer", least: math.Exp(-.3), most: math.Exp(float64(len(wide)) - .7)}
	for i, r := range wide {
		p.x.ticks = append(p.x.ticks, tick{math.Exp(float64(i)), percent(r.worlds[0].Loss)})
	}
	p.y = axis{least: .3, most: 3000, ticks: []tick{{1, "1"}, {10, "10"}, {100, "100"}, {1000, "1000"}}}
	p.frame("Connections lost a week, all")
	for _, d := range drawn {
		var points [][2]float64
		for i, r := range wide {
			week := float64(r.figures(d.strategy).allLost) / float64(len(r.worlds)) / length.Hours() * 24 * 7
			points = append(points, [2]float64{math.Exp(float64(i)), week})
			p.dot(points[i][0], week, d.colour, false)
		}
		p.line(points, fmt.Sprintf(`stroke="%s" stroke-width="2"`, d.colour))
	}
}
