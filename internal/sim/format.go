package sim

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// number writes a figure with as many digits as say something.
func number(v float64) string {
	if v == math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// Write tells all figures of a result, and then the bars that were missed.
func (r *Result) Write(w io.Writer) {
	for _, name := range figureNames {
		if v, ok := r.Figures[name]; ok {
			fmt.Fprintf(w, "%-16s %s\n", name, number(v))
		}
	}
	for _, m := range r.Misses() {
		fmt.Fprintf(w, "MISSED %s\n", m)
	}
}

func (r *Result) figure(name string) string {
	v, ok := r.Figures[name]
	if !ok {
		return "–"
	}
	return number(v)
}

// WriteTable prints what Rollcall did in each scenario, in Markdown.
func WriteTable(w io.Writer, names []string, results []*Result) {
	rows := [][]string{{"scenario", "server p50 / p99 / max", "node p50 / p99 / max", "missed", "false verdicts", "false failovers", "first / all moved", "peak", "twice", "offline", "even", "bars"}}
	for i, r := range results {
		three := func(what string) string {
			if _, ok := r.Figures[what+".p50"]; !ok {
				return "–"
			}
			return r.figure(what+".p50") + " / " + r.figure(what+".p99") + " / " + r.figure(what+".max")
		}
		moved := "–"
		if _, ok := r.Figures["all.moved"]; ok {
			moved = r.figure("first.moved") + " / " + r.figure("all.moved")
		}
		bars := "met"
		if misses := r.Misses(); len(misses) > 0 {
			var l []string
			for _, m := range misses {
				figure, _, _ := strings.Cut(m.Bar, " ")
				l = append(l, figure)
			}
			bars = "MISS: " + strings.Join(l, ", ")
		}
		peak := r.figure("peak")
		if peak == "0" {
			peak = "–"
		}
		wrong := r.Figures["false.verdicts"] + r.Figures["false.nodes"]
		rows = append(rows, []string{
			names[i], three("verdict"), three("node"), r.figure("missed"), number(wrong),
			r.figure("false.failovers"), moved, peak, r.figure("twice"), r.figure("offline"), r.figure("unevenness"), bars,
		})
	}
	writeRows(w, rows)
}

// WriteRivals prints what other judges did in each scenario, in Markdown: when
// they found what (p50 / p99, how many of how many), and what they got wrong.
func WriteRivals(w io.Writer, names []string, results []*Result) {
	rows := [][]string{append([]string{"scenario", "Rollcall"}, RivalNames...)}
	for i, r := range results {
		if len(r.Rivals) == 0 {
			continue
		}
		own := "–"
		for _, what := range []string{"verdict", "node"} {
			if _, ok := r.Figures[what+".p50"]; ok {
				own = r.figure(what+".p50") + " / " + r.figure(what+".p99")
				break
			}
		}
		if n := r.Figures["false.verdicts"] + r.Figures["false.nodes"]; n > 0 {
			own += fmt.Sprintf("; %s wrong for %s s", number(n), number(math.Round(r.Figures["mistaken"])))
		}
		row := []string{names[i], own}
		for _, name := range RivalNames {
			row = append(row, r.Rivals[name].String())
		}
		rows = append(rows, row)
	}
	writeRows(w, rows)
}

func (r Rival) String() string {
	var l []string
	switch {
	case r.Faults == 0:
	case r.Found == 0:
		l = append(l, "never")
	case r.Found < r.Faults:
		l = append(l, fmt.Sprintf("%.1f / %.1f (%d of %d)", r.P50, r.P99, r.Found, r.Faults))
	default:
		l = append(l, fmt.Sprintf("%.1f / %.1f", r.P50, r.P99))
	}
	if r.Mistakes > 0 {
		l = append(l, fmt.Sprintf("%d wrong for %.0f s", r.Mistakes, r.Mistaken))
	}
	if r.Kills > 0 {
		l = append(l, fmt.Sprintf("%d killed", r.Kills))
	}
	if len(l) == 0 {
		return "–"
	}
	return strings.Join(l, "; ")
}

func writeRows(w io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	line := func(cells []string) {
		for i, c := range cells {
			fmt.Fprintf(w, "| %s%s ", c, strings.Repeat(" ", widths[i]-len([]rune(c))))
		}
		fmt.Fprintln(w, "|")
	}
	line(rows[0])
	dashes := make([]string, len(widths))
	for i, n := range widths {
		dashes[i] = strings.Repeat("-", n)
	}
	line(dashes)
	for _, r := range slices.Clone(rows[1:]) {
		line(r)
	}
}

// WriteBeside writes the figures that the demo was measured to have beside those
// of its scenarios: their bars of the kind "about".
func WriteBeside(w io.Writer, names []string, results []*Result) {
	rows := [][]string{{"fault", "figure", "simulated", "measured", "apart"}}
	for i, r := range results {
		fault, ok := strings.CutPrefix(names[i], "demo_")
		if !ok {
			continue
		}
		for _, b := range r.Scenario.Bars {
			if b.Op != "~" {
				continue
			}
			v, apart := r.Figures[b.Figure], fmt.Sprintf("%.0f %%", 100*math.Abs(r.Figures[b.Figure]-b.Value)/b.Value)
			if d := math.Abs(v - b.Value); d <= AboutLeast {
				apart = fmt.Sprintf("%.2f s", d)
			}
			rows = append(rows, []string{fault, b.Figure, fmt.Sprintf("%.2f", v), fmt.Sprintf("%.2f", b.Value), apart})
		}
	}
	if len(rows) > 1 {
		writeRows(w, rows)
	}
}
