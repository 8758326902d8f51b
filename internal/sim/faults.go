package sim

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// verb is one thing that can be done to a world. args are those it knows,
// besides "for" (how long; without it, to the end), "expect" ("no" where a
// verdict is neither asked for nor wrong), "pick" (so many of the subjects, at
// random) and "each" (one after the other, that far apart).
type verb struct {
	subjects string // kinds of subject it takes: server, node, zone, controller; empty: none
	args     []string
	do       func(w *world, s *Step, who []int)
}

// verbs are all of them. It is filled once, and only read.
var verbs map[string]verb

func init() {
	verbs = map[string]verb{
		"stop":    {"server", nil, (*world).doStop},
		"hang":    {"server", nil, (*world).doHang},
		"crash":   {"server", []string{"restart"}, (*world).doCrash},
		"restart": {"server", []string{"down"}, (*world).doRestart},
		"roll":    {"server", []string{"down", "every"}, (*world).doRoll},
		"slow":    {"server", []string{"by"}, (*world).doSlow},
		"load":    {"server", []string{"factor"}, (*world).doLoad},
		"starve":  {"server node agent", []string{"run", "period"}, (*world).doStarve},
		"bursts":  {"node", []string{"every", "last"}, (*world).doBursts},
		"stall":   {"agent", nil, (*world).doStall},
		"kill":    {"node", nil, (*world).doKill},
		"cut":     {"", []string{"from", "to", "oneway"}, (*world).doCut},
		"lose":    {"", []string{"from", "to", "share", "oneway"}, (*world).doCut},
		"jump":    {"server agent controller", []string{"by"}, (*world).doJump},
		"away":    {"", nil, (*world).doAway},
		"unseat":  {"", nil, (*world).doUnseat},
		"herd":    {"", []string{"share"}, (*world).doHerd},
		"pause":   {"", nil, (*world).doPause},
	}
}

// check finds what keeps a step from being understood.
func (s *Step) check(set *Setting) error {
	v, ok := verbs[s.Verb]
	if !ok {
		return fmt.Errorf("there is no such verb; there are %s", strings.Join(slices.Sorted(maps.Keys(verbs)), ", "))
	}
	for k, value := range s.Args {
		switch {
		case slices.Contains([]string{"from", "to"}, k) && slices.Contains(v.args, k):
			if _, err := places(value, set); err != nil {
				return err
			}
		case (k == "share" || k == "factor") && slices.Contains(v.args, k):
			if n, err := float(value); err != nil || n < 0 || k == "share" && n > 1 {
				return fmt.Errorf("%s=%s is not %s", k, value, map[string]string{"share": "a number from 0 to 1", "factor": "a number, 0 or more"}[k])
			}
		case k == "pick":
			if n, err := strconv.Atoi(value); err != nil || n < 1 {
				return fmt.Errorf("pick=%s is not a number above 0", value)
			}
		case k == "oneway" && slices.Contains(v.args, k) || k == "expect":
		case k == "for" || k == "each" || slices.Contains(v.args, k):
			if d, err := time.ParseDuration(value); err != nil || d < 0 {
				return fmt.Errorf("%s=%s is not a duration", k, value)
			}
		default:
			return fmt.Errorf("it takes no %s", k)
		}
	}
	for _, k := range v.args {
		if _, ok := s.Args[k]; !ok && !slices.Contains([]string{"oneway", "restart"}, k) {
			return fmt.Errorf("it needs %s=", k)
		}
	}
	if v.subjects == "" {
		return nil
	}
	if s.Subject == "" {
		return fmt.Errorf("it needs to know whom: a %s, or several of them", strings.ReplaceAll(v.subjects, " ", " or "))
	}
	_, err := subjects(s.Subject, v.subjects, set)
	return err
}

