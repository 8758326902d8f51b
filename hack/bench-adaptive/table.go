package main

import (
	_ "embed"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// What is read before the tables, and what was tried against their misses.
var (
	//go:embed intro.md
	intro string
	//go:embed tried.md
	tried string
)

var columns = []string{"networks", "strategy", "search", "of use after", "never of use", "beats a day", "lost, search", "lost, week", "needless, week", "distance"}

func (r result) cells(s int) []string {
	f := r.figures(s)
	return []string{
		r.name, names[s], span(f.search), span(f.useful), fmt.Sprintf("%d of %d", f.unused, f.searches),
		fmt.Sprintf("%.0f", f.beats), fmt.Sprintf("%.1f", f.lost), fmt.Sprintf("%.1f", f.stableLost),
		fmt.Sprintf("%.1f", f.needless), fmt.Sprintf("%.0f %%", 100*f.distance),
	}
}

var bars = []string{"networks", "search", "of use", "beats", "connections lost", "missed"}

// against are bisect's figures against those of mars.
func (r result) against() []string {
	m, b := r.figures(mars), r.figures(bisect)
	missed := strings.Join(r.missed(), ", ")
	if missed == "" {
		missed = "none"
	}
	return []string{
		r.name,
		fmt.Sprintf("%.1f × faster", m.search.Seconds()/b.search.Seconds()),
		fmt.Sprintf("%.1f × faster", m.useful.Seconds()/b.useful.Seconds()),
		fmt.Sprintf("%.0f %%", 100*b.beats/m.beats),
		fmt.Sprintf("%d to %d", b.allLost, m.allLost),
		missed,
	}
}

var singly = []string{"networks", "bar", "worlds that miss it", "at most by", "their timeouts"}

// missing are the bars that bisect misses in single worlds.
func (r result) missing() [][]string {
	var all [][]string
	for _, b := range worldBars {
		worlds, worst := r.misses(b)
		if len(worlds) == 0 {
			continue
		}
		timeouts := "changing"
		if r.still {
			least, most := r.timeout(worlds[0]), time.Duration(0)
			for _, w := range worlds {
				least, most = min(least, r.timeout(w)), max(most, r.timeout(w))
			}
			timeouts = fmt.Sprintf("%.0f to %.0f s", least.Seconds(), most.Seconds())
		}
		all = append(all, []string{
			r.name, b.name, fmt.Sprintf("%d of %d", len(worlds), len(r.worlds)), fmt.Sprintf("%.1f %%", 100*(worst-1)), timeouts,
		})
	}
	return all
}

// rows are the tables, without their heads.
func rows(results []result) (compared, against, missing [][]string) {
	for _, r := range results {
		for s := range names {
			compared = append(compared, r.cells(s))
		}
		against = append(against, r.against())
		missing = append(missing, r.missing()...)
	}
	return compared, against, missing
}

func text(results []result) string {
	var b strings.Builder
	compared, against, missing := rows(results)
	for _, table := range [][][]string{append([][]string{columns}, compared...), append([][]string{bars}, against...), append([][]string{singly}, missing...)} {
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, row := range table {
			fmt.Fprintln(w, strings.Join(row, "\t"))
		}
		_ = w.Flush() // to memory
		fmt.Fprintln(&b)
	}
	return b.String()
}

func markdown(results []result) string {
	var b strings.Builder
	table := func(head []string, rows [][]string) {
		fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
		for _, row := range rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
	}
	compared, against, missing := rows(results)
	fmt.Fprintf(&b, "%s\n", intro)
	table(columns, compared)
	fmt.Fprint(&b, "\n## bisect against mars\n\nThe means of each group. To be met: 3 × faster, no more beats, no more connections lost.\n\n")
	table(bars, against)
	fmt.Fprintf(&b, "\n%s\n", tried)
	table(singly, missing)
	return b.String()
}

func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.1f d", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.1f h", d.Hours())
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}
