package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
	"github.com/rollcall-dev/rollcall/client/adaptive/nat"
)

const (
	perGroup = 40
	length   = 28 * 24 * time.Hour
	// marsMargin keeps Mars from using its Max; bisect uses all of its own.
	marsMargin = 20 * time.Second
)

// group is some worlds that a strategy is to be good at.
type group struct {
	name     string
	min, max time.Duration // of the strategies
	worlds   []nat.World
	still    bool // each world has one timeout
	wide     bool // still, and of the wide range
}

// timeout is that of a world that has one.
func (g group) timeout(world int) time.Duration {
	return g.worlds[world].Networks[0].Timeouts[0].Longest
}

// result is what became of each world of a group, by strategy, in the order of names.
type result struct {
	group
	outcomes [][]nat.Outcome
}

// The strategies compared.
const (
	mars = iota
	weChat
	bisect
)

var names = []string{"mars", "mars, WeChat's", "bisect"}

func groups() []group {
	const least, most = 25 * time.Second, 30 * time.Minute
	var all []group
	own := nat.Timeouts(perGroup, 4*time.Minute, 12*time.Minute, 1)
	wide := nat.Timeouts(perGroup, 30*time.Second, 30*time.Minute, 2)
	for _, loss := range []float64{0, .01, .05, .1} {
		all = append(all, still(fmt.Sprintf("Mars's range, %v loss", percent(loss)), 210*time.Second, 600*time.Second, own, loss))
	}
	for _, loss := range []float64{0, .01, .05, .1} {
		g := still(fmt.Sprintf("wide range, %v loss", percent(loss)), least, most, wide, loss)
		g.wide = true
		all = append(all, g)
	}
	return append(all,
		group{name: "changing timeouts, no loss", min: least, max: most, worlds: worlds(changing, 0, 3)},
		group{name: "changing timeouts, 2 % loss", min: least, max: most, worlds: worlds(changing, .02, 3)},
		group{name: "changing networks, no loss", min: least, max: most, worlds: worlds(moving, 0, 4)},
		group{name: "changing networks, 2 % loss", min: least, max: most, worlds: worlds(moving, .02, 4)},
	)
}

func still(name string, least, most time.Duration, timeouts []time.Duration, loss float64) group {
	g := group{name: name, min: least, max: most, still: true}
	for _, t := range timeouts {
		g.worlds = append(g.worlds, nat.Still(t, loss, length))
	}
	return g
}

func worlds(draw func(*rand.Rand) nat.World, loss float64, seed uint64) []nat.World {
	var all []nat.World
	for i := range perGroup {
		w := draw(rand.New(rand.NewPCG(seed, uint64(i))))
		w.Loss, w.Length = loss, length
		all = append(all, w)
	}
	return all
}

// changing has one network, whose timeout is another one every 4 days.
func changing(rnd *rand.Rand) nat.World {
	n := nat.Network{Name: "home"}
	for i, t := range nat.Timeouts(7, time.Minute, 30*time.Minute, rnd.Uint64()) {
		n.Timeouts = append(n.Timeouts, nat.Timeout{From: time.Duration(i) * 4 * 24 * time.Hour, Longest: t})
	}
	return nat.World{Networks: []nat.Network{n}}
}

// moving has five networks, one of them at random for 1 to 8 hours each.
func moving(rnd *rand.Rand) nat.World {
	var w nat.World
	for i, t := range nat.Timeouts(5, time.Minute, 30*time.Minute, rnd.Uint64()) {
		w.Networks = append(w.Networks, nat.Fixed(fmt.Sprint("network", i), t))
	}
	for at := time.Duration(0); at < length; at += time.Hour + time.Duration(rnd.Int64N(int64(7*time.Hour))) {
		w.Stays = append(w.Stays, nat.Stay{From: at, Network: rnd.IntN(len(w.Networks))})
	}
	return w
}

func (g group) run() (result, error) {
	m, err := adaptive.NewMars(adaptive.MarsSettings{Min: g.min, Max: g.max})
	if err != nil {
		return result{}, err
	}
	settings := adaptive.WeChat()
	settings.Min, settings.Max = g.min, g.max
	w, err := adaptive.NewMars(settings)
	if err != nil {
		return result{}, err
	}
	b, err := adaptive.NewBisect(adaptive.BisectSettings{Min: g.min, Max: g.max - marsMargin})
	if err != nil {
		return result{}, err
	}
	r := result{group: g}
	for _, s := range []adaptive.Strategy{m, w, b} {
		var all []nat.Outcome
		for seed, world := range g.worlds {
			world.Longest = g.max - marsMargin
			all = append(all, nat.Run(s, world, uint64(seed), nil))
		}
		r.outcomes = append(r.outcomes, all)
	}
	return r, nil
}

func percent(share float64) string {
	if share == 0 {
		return "no"
	}
	return fmt.Sprintf("%.0f %%", 100*share)
}
