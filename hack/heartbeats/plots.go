package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// Colours that are told apart without red and green.
const (
	orange, blue, grey = "#d55e00", "#0072b2", "#bbbbbb"
)

// costs draws what each way costs against how soon others know.
func costs() string {
	c := newChart(760, 440, "Bytes and wake-ups a day against the time until others see that a client is gone")
	a := area{chart: c, x0: 90, y0: 390, x1: 700, y1: 40,
		x: axis{label: "others see it gone within (1.5 intervals and 5 s)", least: 5, most: 4000, log: true, ticks: []tick{
			{6, "6 s"}, {10, "10 s"}, {20, "20 s"}, {60, "1 min"}, {300, "5 min"}, {900, "15 min"}, {2700, "45 min"}}},
		y: axis{label: "bytes a day, both directions", least: 5e3, most: 4e7, log: true, ticks: []tick{
			{1e4, "10 kB"}, {1e5, "100 kB"}, {1e6, "1 MB"}, {1e7, "10 MB"}}},
	}
	a.frame("One client at rest: what a beat costs, and what it buys")
	var plain, tls [][2]float64
	for interval := 0.7; interval < 2600; interval *= 1.1 {
		gone := 1.5*interval + grace.Seconds()
		beats := day.Seconds() / interval
		plain = append(plain, [2]float64{gone, beats * plainBeat})
		tls = append(tls, [2]float64{gone, beats * tlsBeat})
	}
	a.line(tls, `stroke="`+orange+`" stroke-dasharray="5 3"`)
	a.line(plain, `stroke="`+blue+`" stroke-width="2"`)
	for _, w := range ways() {
		if !w.mark {
			continue
		}
		a.dot(w.gone().Seconds(), w.bytesADay(), blue)
		x, y := a.at(w.gone().Seconds(), w.bytesADay())
		if label := fmt.Sprintf("%s: %.0f wake-ups", w.name, w.wakeUps()); x > 350 {
			a.text(x-9, y+15, "end", "", label) // below both lines
		} else {
			a.text(x+14, y-6, "start", "", label)
		}
	}
	fmt.Fprintf(c, `<path d="M480 62h26" stroke="%s" stroke-width="2"/><text x="512" y="66">TCP, %d bytes a beat</text>`+"\n", blue, plainBeat)
	fmt.Fprintf(c, `<path d="M480 82h26" stroke="%s" stroke-dasharray="5 3"/><text x="512" y="86">TLS 1.3, %d bytes a beat</text>`+"\n", orange, tlsBeat)
	return c.end()
}

// second is one second of BenchmarkLeaving.
type second struct{ arrivals, connects float64 }

// measured reads its figures; none are there: nil.
func measured(path string) ([]second, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var l []second
	for _, row := range rows[min(1, len(rows)):] {
		var numbers [2]float64
		for i, cell := range row[1:min(3, len(row))] {
			if numbers[i], err = strconv.ParseFloat(cell, 64); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		}
		l = append(l, second{numbers[0], numbers[1]})
	}
	return l, nil
}

// announced is the rate that BenchmarkLeaving announces.
const announced = 500

// leaving draws the arrivals of 10,000 clients by the second; empty where they
// were not measured.
func leaving(dir string) (string, error) {
	c := newChart(900, 330, "Ten thousand clients leave a server: arrivals at the receivers by the second")
	drawn := false
	for i, p := range []struct{ file, title string }{
		{"leaving-drained.csv", "drained: told to go, 500 a second"},
		{"leaving-stopped.csv", "stopped: they leave by themselves"},
	} {
		l, err := measured(filepath.Join(dir, p.file))
		if err != nil {
			return "", err
		}
		if l == nil {
			continue
		}
		drawn = true
		most := 1.2 * announced
		for _, s := range l {
			most = max(most, 1.05*s.arrivals, 1.05*s.connects)
		}
		left := 80 + 430*float64(i)
		a := area{chart: c, x0: left, y0: 260, x1: left + 340, y1: 46,
			x: axis{label: "seconds after the fault", most: float64(len(l))}, y: axis{label: "clients a second", most: most}}
		for t := 0; t <= len(l); t += step(float64(len(l))) {
			a.x.ticks = append(a.x.ticks, tick{float64(t), fmt.Sprint(t)})
		}
		for n := 0; float64(n) <= most; n += step(most) {
			a.y.ticks = append(a.y.ticks, tick{float64(n), fmt.Sprint(n)})
		}
		a.frame(p.title)
		for t, s := range l {
			if s.connects > s.arrivals { // counted by another clock, a little off
				a.bar(float64(t)+.08, float64(t)+.92, s.connects, grey)
			}
			a.bar(float64(t)+.08, float64(t)+.92, s.arrivals, blue)
		}
		a.line([][2]float64{{0, announced}, {float64(len(l)), announced}}, `stroke="`+orange+`" stroke-dasharray="5 3" stroke-width="1.5"`)
	}
	if !drawn {
		return "", nil
	}
	fmt.Fprintf(c, `<rect x="80" y="310" width="12" height="12" fill="%s"/><text x="98" y="320">taken by a receiver</text>`+"\n", blue)
	fmt.Fprintf(c, `<rect x="240" y="310" width="12" height="12" fill="%s"/><text x="258" y="320">refused, with a time to come back</text>`+"\n", grey)
	fmt.Fprintf(c, `<path d="M480 316h26" stroke="%s" stroke-dasharray="5 3" stroke-width="1.5"/><text x="512" y="320">announced rate</text>`+"\n", orange)
	return c.end(), nil
}

// step is a round number, of which four to ten make most.
func step(most float64) int {
	for n := 1; ; n *= 10 {
		for _, m := range []int{1, 2, 5} {
			if most/float64(n*m) <= 10 {
				return n * m
			}
		}
	}
}
