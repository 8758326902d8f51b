//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// figures are what one measurement of one server gives.
type figures struct {
	memory         float64 // resident bytes for each idle connection
	connects       float64 // a second
	connectCPU     time.Duration
	pingCPU        float64 // of the server, for each answered PINGREQ, in ns
	answered       float64 // a second
	p50, p99, p999 time.Duration
}

func (f figures) String() string {
	return fmt.Sprintf("%.0f B, %.0f connects/s (%v each), %.2f µs a PINGREQ at %.0f/s, %v %v %v",
		f.memory, f.connects, f.connectCPU.Round(100*time.Nanosecond), f.pingCPU/1000, f.answered, f.p50.Round(time.Microsecond), f.p99.Round(time.Microsecond), f.p999.Round(time.Microsecond))
}

// series are all figures of one server.
type series struct {
	subject subject
	figures []figures
}

// column is a figure's name, value and form.
type column struct {
	name  string
	value func(figures) float64
	form  func(float64) string
}

var columns = []column{
	{"memory per idle connection", func(f figures) float64 { return f.memory }, func(v float64) string { return fmt.Sprintf("%.0f B", v) }},
	{"connects per second", func(f figures) float64 { return f.connects }, func(v float64) string { return fmt.Sprintf("%.0f", v) }},
	{"CPU per connect", func(f figures) float64 { return float64(f.connectCPU) }, microseconds},
	{"CPU per PINGREQ", func(f figures) float64 { return f.pingCPU }, microseconds},
	{"answered per second", func(f figures) float64 { return f.answered }, func(v float64) string { return fmt.Sprintf("%.0f", v) }},
	{"p50", func(f figures) float64 { return float64(f.p50) }, microseconds},
	{"p99", func(f figures) float64 { return float64(f.p99) }, microseconds},
	{"p99.9", func(f figures) float64 { return float64(f.p999) }, microseconds},
}

func microseconds(ns float64) string { return fmt.Sprintf("%.1f µs", ns/1000) }

// median is the median of a column, and its least and greatest.
func (s *series) median(c column) (mid, least, most float64) {
	var v []float64
	for _, f := range s.figures {
		v = append(v, c.value(f))
	}
	slices.Sort(v)
	mid = v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (mid + v[len(v)/2-1]) / 2
	}
	return mid, v[0], v[len(v)-1]
}

func text(all []*series) string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\t")
	for _, s := range all {
		fmt.Fprintf(w, "%s\t", s.subject.name)
	}
	fmt.Fprintln(w)
	for _, c := range columns {
		fmt.Fprintf(w, "%s\t", c.name)
		for _, s := range all {
			mid, _, _ := s.median(c)
			fmt.Fprintf(w, "%s\t", c.form(mid))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into memory
	return b.String()
}

// markdown is the table with medians, and the range of all rounds.
func (p plan) markdown(all []*series) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d connections, %d PINGREQs a second for %v, medians of %d rounds (least to most).\n%s, %s; load average of 1, 5 and 15 minutes at the end %s.\n\n", p.connections, p.rate, p.beating, p.rounds, machine(), time.Now().Format(time.DateOnly), loadAverage())
	b.WriteString("| |")
	for _, s := range all {
		fmt.Fprintf(&b, " %s |", s.subject.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(all)) + "\n")
	for _, c := range columns {
		fmt.Fprintf(&b, "| %s |", c.name)
		for _, s := range all {
			mid, least, most := s.median(c)
			fmt.Fprintf(&b, " %s (%s to %s) |", c.form(mid), c.form(least), c.form(most))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// replace puts the table where a file's marks of that name are.
func replace(file, name, table string) error {
	from := fmt.Sprintf("<!-- %[1]s: what is between these lines is written by make %[1]s -->\n", name)
	to := fmt.Sprintf("<!-- %s ends -->\n", name)
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(b), from)
	_, after, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		return errors.New(file + " has no place for the table: the lines that begin with <!-- " + name)
	}
	return os.WriteFile(file, []byte(before+from+"\n"+table+"\n"+to+after), 0o644)
}
