package main

import (
	"fmt"
	"math"
	"strings"
)

// chart is a plot on its way to SVG.
type chart struct {
	strings.Builder
	width, height float64
}

// area is a rectangle of a chart with axes.
type area struct {
	*chart
	x0, y0, x1, y1 float64 // y0 is below
	x, y           axis
}

type axis struct {
	label       string
	least, most float64
	log         bool
	ticks       []tick
}

type tick struct {
	at    float64
	label string
}

func newChart(width, height float64, title string) *chart {
	c := &chart{width: width, height: height}
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="12" role="img">
<title>%s</title>
<style>.title{font-weight:bold;font-size:13px}.grid{stroke:#ddd}.axis{stroke:#333;fill:none}text{fill:#222}</style>
<rect width="100%%" height="100%%" fill="white"/>
`, width, height, title)
	return c
}

func (c *chart) end() string {
	c.WriteString("</svg>\n")
	return c.String()
}

func (a axis) share(v float64) float64 {
	if a.log {
		return math.Log(v/a.least) / math.Log(a.most/a.least)
	}
	return (v - a.least) / (a.most - a.least)
}

func (a area) at(x, y float64) (float64, float64) {
	return a.x0 + (a.x1-a.x0)*a.x.share(x), a.y0 + (a.y1-a.y0)*a.y.share(y)
}

func (a area) frame(title string) {
	a.text(a.x0, a.y1-12, "start", "title", title)
	for _, t := range a.x.ticks {
		x, _ := a.at(t.at, a.y.least)
		fmt.Fprintf(a, `<path d="M%.1f %.1fV%.1f" class="grid"/>`+"\n", x, a.y0, a.y1)
		a.text(x, a.y0+18, "middle", "", t.label)
	}
	for _, t := range a.y.ticks {
		_, y := a.at(a.x.least, t.at)
		fmt.Fprintf(a, `<path d="M%.1f %.1fH%.1f" class="grid"/>`+"\n", a.x0, y, a.x1)
		a.text(a.x0-8, y+4, "end", "", t.label)
	}
	fmt.Fprintf(a, `<path d="M%.1f %.1fV%.1fH%.1f" class="axis"/>`+"\n", a.x0, a.y1, a.y0, a.x1)
	a.text((a.x0+a.x1)/2, a.y0+38, "middle", "", a.x.label)
	fmt.Fprintf(a, `<text transform="translate(%.1f %.1f) rotate(-90)" text-anchor="middle">%s</text>`+"\n", a.x0-58, (a.y0+a.y1)/2, a.y.label)
}

func (a area) text(x, y float64, anchor, class, s string) {
	fmt.Fprintf(a, `<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`+"\n", x, y, anchor, class, s)
}

func (a area) line(points [][2]float64, style string) {
	a.WriteString(`<polyline points="`)
	for _, p := range points {
		x, y := a.at(p[0], p[1])
		fmt.Fprintf(a, "%.1f,%.1f ", x, y)
	}
	fmt.Fprintf(a, `" fill="none" %s/>`+"\n", style)
}

func (a area) dot(x, y float64, colour string) {
	cx, cy := a.at(x, y)
	fmt.Fprintf(a, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`+"\n", cx, cy, colour)
}

// bar stands on the axis between two values of x.
func (a area) bar(from, to, y float64, colour string) {
	x0, y1 := a.at(from, y)
	x1, y0 := a.at(to, a.y.least)
	fmt.Fprintf(a, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x0, y1, x1-x0, y0-y1, colour)
}
