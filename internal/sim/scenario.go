package sim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-dev/rollcall/internal/plan"
)

// Scenario says what there is, what breaks when, and what is expected of it.
// ParseScenario reads it from lines that a person can write:
//
//	# A server is stopped. Its kernel still acknowledges.
//	world servers=10 nodes=12 zones=3 clients=10000 interval=10s
//	repeat 20
//	10s~1s stop server-3 for=20s
//	end 60s
//	expect verdict.p99 <= 2s
type Scenario struct {
	// Title is the first comment, without its sign.
	Title   string
	Setting Setting
	Steps   []Step
	// End of one run, and how many there are, each with a seed of its own.
	End    time.Duration
	Repeat int
	Bars   []Bar
	// Known are figures that are known to miss their bars, and why.
	Known map[string]string
	// Alone: other judges are not asked about this one.
	Alone bool
}

// Setting is what there is.
type Setting struct {
	Servers, Nodes, Zones, Clients, Controllers int
	// Capacity of a server, in sessions; 0: three times its share.
	Capacity int
	// Processors that all of it shares, as in the demo; 0: every machine has
	// enough of its own.
	Processors int
	// Cgroups: the cgroup of every server is looked at.
	Cgroups bool
	// Interval, Ack and Misses are the clients': time between beats, how long
	// an answer may take, and how many in a row may take longer.
	Interval, Ack time.Duration
	Misses        int
	// Grace that a server adds to a session's lease.
	Grace time.Duration
	// AnswerTime, Mode and Rate are the policy of the servers' Presence.
	AnswerTime time.Duration
	Mode       plan.Mode
	Rate       float64
}

// Step is one thing that breaks, or is mended.
type Step struct {
	// At is when, at random within Spread after it.
	At, Spread time.Duration
	Verb       string
	Subject    string
	Args       map[string]string
}

// Bar is one expectation.
type Bar struct {
	Figure string
	Op     string // "<=", ">=", "=", or "~" for about
	Value  float64
	Text   string // as it was written
}

// About is what "~" allows: a share of the value, or for small values so much.
const (
	AboutShare = 0.2
	AboutLeast = 0.1
)

// Holds tells whether a figure meets the bar.
func (b Bar) Holds(v float64) bool {
	switch b.Op {
	case "~":
		return math.Abs(v-b.Value) <= max(AboutShare*b.Value, AboutLeast)
	case "<=":
		return v <= b.Value
	case ">=":
		return v >= b.Value
	}
	return v == b.Value
}

// DefaultSetting is what a scenario has that says nothing else.
func DefaultSetting() Setting {
	return Setting{
		Servers: 3, Nodes: 5, Zones: 3, Clients: 2000, Controllers: 1,
		Interval: 5 * time.Second, Ack: time.Second, Misses: 1, Grace: 5 * time.Second,
		AnswerTime: 500 * time.Millisecond, Mode: plan.Automatic, Rate: plan.DefaultRate,
	}
}

func (s *Setting) validate() error {
	within := func(what string, n, least, most int) error {
		if n < least || n > most {
			return fmt.Errorf("%s=%d is not between %d and %d", what, n, least, most)
		}
		return nil
	}
	for _, err := range []error{
		within("servers", s.Servers, 1, 1000), within("nodes", s.Nodes, 1, 5000), within("zones", s.Zones, 1, s.Nodes),
		within("clients", s.Clients, 0, 200_000), within("controllers", s.Controllers, 1, 5), within("misses", s.Misses, 1, 10),
		within("processors", s.Processors, 0, 1024), within("capacity", s.Capacity, 0, 1_000_000),
	} {
		if err != nil {
			return err
		}
	}
	for what, d := range map[string]time.Duration{"interval": s.Interval, "ack": s.Ack, "answerTime": s.AnswerTime} {
		if d < 10*time.Millisecond {
			return fmt.Errorf("%s=%v is below 10ms", what, d)
		}
	}
	if !slices.Contains([]plan.Mode{plan.Automatic, plan.Advise, plan.Off}, s.Mode) {
		return fmt.Errorf("mode=%s is not Automatic, Advise or Off", s.Mode)
	}
	if s.Capacity == 0 {
		s.Capacity = max(10, 3*(s.Clients+2*s.Nodes)/s.Servers)
	}
	return nil
}

