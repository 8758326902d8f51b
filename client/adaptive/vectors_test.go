package adaptive_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/client/adaptive"
	"github.com/rollcall-dev/rollcall/client/adaptive/nat"
)

var rewrite = flag.Bool("rewrite", false, "renew the test vectors")

// vector is a file of testdata: what a strategy decides on, event by event,
// from the zero state.
type vector struct {
	About    string         `json:"about"`
	Strategy string         `json:"strategy"`
	Settings map[string]any `json:"settings"`
	Steps    []vectorStep   `json:"steps"`
}

type vectorStep struct {
	Now      int64             `json:"nowUnixMs"`
	Event    adaptive.Event    `json:"event"`
	Decision adaptive.Decision `json:"decision"`
	State    adaptive.State    `json:"state"`
}

// lives are what the vectors were recorded from. Their events are in the
// files; -rewrite records them anew.
var lives = []struct {
	file, about string
	settings    any
	live        func(*recorder)
}{
	{"mars_finds", "a NAT that forgets after 5 min: the level rises, two failures settle it", adaptive.MarsSettings{}, (*recorder).find},
	{"mars_loss", "every tenth beat is lost", adaptive.MarsSettings{}, func(r *recorder) {
		r.run(nat.Still(8*time.Minute, .1, 6*time.Hour))
	}},
	{"mars_again", "after a time (7 days, but here 1 h) longer intervals are tried, and the limit has grown", adaptive.MarsSettings{Again: time.Hour}, func(r *recorder) {
		r.run(changing(10*time.Hour, 250*time.Second, 400*time.Second))
	}},
	{"mars_shrinks", "the stable interval fails twice, and all begins anew", adaptive.MarsSettings{}, func(r *recorder) {
		r.run(changing(12*time.Hour, 450*time.Second, 260*time.Second))
	}},
	{"mars_events", "foreground, networks, limits of the server, connections that end", adaptive.MarsSettings{}, (*recorder).events},
	{"wechat_finds", "WeChat's figures: five failures settle a level, the margin is 10 s", adaptive.WeChat(), (*recorder).find},
	{"bisect_finds", "a NAT that forgets after 5 min: the interval doubles, then climbs", adaptive.BisectSettings{Min: 25 * time.Second}, (*recorder).find},
	{"bisect_loss", "every tenth beat is lost: second tries tell", adaptive.BisectSettings{}, func(r *recorder) {
		r.run(nat.Still(8*time.Minute, .1, 6*time.Hour))
	}},
	{"bisect_halves", "a search that may lose five connections halves", adaptive.BisectSettings{Min: 25 * time.Second, Max: 30 * time.Minute, Losses: 5}, func(r *recorder) {
		r.run(nat.Still(18*time.Minute, 0, 4*time.Hour))
	}},
	{"bisect_again", "after a time (7 days, but here 1 h) the limit is looked at more closely, then tried again, and it has grown", adaptive.BisectSettings{Again: time.Hour}, func(r *recorder) {
		r.run(changing(14*time.Hour, 300*time.Second, 500*time.Second))
	}},
	{"bisect_shrinks", "the stable interval loses two connections, and is dropped", adaptive.BisectSettings{Min: 25 * time.Second}, func(r *recorder) {
		r.run(changing(6*time.Hour, 450*time.Second, 70*time.Second))
	}},
	{"bisect_events", "foreground, networks, limits of the server, connections that end", adaptive.BisectSettings{}, (*recorder).events},
}

func changing(length, first, then time.Duration) nat.World {
	return nat.World{
		Networks: []nat.Network{{Name: "home", Timeouts: []nat.Timeout{{Longest: first}, {From: length / 2, Longest: then}}}},
		Length:   length,
	}
}

func TestVectors(t *testing.T) {
	if *rewrite {
		for _, l := range lives {
			record(t, l.file, l.about, l.settings, l.live)
		}
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) != len(lives) {
		t.Fatalf("%d files of vectors, want %d: %v", len(files), len(lives), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".json"), func(t *testing.T) { replay(t, f) })
	}
}

func replay(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v vector
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	strategy := made(t, v.Strategy, v.Settings)
	var state adaptive.State
	for i, step := range v.Steps {
		var decision adaptive.Decision
		state, decision = strategy.Next(state, step.Event, time.UnixMilli(step.Now))
		if decision != step.Decision || !reflect.DeepEqual(state, step.State) {
			t.Fatalf("step %d, %+v:\nwant %+v %+v\n got %+v %+v\n(go test -rewrite accepts what is)",
				i, step.Event, step.Decision, step.State, decision, state)
		}
	}
}

