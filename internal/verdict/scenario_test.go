package verdict_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/verdict/scenario"
)

// TestScenarios replays testdata/*.txt. The lines that its files may hold:
//
//	policy    answer=D recovery=D observers=N minHealthy=N
//	world     cold | warm | paused | resumed | storeAway | storeBack
//	server S  node=N observers=N/ZONE,… incarnation=I lease=live|gone nodeState=STATE
//	          starting terminating paused leftLate=N leftBroken=N sessions=N queueDelay=D deleted
//	          kernel=BAND:WORDS strain=KIND:WORDS kernelOffline kernelHealthy kernelBooted
//	sees S    OBSERVER=BAND[/ANSWER][@INCARNATION] …; OBSERVER=nothing takes its word back
//	observer N  offline | online | unwell | well | restarted     (reporters too)
//	node N    reporters=N/ZONE,… goodbye deleted
//	beats N   SERVER=online|offline[@STATE] …        (the server's own state, else Alive)
//	word N    REPORTER=WORD …
//	clients   late=N offline=N grace=D
//	client C  interval=D beat goodbye serverLost failover=true|false
func TestScenarios(t *testing.T) {
	scenario.RunAll(t, "testdata/*.txt", func() scenario.Judge { return newBench() })
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type bench struct {
	world     verdict.World
	awaySince time.Time
	policy    verdict.ServerPolicy
	clients   verdict.ClientPolicy
	who       map[string]*[2]bool // observers: online, well
	booted    map[string]time.Time
	servers   map[string]*verdict.ServerEvidence
	nodes     map[string]*verdict.NodeEvidence
	sessions  map[string]*verdict.Session
	last      map[string]verdict.Judgement // "server", "node"
	lastSeen  map[string]verdict.Verdict   // of clients
	told      map[string]string            // brakes and few observers
}

func newBench() *bench {
	return &bench{
		world: verdict.World{Warm: true}, who: map[string]*[2]bool{}, booted: map[string]time.Time{}, servers: map[string]*verdict.ServerEvidence{},
		nodes: map[string]*verdict.NodeEvidence{}, sessions: map[string]*verdict.Session{},
		last: map[string]verdict.Judgement{}, lastSeen: map[string]verdict.Verdict{}, told: map[string]string{},
	}
}

func (b *bench) Judge(at time.Duration) (news []string, next time.Duration) {
	now := epoch.Add(at)
	w := b.world
	w.Now = now
	if !b.awaySince.IsZero() {
		w.StoreAway = max(1, now.Sub(b.awaySince))
	}

	var ev []verdict.ServerEvidence
	for _, e := range b.servers {
		c := *e
		c.Observations = slices.Clone(e.Observations)
		for i := range c.Observations {
			o := &c.Observations[i]
			o.Online, o.Healthy = b.standing(o.Observer.Name)
			o.Booted = b.booted[o.Observer.Name]
		}
		ev = append(ev, c)
	}
	last := b.last["server"]
	j := verdict.Servers(w, b.policy, ev, last.Verdicts, last.Brake)
	news = append(news, b.news("server", j)...)
	soon := j.Next

	var nodes []verdict.NodeEvidence
	for _, e := range b.nodes {
		c := *e
		c.Words = slices.Clone(e.Words)
		for i := range c.Words {
			c.Words[i].Online, c.Words[i].Healthy = b.standing(c.Words[i].Reporter.Name)
			c.Words[i].Booted = b.booted[c.Words[i].Reporter.Name]
		}
		for _, r := range c.Reporters { // those that never said a word
			online, well := b.standing(r.Name)
			if !slices.ContainsFunc(c.Words, func(w verdict.Word) bool { return w.Reporter.Name == r.Name }) {
				c.Words = append(c.Words, verdict.Word{Reporter: r, Online: online, Healthy: well})
			}
		}
		nodes = append(nodes, c)
	}
	last = b.last["node"]
	n := verdict.Nodes(w, nodes, last.Verdicts, last.Brake)
	if len(nodes) > 0 {
		news = append(news, b.news("node", n)...)
		soon = earlier(soon, n.Next)
	}

	for _, name := range slices.Sorted(maps.Keys(b.sessions)) {
		v, again := verdict.Client(now, b.clients, *b.sessions[name], j.Brake)
		if v.State != b.lastSeen[name].State || v.Message != b.lastSeen[name].Message {
			news = append(news, line("client", name, v))
		}
		b.lastSeen[name] = v
		soon = earlier(soon, again)
	}
	if soon.IsZero() {
		return news, 0
	}
	return news, soon.Sub(epoch)
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (b *bench) news(kind string, j verdict.Judgement) (news []string) {
	for _, name := range slices.Sorted(maps.Keys(j.Verdicts)) {
		if l := line(kind, name, j.Verdicts[name]); l != line(kind, name, b.last[kind].Verdicts[name]) {
			news = append(news, l)
		}
	}
	b.last[kind] = j
	brake := kind + "s thawed"
	if j.Brake.Frozen {
		brake = fmt.Sprintf("%ss frozen, %s: %s", kind, j.Brake.Reason, j.Brake.Message)
	}
	if was := b.told[kind]; was != brake && (was != "" || j.Brake.Frozen) {
		news = append(news, brake)
	}
	b.told[kind] = brake
	few := "few observers: " + strings.Join(j.FewObservers, " ")
	if kind == "server" && few != b.told["few"] && (b.told["few"] != "" || len(j.FewObservers) > 0) {
		news = append(news, few)
		b.told["few"] = few
	}
	return news
}

func line(kind, name string, v verdict.Verdict) string {
	proven := ""
	if v.Proven {
		proven = ", proven"
	}
	return fmt.Sprintf("%s %s %s (%s%s): %s", kind, name, v.State, v.Reason, proven, v.Message)
}

func (b *bench) standing(name string) (online, well bool) {
	if s := b.who[name]; s != nil {
		return s[0], s[1]
	}
	return true, true
}

func (b *bench) Apply(l scenario.Line) error {
	now := epoch.Add(l.At)
	switch l.Verb {
	case "world":
		return b.applyWorld(now, l.Subject)
	case "observer":
		return b.applyObserver(l, now)
	case "policy":
		return each(l, func(a scenario.Arg) (err error) {
			switch a.Key {
			case "answer":
				b.policy.AnswerTime, err = time.ParseDuration(a.Value)
			case "recovery":
				b.policy.Recovery, err = time.ParseDuration(a.Value)
			case "observers":
				b.policy.Observers, err = strconv.Atoi(a.Value)
			case "minHealthy":
				var n int
				n, err = strconv.Atoi(a.Value)
				b.policy.MinHealthy = func(int) int { return n }
			default:
				return errUnknown
			}
			return err
		})
	case "server":
		return b.applyServer(l, now)
	case "sees":
		e := b.servers[l.Subject]
		return each(l, func(a scenario.Arg) error {
			band, incarnation, _ := strings.Cut(a.Value, "@")
			band, took, timed := strings.Cut(band, "/")
			var answer time.Duration
			if timed {
				var err error
				if answer, err = time.ParseDuration(took); err != nil {
					return err
				}
			}
			e.Observations = slices.DeleteFunc(e.Observations, func(o verdict.Observation) bool { return o.Observer.Name == a.Key })
			if band != "nothing" {
				e.Observations = append(e.Observations, verdict.Observation{
					Observer: verdict.Observer{Name: a.Key}, Band: band, Incarnation: incarnation, Seen: now, Answer: answer,
				})
			}
			return nil
		})
	case "node":
		return b.applyNode(l)
	case "beats":
		return b.applyBeats(l, now)
	case "word":
		e := b.nodes[l.Subject]
		return each(l, func(a scenario.Arg) error {
			e.Words = slices.DeleteFunc(e.Words, func(w verdict.Word) bool { return w.Reporter.Name == a.Key })
			e.Words = append(e.Words, verdict.Word{Reporter: verdict.Observer{Name: a.Key}, Says: a.Value, Seen: now})
			return nil
		})
	case "clients":
		return each(l, func(a scenario.Arg) (err error) {
			switch a.Key {
			case "late":
				b.clients.MissesUntilLate, err = strconv.Atoi(a.Value)
			case "offline":
				b.clients.MissesUntilOffline, err = strconv.Atoi(a.Value)
			case "grace":
				b.clients.Grace, err = time.ParseDuration(a.Value)
			default:
				return errUnknown
			}
			return err
		})
	case "client":
		return b.applyClient(l, now)
	}
	return fmt.Errorf("unknown verb %q", l.Verb)
}

var errUnknown = fmt.Errorf("unknown key")

func each(l scenario.Line, apply func(scenario.Arg) error) error {
	for _, a := range l.Args {
		if err := apply(a); err != nil {
			return fmt.Errorf("%s=%s: %w", a.Key, a.Value, err)
		}
	}
	return nil
}

func observers(s string) (l []verdict.Observer) {
	for o := range strings.SplitSeq(s, ",") {
		o, node, _ := strings.Cut(o, "@")
		name, zone, _ := strings.Cut(o, "/")
		if name != "" {
			l = append(l, verdict.Observer{Name: name, Zone: zone, Node: node})
		}
	}
	return l
}
