package sim

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

func named(t testing.TB, name string) *Scenario {
	t.Helper()
	sc, err := Named(name)
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

// The long ones are for `make sim`.
var quickOnes = []string{"demo_stop", "demo_kill", "demo_slow", "node_3", "oneway", "partition", "clocks", "starved", "etcd_away", "leader_change", "observers"}

func TestTheLibraryMeetsItsBars(t *testing.T) {
	for _, name := range quickOnes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sc := named(t, name)
			sc.Repeat = min(sc.Repeat, 3)
			for _, m := range Run(sc, 7, false).Misses() {
				if m.Why == "" {
					t.Error(m)
				}
			}
		})
	}
}

func TestEveryScenarioOfTheLibraryCanBeRead(t *testing.T) {
	names := Names()
	if len(names) < 20 {
		t.Errorf("the library has %d scenarios", len(names))
	}
	for _, name := range names {
		sc := named(t, name)
		if sc.Title == "" || len(sc.Bars) == 0 {
			t.Errorf("%s has no title, or expects nothing", name)
		}
		for _, s := range sc.Steps {
			again, err := parseStep(strings.Fields(s.String()))
			if err != nil || again.String() != s.String() {
				t.Errorf("%s: %q is read as %q: %v", name, s, again, err)
			}
		}
	}
}

func TestTheSameSeedIsTheSameRun(t *testing.T) {
	sc := named(t, "demo_stop")
	sc.Repeat = 1
	a, b, c := Run(sc, 3, true), Run(sc, 3, true), Run(sc, 4, true)
	if !maps.Equal(a.Figures, b.Figures) || !maps.Equal(a.Rivals, b.Rivals) || a.Events != b.Events {
		t.Errorf("two runs of one seed:\n%v %v\n%v %v", a.Figures, a.Rivals, b.Figures, b.Rivals)
	}
	if a.Events == c.Events {
		t.Error("another seed makes the same run")
	}
}

// What was measured elsewhere, or follows from a detector's definition.
func TestOtherJudgesTakeAsLongAsTheyAreKnownTo(t *testing.T) {
	sc, err := ParseScenario(strings.NewReader(`
world servers=8 nodes=10 zones=3 clients=80
repeat 10
30s~10s stop servers pick=1 for=200s
35s~10s kill node-9 for=200s
end 280s
`))
	if err != nil {
		t.Fatal(err)
	}
	r := Run(sc, 1, true)
	for name, want := range map[string][2]float64{
		rivalHTTP:       {20, 31},
		rivalTuned:      {1, 3.1},
		rivalMemberlist: {4, 9},
		rivalPhi:        {0.5, 2.7},
		rivalLease:      {40, 56},
	} {
		if got := r.Rivals[name]; got.Found != got.Faults || got.P50 < want[0] || got.P99 > want[1] {
			t.Errorf("%s: %+v, want %v s", name, got, want)
		}
	}
	if got := r.Rivals[rivalTCP]; got.Found != 0 {
		t.Errorf("a TCP probe has found a stopped server: %+v", got)
	}
}

func TestWhatCanNotBeReadIsTold(t *testing.T) {
	for text, want := range map[string]string{
		"world servers=0":                      "servers=0 is not between",
		"world server=3":                       "no such setting",
		"world servers=many":                   "servers=many",
		"world clients=300000":                 "clients=300000",
		"world mode=Perhaps":                   "mode=Perhaps",
		"10s":                                  "TIME VERB",
		"soon stop server-1":                   "soon",
		"10s explode server-1":                 "no such verb",
		"10s stop server-9":                    `no "server-9"`,
		"10s stop node-1":                      "node-1",
		"10s slow server-1":                    "needs by=",
		"10s slow server-1 by=fast":            "by=fast",
		"10s stop server-1 share=2":            "takes no share",
		"10s lose from=all to=all share=2":     "from 0 to 1",
		"10s stop":                             "whom",
		"-5s stop server-1":                    "before the beginning",
		"10s stop server-1\nend 3s":            "line 1: 10s stop: it is after the end",
		"# only words":                         "it says nothing",
		"end -1s":                              "above 0",
		"10s cut from=moon to=all":             `no place "moon"`,
		"10s stop server-1 server-2":           "KEY=VALUE",
		"expect verdict.p99 < 2s":              "FIGURE",
		"expect happiness >= 1":                "no figure",
		"repeat 0":                             "repeat 0",
		"end never":                            "never",
		"known missed":                         "reason",
		"10s stop servers pick=0 each=1s":      "pick=0",
		"10s lose from=all to=all share=third": "third",
	} {
		_, err := ParseScenario(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want something with %q", text, err, want)
		}
	}
}

func TestAPlotIsWellFormed(t *testing.T) {
	var b bytes.Buffer
	p := Trace(named(t, "demo_slow"), 1)
	if err := p.WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	lines := 0
	for d := xml.NewDecoder(&b); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polyline" {
			lines++
		}
	}
	if lines != 3 {
		t.Errorf("%d curves, want one for each server", lines)
	}
	if len(p.Notes()) < 5 {
		t.Errorf("notes: %v", p.Notes())
	}
}

func TestTheQueueKeepsTheOrderOfEvents(t *testing.T) {
	var q queue
	var got []string
	for i, at := range []int{5, 1, 3, 1, 5, 2, 4} {
		q.at(time.Duration(at), call(func() { got = append(got, fmt.Sprintf("%d.%d", at, i)) }), 0, 0)
	}
	q.run(4)
	if s := strings.Join(got, " "); s != "1.1 1.3 2.5 3.2 4.6" || q.now != 4 {
		t.Errorf("up to 4: %s, now %v", s, q.now)
	}
	q.run(9)
	if s := strings.Join(got[5:], " "); s != "5.0 5.4" {
		t.Errorf("then: %s", s)
	}
}

// BenchmarkJudgement is verdict and plan for 1,000 servers and 5,000 nodes: the
// bar is 10 ms. BenchmarkTurn is that with what the model adds.
func BenchmarkJudgement(b *testing.B) {
	c := large(b)
	vw, brake := c.world(), c.servers.Brake.Or(c.nodes.Brake)
	servers, nodes := c.servers, c.nodes
	b.ReportAllocs()
	for b.Loop() {
		nodes = verdict.Nodes(vw, c.book.nodes, nodes.Verdicts, nodes.Brake)
		servers = verdict.Servers(vw, c.w.policy, c.book.servers, servers.Verdicts, servers.Brake)
		plan.Failovers(vw.Now, c.w.planPolicy, brake, c.fleet, c.active)
	}
}

func BenchmarkTurn(b *testing.B) {
	c := large(b)
	b.ReportAllocs()
	for b.Loop() {
		c.judge()
	}
}

func large(b *testing.B) *controller {
	set := DefaultSetting()
	set.Servers, set.Nodes, set.Clients = 1000, 5000, 0
	if err := set.validate(); err != nil {
		b.Fatal(err)
	}
	w := newWorld(set, 1, true)
	w.run(4 * time.Second)
	c := w.controllers[0]
	if !c.leading() || c.servers.Brake.Frozen || len(c.fleet) == 0 {
		b.Fatal("the controller is not ready")
	}
	return c
}