// ParseScenario reads a scenario. Its errors name the line.
func ParseScenario(r io.Reader) (*Scenario, error) {
	sc := &Scenario{Setting: DefaultSetting(), Repeat: 1, End: time.Minute}
	lines := bufio.NewScanner(r)
	said := false
	var at []int // the lines of the steps
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if comment, ok := strings.CutPrefix(text, "#"); ok && sc.Title == "" {
			sc.Title = strings.TrimSpace(comment)
		}
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		said = true
		if err := sc.line(strings.Fields(text)); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		for len(at) < len(sc.Steps) {
			at = append(at, n)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if !said {
		return nil, errors.New("it says nothing: write what there is (world …), what breaks (10s stop server-1 for=20s) and when it ends (end 60s)")
	}
	if err := sc.Setting.validate(); err != nil {
		return nil, fmt.Errorf("world: %w", err)
	}
	for i, s := range sc.Steps {
		err := s.check(&sc.Setting)
		if err == nil && s.At+s.Spread > sc.End {
			err = fmt.Errorf("it is after the end, %v", sc.End)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %v %s: %w", at[i], s.At, s.Verb, err)
		}
	}
	return sc, nil
}

func (sc *Scenario) line(f []string) (err error) {
	switch f[0] {
	case "world":
		for _, a := range f[1:] {
			key, value, _ := strings.Cut(a, "=")
			if err := sc.Setting.set(key, value); err != nil {
				return fmt.Errorf("%s: %w", a, err)
			}
		}
		return nil
	case "known":
		if len(f) < 3 {
			return fmt.Errorf("known needs a figure and a reason")
		}
		if sc.Known == nil {
			sc.Known = map[string]string{}
		}
		sc.Known[f[1]] = strings.Join(f[2:], " ")
		return nil
	case "alone":
		sc.Alone = true
		return nil
	case "repeat", "end":
		if len(f) != 2 {
			return fmt.Errorf("%s needs one value", f[0])
		}
		if f[0] == "end" {
			sc.End, err = duration(f[1])
			if err == nil && (sc.End <= 0 || sc.End > longest) {
				err = fmt.Errorf("end %v is not above 0 and at most %v", sc.End, longest)
			}
			return err
		}
		sc.Repeat, err = whole(f[1])
		if err == nil && sc.Repeat < 1 {
			err = fmt.Errorf("repeat %d is below 1", sc.Repeat)
		}
		return err
	case "expect":
		b, err := parseBar(f[1:])
		sc.Bars = append(sc.Bars, b)
		return err
	}
	s, err := parseStep(f)
	sc.Steps = append(sc.Steps, s)
	return err
}

// longest is how long a scenario may last.
const longest = 31 * 24 * time.Hour

// duration, whole and float read one value, and say what it should look like.
func duration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration, like 1.5s", s)
	}
	return d, nil
}

func whole(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return n, nil
}

func float(s string) (float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return v, nil
}

func (s *Setting) set(key, value string) (err error) {
	switch key {
	case "servers":
		s.Servers, err = whole(value)
	case "nodes":
		s.Nodes, err = whole(value)
	case "zones":
		s.Zones, err = whole(value)
	case "clients":
		s.Clients, err = whole(value)
	case "controllers":
		s.Controllers, err = whole(value)
	case "capacity":
		s.Capacity, err = whole(value)
	case "processors":
		s.Processors, err = whole(value)
	case "cgroups":
		s.Cgroups, err = strconv.ParseBool(value)
	case "misses":
		s.Misses, err = whole(value)
	case "interval":
		s.Interval, err = duration(value)
	case "ack":
		s.Ack, err = duration(value)
	case "grace":
		s.Grace, err = duration(value)
	case "answerTime":
		s.AnswerTime, err = duration(value)
	case "rate":
		s.Rate, err = float(value)
	case "mode":
		s.Mode = plan.Mode(value)
	default:
		err = fmt.Errorf("there is no such setting")
	}
	return err
}

func parseStep(f []string) (Step, error) {
	s := Step{Args: map[string]string{}}
	if len(f) < 2 {
		return s, fmt.Errorf("%q is not TIME VERB [SUBJECT] [KEY=VALUE…]", strings.Join(f, " "))
	}
	at, spread, random := strings.Cut(f[0], "~")
	var err error
	if s.At, err = duration(at); err != nil {
		return s, fmt.Errorf("a line begins with world, repeat, end, expect, known, alone, or a time: %w", err)
	}
	if random {
		if s.Spread, err = duration(spread); err != nil {
			return s, err
		}
	}
	if s.At < 0 || s.Spread < 0 {
		return s, fmt.Errorf("%s is before the beginning", f[0])
	}
	s.Verb = f[1]
	for i, a := range f[2:] {
		key, value, ok := strings.Cut(a, "=")
		switch {
		case ok:
			s.Args[key] = value
		case i == 0:
			s.Subject = a
		default:
			return s, fmt.Errorf("%q is not KEY=VALUE", a)
		}
	}
	return s, nil
}

func parseBar(f []string) (Bar, error) {
	b := Bar{Text: strings.Join(f, " ")}
	if len(f) != 3 || !slices.Contains([]string{"<=", ">=", "=", "~"}, f[1]) {
		return b, fmt.Errorf("%q is not FIGURE <=, >=, = or ~ VALUE", b.Text)
	}
	b.Figure, b.Op = f[0], f[1]
	if !slices.Contains(figureNames, b.Figure) {
		return b, fmt.Errorf("there is no figure %q; there are %s", b.Figure, strings.Join(figureNames, ", "))
	}
	if d, err := time.ParseDuration(f[2]); err == nil && strings.HasSuffix(f[2], "s") {
		b.Value = d.Seconds()
		return b, nil
	}
	v, err := float(f[2])
	b.Value = v
	return b, err
}

// String writes a step as it is read.
func (s Step) String() string {
	at := s.At.String()
	if s.Spread > 0 {
		at += "~" + s.Spread.String()
	}
	parts := []string{at, s.Verb}
	if s.Subject != "" {
		parts = append(parts, s.Subject)
	}
	keys := make([]string, 0, len(s.Args))
	for k := range s.Args {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		parts = append(parts, k+"="+s.Args[k])
	}
	return strings.Join(parts, " ")
}
