package main

import (
	"math"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive/nat"
)

// figures are what a strategy did in a group.
type figures struct {
	search, useful     time.Duration // means
	searches           int
	unfinished, unused int
	beats              float64 // a day, once stable
	lost               float64 // per search
	stableLost         float64 // a week, once stable
	needless           float64 // a week, of all
	allLost            int
	distance           float64
}

func (r result) figures(strategy int) figures {
	var f figures
	var stable time.Duration
	var beats, lost, stableLost, needless, n int
	for _, o := range r.outcomes[strategy] {
		for _, d := range o.Searches {
			f.search += d
		}
		for _, d := range o.Useful {
			f.useful += d
		}
		f.searches += len(o.Searches)
		f.unfinished += o.Unfinished
		f.unused += o.Useless
		stable += o.Stable
		beats += o.StableBeats
		lost += o.Lost - o.StableLost
		stableLost += o.StableLost
		needless += o.Needless
		f.allLost += o.Lost
		if !math.IsNaN(o.Distance) {
			f.distance += o.Distance
			n++
		}
	}
	days := stable.Hours() / 24
	f.search /= time.Duration(f.searches)
	f.useful /= time.Duration(f.searches)
	f.beats = float64(beats) / days
	f.lost = float64(lost) / float64(f.searches)
	f.stableLost = float64(stableLost) / days * 7
	f.needless = float64(needless) / (float64(len(r.worlds)) * length.Hours() / 24) * 7
	f.distance /= float64(n)
	return f
}

// faster is how many times faster than mars bisect is to be.
const faster = 3

// missed tells which bars bisect missed against mars in a group, by its means.
func (r result) missed() []string {
	m, b := r.figures(mars), r.figures(bisect)
	var all []string
	if faster*b.search > m.search || faster*b.useful > m.useful {
		all = append(all, "time")
	}
	if b.beats > m.beats {
		all = append(all, "beats")
	}
	if b.allLost > m.allLost {
		all = append(all, "connections")
	}
	return all
}

// bar is what bisect is to keep against mars in each world by itself.
type bar struct {
	name string
	// over is by how much it misses: above 1 it does.
	over func(mars, bisect nat.Outcome) float64
}

var worldBars = []bar{
	{"3 × faster search", func(m, b nat.Outcome) float64 {
		return faster * mean(b.Searches).Seconds() / mean(m.Searches).Seconds()
	}},
	{"3 × faster of use", func(m, b nat.Outcome) float64 {
		return faster * mean(b.Useful).Seconds() / mean(m.Useful).Seconds()
	}},
	{"no more beats", func(m, b nat.Outcome) float64 { return b.BeatsPerDay() / m.BeatsPerDay() }},
	{"no more lost", func(m, b nat.Outcome) float64 {
		if b.Lost <= m.Lost {
			return 1
		}
		return float64(b.Lost) / float64(m.Lost)
	}},
}

// misses are the worlds in which bisect misses a bar, and by how much at most.
func (r result) misses(b bar) (worlds []int, worst float64) {
	for i := range r.worlds {
		if over := b.over(r.outcomes[mars][i], r.outcomes[bisect][i]); over > 1 {
			worlds = append(worlds, i)
			worst = max(worst, over)
		}
	}
	return worlds, worst
}

func mean(all []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	return sum / time.Duration(max(len(all), 1))
}
