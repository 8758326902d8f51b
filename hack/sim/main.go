// Command sim plays the library of scenarios of internal/sim, each several times
// and again for the judges that Rollcall is compared with, and prints one table
// of what came of it against the bars. It ends with status 1 when a bar is
// missed that is not known to be.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-dev/rollcall/internal/sim"
)

func main() {
	seed := flag.Uint64("seed", 1, "of all that is random")
	only := flag.String("only", "", "play these scenarios of the library, comma separated; empty: all")
	docs := flag.String("docs", "", "renew the tables and plots in this `directory`; empty: don't")
	rivals := flag.Bool("rivals", true, "play each scenario again for the judges that it is compared with")
	flag.Parse()
	if err := run(*seed, *only, *docs, *rivals); err != nil {
		fmt.Fprintln(os.Stderr, "sim: "+err.Error())
		os.Exit(1)
	}
}

func run(seed uint64, only, docs string, rivals bool) error {
	names := sim.Names()
	if only != "" {
		names = strings.Split(only, ",")
	}
	scenarios := make([]*sim.Scenario, len(names))
	for i, name := range names {
		var err error
		if scenarios[i], err = sim.Named(name); err != nil {
			return err
		}
	}
	began := time.Now()
	results := play(names, scenarios, seed, rivals)
	events := uint64(0)
	for _, r := range results {
		events += r.Events
	}
	var tables strings.Builder
	sim.WriteTable(&tables, names, results)
	fmt.Print("\n", tables.String())
	var compared strings.Builder
	if rivals {
		sim.WriteRivals(&compared, names, results)
		fmt.Print("\n", compared.String())
	}
	var beside strings.Builder
	sim.WriteBeside(&beside, names, results)
	fmt.Print("\n", beside.String())
	fmt.Printf("\n%d scenarios, %.0f million events in %s.\n", len(names), float64(events)/1e6, time.Since(began).Round(time.Second))
	unknown := 0
	for i, r := range results {
		for _, m := range r.Misses() {
			fmt.Printf("MISSED %s: %s\n", names[i], m)
			if m.Why == "" {
				unknown++
			}
		}
	}
	if docs != "" {
		if err := renew(docs, map[string]string{"table": tables.String(), "rivals": compared.String(), "demo": beside.String()}, seed); err != nil {
			return err
		}
	}
	if unknown > 0 {
		return fmt.Errorf("%d bars are missed that are not known to be", unknown)
	}
	return nil
}

// play plays all scenarios, as many at once as there are processors, the
// longest first.
func play(names []string, scenarios []*sim.Scenario, seed uint64, rivals bool) []*sim.Result {
	order := make([]int, len(names))
	for i := range order {
		order[i] = i
	}
	weight := func(i int) float64 {
		s := scenarios[i].Setting
		return scenarios[i].End.Seconds() * float64(scenarios[i].Repeat) * float64(20*s.Servers+12*s.Nodes+s.Clients/10)
	}
	slices.SortFunc(order, func(a, b int) int {
		if weight(a) > weight(b) {
			return -1
		}
		return 1
	})
	results := make([]*sim.Result, len(names))
	var wg sync.WaitGroup
	var mu sync.Mutex
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				at := time.Now()
				results[i] = sim.Run(scenarios[i], seed, rivals)
				mu.Lock()
				fmt.Fprintf(os.Stderr, "%-18s %5.1fs\n", names[i], time.Since(at).Seconds())
				mu.Unlock()
			}
		})
	}
	for _, i := range order {
		next <- i
	}
	close(next)
	wg.Wait()
	return results
}

// plotted are the scenarios that the documentation shows.
var plotted = []string{"stop", "slow", "zone_lost", "rollout"}

// renew writes the tables into docs/failure-detection.md, between its marks, and the plots.
func renew(dir string, bodies map[string]string, seed uint64) error {
	page := filepath.Join(dir, "failure-detection.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	out := string(text)
	for mark, body := range bodies {
		begin, end := "<!-- sim:"+mark+" -->\n", "<!-- /sim:"+mark+" -->"
		i, j := strings.Index(out, begin), strings.Index(out, end)
		if i < 0 || j < i {
			return fmt.Errorf("%s has no marks for the %s", page, mark)
		}
		if body != "" {
			out = out[:i+len(begin)] + body + out[j:]
		}
	}
	if err := os.WriteFile(page, []byte(out), 0o644); err != nil {
		return err
	}
	for _, name := range plotted {
		sc, err := sim.Named(name)
		if err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(dir, "assets", "sim-"+name+".svg"))
		if err != nil {
			return err
		}
		if err := write(f, sim.Trace(sc, seed)); err != nil {
			return err
		}
	}
	return nil
}

func write(f io.WriteCloser, p *sim.Plot) error {
	err := p.WriteSVG(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
