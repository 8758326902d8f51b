package plan_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/verdict/scenario"
)

// TestScenarios replays testdata/*.txt. The lines that its files may hold:
//
//	policy    mode=MODE maxServers=N rate=N answer=D stay restart=D
//	frozen REASON | thawed
//	server S  state=STATE unproven suppressed=D sessions=N capacity=N queueDelay=D answer=D
//	          noAddress exempt astray out drained returned advised shedding newest
//	                                                    (…=false takes it back)
//	active F  server=S reason=REASON pending=N targets=S:WEIGHT,… rate=N  | done
//	          (with a rate its pace is adjusted; without one it only counts)
//	drain S   asks where its clients would go if a person took it out
//
// What is decided is printed, not done: the lines that follow say what came of it.
func TestScenarios(t *testing.T) {
	scenario.RunAll(t, "testdata/*.txt", func() scenario.Judge {
		return &bench{policy: plan.Policy{Mode: plan.Automatic}, servers: map[string]*plan.Server{}, active: map[string]*plan.Active{}, paces: map[string]plan.Pace{}}
	})
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type bench struct {
	policy  plan.Policy
	brake   verdict.Brake
	servers map[string]*plan.Server
	active  map[string]*plan.Active
	paces   map[string]plan.Pace
	drain   string
}

func (b *bench) Judge(at time.Duration) (news []string, next time.Duration) {
	var servers []plan.Server
	for _, s := range b.servers {
		servers = append(servers, *s)
	}
	var active []plan.Active
	for _, name := range slices.Sorted(maps.Keys(b.active)) {
		active = append(active, *b.active[name])
	}
	d := plan.Failovers(epoch.Add(at), b.policy, b.brake, servers, active)
	b.policy.Memory = d.Memory
	for _, m := range d.Moves {
		news = append(news, line(m))
	}
	for _, shed := range d.Shed {
		news = append(news, fmt.Sprintf("shed %s, for %v: %s", shed.Server, shed.RetryAfter, shed.Why))
	}
	for _, name := range slices.Sorted(maps.Keys(b.paces)) {
		last := b.paces[name]
		m := *b.active[name]
		m.Pace = last
		now := plan.Adjust(epoch.Add(at), b.policy, b.brake, m, servers, active)
		b.paces[name] = now
		if now.Rate != last.Rate || now.Held != last.Held || !slices.Equal(now.Targets, last.Targets) {
			news = append(news, fmt.Sprintf("%s goes on at %v/s to %s %s", name, now.Rate, receivers(now.Targets), now.Held))
		}
		d.Next = earlier(d.Next, now.Next)
	}
	if b.drain != "" {
		m, blocked := plan.Drain(b.policy, b.drain, servers, active)
		if blocked == "" {
			blocked = line(m)
		}
		news, b.drain = append(news, blocked), ""
	}
	if len(d.Readmit) > 0 {
		news = append(news, "readmit "+strings.Join(d.Readmit, " "))
	}
	if len(d.Restart) > 0 {
		news = append(news, "restart "+strings.Join(d.Restart, " "))
	}
	if d.NoHeadroom {
		news = append(news, "no headroom")
	}
	if d.Blocked != "" {
		news = append(news, "blocked: "+d.Blocked)
	}
	if len(news) == 0 && !d.Next.IsZero() {
		news = append(news, "nothing yet")
	}
	if len(news) == 0 {
		news = append(news, "nothing")
	}
	if d.Next.IsZero() {
		return news, 0
	}
	return news, d.Next.Sub(epoch)
}

func line(m plan.Move) string {
	what, verb := "all", "move"
	if m.Count > 0 {
		what = strconv.Itoa(m.Count)
	}
	if m.AdviseOnly {
		verb = "advise to move"
	}
	return fmt.Sprintf("%s %s of %d from %s (%s) to %s, %d at once, then %v/s: %s",
		verb, what, m.Clients, m.Server, m.Reason, receivers(m.Targets), m.FirstWave, m.Rate, m.Evidence)
}

func receivers(l []plan.Target) string {
	var to []string
	for _, t := range l {
		to = append(to, fmt.Sprintf("%s:%d", t.Server, t.Weight))
	}
	return strings.Join(to, " ")
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func (b *bench) Apply(l scenario.Line) error {
	now := epoch.Add(l.At)
	switch l.Verb {
	case "frozen":
		b.brake = verdict.Brake{Frozen: true, Reason: l.Subject, Message: "the judge's words"}
		return nil
	case "thawed":
		b.brake = verdict.Brake{}
		return nil
	case "drain":
		b.drain = l.Subject
		return nil
	}
	s := b.servers[l.Subject]
	if l.Verb == "server" && s == nil {
		s = &plan.Server{Name: l.Subject, Incarnation: "1", Address: l.Subject + ":1883",
			Verdict: verdict.Verdict{State: verdict.Alive, Since: now.Add(-time.Hour), Message: "answers"}}
		b.servers[l.Subject] = s
	}
	a := b.active[l.Subject]
	if l.Verb == "active" && a == nil {
		a = &plan.Active{Name: l.Subject, Started: now}
		b.active[l.Subject] = a
	}
	for _, arg := range l.Args {
		var err error
		switch l.Verb {
		case "policy":
			err = b.policyArg(arg)
		case "server":
			err = serverArg(now, s, arg)
		case "active":
			err = b.activeArg(now, a, arg)
		default:
			return fmt.Errorf("unknown verb %q", l.Verb)
		}
		if err != nil {
			return fmt.Errorf("%s=%s: %w", arg.Key, arg.Value, err)
		}
	}
	return nil
}

var errUnknown = fmt.Errorf("unknown key")

func (b *bench) policyArg(a scenario.Arg) (err error) {
	switch a.Key {
	case "mode":
		b.policy.Mode = plan.Mode(a.Value)
	case "maxServers":
		var n int
		n, err = strconv.Atoi(a.Value)
		b.policy.MaxServers = func(int) int { return n }
	case "restart":
		b.policy.RestartAfter, err = time.ParseDuration(a.Value)
	case "stay":
		b.policy.Stay = a.Value == "true"
	case "answer":
		b.policy.AnswerTime, err = time.ParseDuration(a.Value)
	case "rate":
		b.policy.Rate, err = strconv.ParseFloat(a.Value, 64)
	default:
		return errUnknown
	}
	return err
}

func serverArg(now time.Time, s *plan.Server, a scenario.Arg) (err error) {
	on := a.Value == "true"
	switch a.Key {
	case "state":
		s.Verdict = verdict.Verdict{State: verdict.State(a.Value), Since: now, Message: "it is " + a.Value}
		if s.Verdict.State.Bad() {
			s.Verdict.Proven, s.Verdict.Detected = true, now
		}
	case "unproven":
		s.Verdict.Proven = false
	case "sessions":
		s.Sessions, err = strconv.Atoi(a.Value)
	case "capacity":
		s.Capacity, err = strconv.Atoi(a.Value)
	case "queueDelay":
		s.QueueDelay, err = time.ParseDuration(a.Value)
	case "answer":
		s.Answer, err = time.ParseDuration(a.Value)
	case "suppressed":
		var d time.Duration
		if d, err = time.ParseDuration(a.Value); d > 0 {
			s.Verdict.Suppressed = now.Add(d)
		} else {
			s.Verdict.Suppressed = time.Time{}
		}
	case "shedding":
		s.Shedding = on
	case "newest":
		s.Newest = on
	case "noAddress":
		s.Address = ""
	case "astray":
		s.Astray = on
	case "exempt":
		s.Exempt = on
	case "out":
		s.Out = on
	case "drained":
		s.Drained = on
	case "returned":
		s.Returned = on
	case "advised":
		s.Advised = on
	default:
		return errUnknown
	}
	return err
}

func (b *bench) activeArg(now time.Time, f *plan.Active, a scenario.Arg) (err error) {
	switch a.Key {
	case "server":
		f.Server = a.Value
	case "reason":
		f.Reason = a.Value
	case "pending":
		f.Pending, err = strconv.Atoi(a.Value)
	case "targets":
		for t := range strings.SplitSeq(a.Value, ",") {
			name, weight, _ := strings.Cut(t, ":")
			n, err := strconv.Atoi(weight)
			if err != nil {
				return err
			}
			f.Targets = append(f.Targets, plan.Target{Server: name, Address: name + ":1883", Weight: n})
		}
	case "rate":
		var rate float64
		rate, err = strconv.ParseFloat(a.Value, 64)
		b.paces[f.Name] = plan.Pace{Rate: rate, Targets: f.Targets, Want: rate, At: now}
	case "done":
		delete(b.active, f.Name)
		delete(b.paces, f.Name)
	default:
		return errUnknown
	}
	return err
}
