package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawScenario makes a small world in which up to four things break, at random,
// all of which are mended a minute before the end.
func drawScenario(t *rapid.T) *Scenario {
	nodes := rapid.IntRange(3, 10).Draw(t, "nodes")
	sc := &Scenario{Setting: DefaultSetting(), Repeat: 1}
	set := &sc.Setting
	set.Nodes, set.Zones = nodes, rapid.IntRange(1, 3).Draw(t, "zones")
	set.Servers = rapid.IntRange(2, min(nodes, 6)).Draw(t, "servers")
	set.Clients = set.Servers * rapid.SampledFrom([]int{5, 40, 200}).Draw(t, "share")
	set.Controllers = rapid.IntRange(1, 2).Draw(t, "controllers")
	set.Interval = rapid.SampledFrom([]time.Duration{2 * time.Second, 5 * time.Second}).Draw(t, "interval")
	one := func(kind string, n int) string {
		return fmt.Sprintf("%s-%d", kind, rapid.IntRange(0, n-1).Draw(t, kind))
	}
	place := func(label string) string {
		return rapid.SampledFrom([]string{one("zone", set.Zones), one("node", nodes), "store", "nodes", "clients", one("server", set.Servers)}).Draw(t, label)
	}
	last := time.Duration(0)
	for range rapid.IntRange(0, 4).Draw(t, "faults") {
		at := time.Duration(rapid.IntRange(4000, 30000).Draw(t, "at")) * time.Millisecond
		lasts := time.Duration(rapid.IntRange(200, 25000).Draw(t, "lasts")) * time.Millisecond
		verb := rapid.SampledFrom([]string{
			"stop", "hang", "crash", "slow", "kill", "cut", "cut", "lose", "stall", "starve", "bursts", "away", "unseat", "jump", "herd", "restart", "pause", "load",
		}).Draw(t, "verb")
		s := Step{At: at, Verb: verb, Args: map[string]string{"for": lasts.String()}}
		switch verb {
		case "stop", "hang":
			s.Subject = one("server", set.Servers)
		case "slow":
			s.Subject, s.Args["by"] = one("server", set.Servers), fmt.Sprintf("%dms", rapid.IntRange(100, 3000).Draw(t, "by"))
		case "load":
			s.Subject, s.Args["factor"] = one("server", set.Servers), fmt.Sprint(rapid.IntRange(10, 20000).Draw(t, "factor"))
		case "crash":
			s.Subject, s.Args = one("server", set.Servers), map[string]string{"restart": lasts.String()}
		case "restart":
			s.Subject, s.Args = one("server", set.Servers), map[string]string{"down": lasts.String()}
		case "kill":
			s.Subject = one("node", nodes)
		case "stall":
			s.Subject = one("agent", nodes)
		case "starve":
			s.Subject, s.Args["run"], s.Args["period"] = one("node", nodes), "100ms", fmt.Sprintf("%dms", rapid.IntRange(200, 3000).Draw(t, "period"))
		case "bursts":
			s.Subject, s.Args["every"], s.Args["last"] = "nodes", "10s", "1s"
		case "jump":
			s.Subject, s.Args = rapid.SampledFrom([]string{one("agent", nodes), one("server", set.Servers)}).Draw(t, "whose"), map[string]string{"by": "20s"}
		case "herd":
			s.Args = map[string]string{"share": "0.5"}
		case "cut", "lose":
			s.Args["from"], s.Args["to"] = place("from"), place("to")
			if verb == "lose" {
				s.Args["share"] = "0.3"
			}
			if rapid.Bool().Draw(t, "oneway") {
				s.Args["oneway"] = "yes"
			}
		}
		last = max(last, at+lasts)
		sc.Steps = append(sc.Steps, s)
	}
	sc.End = max(last, 5*time.Second) + 180*time.Second
	return sc
}

// TestProperties holds what is promised whatever breaks. What a world checks of
// itself while it runs (outcome.breach): two independent witnesses, the brake,
// the servers that are out at once, the receivers' caps, no move back and forth,
// no client called Offline that is there. What must be so when all is mended: an
// end of every Failover, and a server for every client.
func TestProperties(t *testing.T) {
	for n := range 3 { // a hundred each, unless told otherwise
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, checkProperties)
		})
	}
}

func checkProperties(t *rapid.T) {
	sc := drawScenario(t)
	if err := sc.Setting.validate(); err != nil {
		t.Fatal(err)
	}
	for i := range sc.Steps {
		if err := sc.Steps[i].check(&sc.Setting); err != nil {
			t.Fatalf("%s: %v", sc.Steps[i], err)
		}
	}
	r := Run(sc, rapid.Uint64().Draw(t, "seed"), false)
	var wrong []string
	wrong = append(wrong, r.Violations...)
	for _, name := range []string{"unfinished", "lost", "uneven"} {
		if v := r.Figures[name]; v > 0 {
			wrong = append(wrong, fmt.Sprintf("%s: %v", name, v))
		}
	}
	if len(wrong) > 0 {
		var steps []string
		for _, s := range sc.Steps {
			steps = append(steps, s.String())
		}
		t.Fatalf("%s\nin %+v\n%s\nend %v", strings.Join(wrong, "\n"), sc.Setting, strings.Join(steps, "\n"), sc.End)
	}
}