// subjects are the numbers of those that a list names: "server-3,server-4",
// "servers", "zone-1" (its nodes or servers).
func subjects(list, kinds string, set *Setting) ([]int, error) {
	var who []int
	for name := range strings.SplitSeq(list, ",") {
		kind, number, _ := strings.Cut(name, "-")
		n, err := strconv.Atoi(number)
		count := map[string]int{"server": set.Servers, "node": set.Nodes, "agent": set.Nodes, "controller": set.Controllers, "zone": set.Zones}
		plural := strings.TrimSuffix(kind, "s")
		first, _, _ := strings.Cut(kinds, " ")
		switch {
		case kind != plural && strings.Contains(kinds, plural) && number == "":
			for i := range count[plural] {
				who = append(who, i)
			}
		case err != nil || n < 0 || n >= count[kind]:
			return nil, fmt.Errorf("there is no %q", name)
		case kind == "zone":
			for i := range count[first] {
				if i%set.Nodes%set.Zones == n {
					who = append(who, i)
				}
			}
		case strings.Contains(kinds, kind):
			who = append(who, n)
		default:
			return nil, fmt.Errorf("%q is no %s", name, strings.ReplaceAll(kinds, " ", " or "))
		}
	}
	return who, nil
}

// places is whether a place is among those that a list names: "zone-1" (its
// nodes), "node-3", "server-2" (the node that it is on), "nodes", "clients",
// "clients/zone-1", "store", "all".
func places(list string, set *Setting) (func(place int) bool, error) {
	member := make([]bool, set.Nodes+1+set.Zones)
	for name := range strings.SplitSeq(list, ",") {
		kind, number, _ := strings.Cut(name, "-")
		n, err := strconv.Atoi(number)
		switch {
		case name == "all":
			for i := range member {
				member[i] = true
			}
		case name == "nodes":
			for i := range set.Nodes {
				member[i] = true
			}
		case name == "store":
			member[set.Nodes] = true
		case name == "clients":
			for i := range set.Zones {
				member[set.Nodes+1+i] = true
			}
		case err != nil || n < 0:
			return nil, fmt.Errorf("there is no place %q", name)
		case kind == "zone" && n < set.Zones:
			for i := n; i < set.Nodes; i += set.Zones {
				member[i] = true
			}
		case kind == "node" && n < set.Nodes:
			member[n] = true
		case kind == "server" && n < set.Servers:
			member[n%set.Nodes] = true
		case kind == "clients/zone" && n < set.Zones:
			member[set.Nodes+1+n] = true
		default:
			return nil, fmt.Errorf("there is no place %q", name)
		}
	}
	return func(p int) bool { return member[p] }, nil
}

func (s *Step) duration(key string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(s.Args[key]); err == nil {
		return d
	}
	return otherwise
}

func (s *Step) number(key string, otherwise float64) float64 {
	if v, err := strconv.ParseFloat(s.Args[key], 64); err == nil {
		return v
	}
	return otherwise
}

// lasts is how long a step lasts; for ever, where it does not say.
func (s *Step) lasts() time.Duration { return s.duration("for", math.MaxInt64/4) }

// required: a verdict on the subjects is asked for.
func (s *Step) required() bool { return s.Args["expect"] != "no" }

// play has the steps happen.
func (w *world) play(steps []Step) {
	for i := range steps {
		s := &steps[i]
		at := s.At
		if s.Spread > 0 {
			at += time.Duration(w.rnd.Int64N(int64(s.Spread)))
		}
		v := verbs[s.Verb]
		var who []int
		if v.subjects != "" {
			who, _ = subjects(s.Subject, v.subjects, &w.set) // checked when it was read
		}
		if n, err := strconv.Atoi(s.Args["pick"]); err == nil {
			who = slices.Clone(who)
			w.rnd.Shuffle(len(who), func(i, j int) { who[i], who[j] = who[j], who[i] })
			who = who[:min(n, len(who))]
		}
		do := func(at time.Duration, who []int) {
			w.at(at, call(func() {
				w.out.mark(s)
				v.do(w, s, who)
			}), 0, 0)
		}
		each := s.duration("each", 0)
		if each == 0 {
			do(at, who)
			continue
		}
		for n := range who {
			do(at+time.Duration(n)*each+time.Duration(w.rnd.Int64N(int64(each)/4+1)), who[n:n+1])
		}
	}
}