// made is the strategy of a vector, from its settings in milliseconds.
func made(t *testing.T, name string, settings map[string]any) adaptive.Strategy {
	t.Helper()
	if name == "mars" {
		var c adaptive.MarsSettings
		unflatten(t, settings, &c)
		return newMars(t, c)
	}
	var c adaptive.BisectSettings
	unflatten(t, settings, &c)
	return newBisect(t, c)
}

// flat are settings as a file has them: durations are in milliseconds, their
// names end in Ms, and what is zero is left out.
func flat(settings any) map[string]any {
	all := map[string]any{}
	v := reflect.ValueOf(settings)
	for i := range v.NumField() {
		switch f := v.Field(i).Interface().(type) {
		case time.Duration:
			if f != 0 {
				all[lowered(v.Type().Field(i).Name)+"Ms"] = f.Milliseconds()
			}
		case int:
			if f != 0 {
				all[lowered(v.Type().Field(i).Name)] = f
			}
		}
	}
	return all
}

func unflatten(t *testing.T, from map[string]any, settings any) {
	t.Helper()
	v := reflect.ValueOf(settings).Elem()
	used := 0
	for i := range v.NumField() {
		name := lowered(v.Type().Field(i).Name)
		scale := int64(1)
		if v.Field(i).Type() == reflect.TypeFor[time.Duration]() {
			name += "Ms"
			scale = int64(time.Millisecond)
		}
		if n, ok := from[name].(float64); ok {
			v.Field(i).SetInt(int64(n) * scale)
			used++
		}
	}
	if used != len(from) {
		t.Fatalf("unknown settings among %v", from)
	}
}

func lowered(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// recorder records a life.
type recorder struct {
	strategy adaptive.Strategy
	steps    []vectorStep
	state    adaptive.State
	now      time.Time
}

func (r *recorder) run(w nat.World) {
	nat.Run(r.strategy, w, 7, func(s nat.Step) {
		r.steps = append(r.steps, vectorStep{Now: s.Now.UnixMilli(), Event: s.Event, Decision: s.Decision, State: s.State})
	})
}

func (r *recorder) find() { r.run(nat.Still(5*time.Minute, 0, 4*time.Hour)) }

func (r *recorder) tell(after time.Duration, e adaptive.Event) {
	r.now = r.now.Add(after)
	var d adaptive.Decision
	r.state, d = r.strategy.Next(r.state, e, r.now)
	r.steps = append(r.steps, vectorStep{Now: r.now.UnixMilli(), Event: e, Decision: d, State: r.state})
}

func (r *recorder) events() {
	r.now = nat.Begin
	quiet := func(n int) {
		for range n {
			silence := r.state.Interval.Duration()
			r.tell(silence, adaptive.Answered(silence))
		}
	}
	r.tell(0, adaptive.Connected("home", 0))
	r.tell(0, adaptive.Answered(0))
	quiet(9)
	r.tell(time.Minute, adaptive.Foreground())
	quiet(2)
	r.tell(time.Minute, adaptive.Background())
	quiet(2)
	r.tell(time.Minute, adaptive.Tick())
	r.tell(time.Minute, adaptive.NetworkChanged())
	r.tell(time.Second, adaptive.Connected("train", 240*time.Second))
	quiet(9)
	r.tell(time.Minute, adaptive.Lost(0))
	r.tell(time.Second, adaptive.Connected("train", 100*time.Second))
	quiet(2)
	r.tell(time.Minute, adaptive.NetworkChanged())
	r.tell(time.Second, adaptive.Connected("", 0))
	quiet(2)
	r.tell(time.Minute, adaptive.Failed(time.Minute))
	r.tell(time.Second, adaptive.Connected("home", 0))
	quiet(5)
	r.tell(10*time.Minute, adaptive.Lost(10*time.Minute))
	r.tell(time.Second, adaptive.Connected("home", 0))
	quiet(5)
}

// record writes a vector, a step a line.
func record(t *testing.T, file, about string, settings any, live func(*recorder)) {
	t.Helper()
	name := "bisect"
	if _, ok := settings.(adaptive.MarsSettings); ok {
		name = "mars"
	}
	numbers := map[string]any{}
	if err := json.Unmarshal(line(t, flat(settings)), &numbers); err != nil {
		t.Fatal(err)
	}
	r := &recorder{strategy: made(t, name, numbers)}
	live(r)
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n\"about\": %s,\n\"strategy\": %q,\n\"settings\": %s,\n\"steps\": [\n", line(t, about), name, line(t, numbers))
	for i, s := range r.steps {
		end := ",\n"
		if i == len(r.steps)-1 {
			end = "\n]\n}\n"
		}
		fmt.Fprintf(&b, "%s%s", line(t, s), end)
	}
	if err := os.WriteFile(filepath.Join("testdata", file+".json"), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func line(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
