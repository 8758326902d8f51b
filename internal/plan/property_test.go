package plan_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

func rarely(t *rapid.T, label string) bool { return rapid.IntRange(0, 9).Draw(t, label) == 0 }

func drawFleet(t *rapid.T) []plan.Server {
	var l []plan.Server
	for i := range rapid.IntRange(0, 12).Draw(t, "servers") {
		s := plan.Server{
			Name: fmt.Sprint("s", i), Address: "10.0.0.1:1883", Sessions: rapid.IntRange(0, 2000).Draw(t, "sessions"),
			Capacity: rapid.SampledFrom([]int{0, 0, 1500, 3000, 10000}).Draw(t, "capacity"),
			Exempt:   rarely(t, "exempt"), Drained: rarely(t, "drained"), Returned: rarely(t, "returned"),
			Newest: rapid.Bool().Draw(t, "newest"), Shedding: rarely(t, "shedding"),
			Answer:     rapid.SampledFrom([]time.Duration{0, time.Millisecond, 200 * time.Millisecond}).Draw(t, "answer"),
			QueueDelay: rapid.SampledFrom([]time.Duration{0, 0, 0, time.Second}).Draw(t, "queue"),
		}
		if rarely(t, "noAddress") {
			s.Address = ""
		}
		l = append(l, s)
	}
	return l
}

func drawVerdict(t *rapid.T, now time.Time) verdict.Verdict {
	v := verdict.Verdict{Since: now.Add(-time.Minute), State: rapid.SampledFrom([]verdict.State{
		verdict.Alive, verdict.Alive, verdict.Alive, verdict.Alive, verdict.Suspect, verdict.Unknown, verdict.Overloaded, verdict.Dead,
	}).Draw(t, "state")}
	if rarely(t, "suppressed") {
		v.Suppressed = now.Add(time.Hour)
	}
	if v.State.Bad() {
		v.Detected, v.Proven = now.Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "detected"))*time.Second), !rarely(t, "unproven")
	}
	return v
}

// TestDecisionsUnderRandomLoad lives through random verdicts, and does what is
// decided: the limits hold at each step, whatever came before.
func TestDecisionsUnderRandomLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := epoch
		fleet := drawFleet(t)
		most := rapid.IntRange(0, 4).Draw(t, "maxServers")
		p := plan.Policy{
			Mode:       rapid.SampledFrom([]plan.Mode{plan.Automatic, plan.Automatic, plan.Advise, plan.Off}).Draw(t, "mode"),
			Rate:       float64(rapid.IntRange(1, 1000).Draw(t, "rate")),
			MaxServers: func(int) int { return most },
		}
		missed := map[string]bool{} // away before, and nothing was sent there since
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			now = now.Add(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 9 * time.Minute}).Draw(t, "later"))
			if peace := rapid.Bool().Draw(t, "peace"); !peace {
				for i := range fleet {
					fleet[i].Verdict = drawVerdict(t, now)
				}
			}
			brake := verdict.Brake{Frozen: rarely(t, "frozen"), Reason: "why"}
			before := slices.Clone(fleet)
			d := plan.Failovers(now, p, brake, fleet, nil)

			if dd := cmp.Diff(before, fleet); dd != "" {
				t.Fatalf("the plan changes what it was given:\n%s", dd)
			}
			slices.Reverse(fleet)
			if dd := cmp.Diff(d, plan.Failovers(now, p, brake, fleet, nil)); dd != "" {
				t.Fatalf("the order of the servers matters:\n%s", dd)
			}
			slices.Reverse(fleet)
			if brake.Frozen && (len(d.Moves) > 0 || len(d.Readmit) > 0) {
				t.Fatalf("frozen, and yet %+v", d)
			}
			checkDecision(t, p, fleet, missed, d)
			checkRest(t, now, p, fleet, brake, d)
			p.Memory = d.Memory
			for _, s := range fleet {
				if s.Exempt || s.Out || s.Verdict.State.Bad() || s.Address == "" {
					missed[s.Name] = true
				}
			}
			obey(fleet, d)
			out := 0
			for _, s := range fleet {
				if s.Out {
					out++
				}
			}
			if out > max(1, most) {
				t.Fatalf("%d are out, and at most %d may be", out, max(1, most))
			}
		}
	})
}

func find(fleet []plan.Server, name string) *plan.Server {
	i := slices.IndexFunc(fleet, func(s plan.Server) bool { return s.Name == name })
	return &fleet[i]
}

// spread is what a move brings each target, at most.
func spread(m plan.Move) map[string]int {
	n, weights := m.Count, 0
	if n == 0 {
		n = m.Clients
	}
	for _, t := range m.Targets {
		weights += t.Weight
	}
	parts := map[string]int{}
	for _, t := range m.Targets {
		parts[t.Server] = int(math.Ceil(float64(n) * float64(t.Weight) / float64(weights)))
	}
	return parts
}

func checkDecision(t *rapid.T, p plan.Policy, fleet []plan.Server, missed map[string]bool, d plan.Decision) {
	coming, rates, moved := map[string]int{}, 0.0, 0
	for _, m := range d.Moves {
		s := find(fleet, m.Server)
		switch {
		case p.Mode == plan.Off, m.AdviseOnly != (p.Mode == plan.Advise):
			t.Fatalf("a move in mode %s: %+v", p.Mode, m)
		case s.Exempt || s.Out:
			t.Fatalf("a move from an exempt server, or one that is out: %+v", s)
		case m.Count == 0 && (!s.Verdict.State.Bad() || !s.Verdict.Proven || m.Clients != s.Sessions):
			t.Fatalf("a move without a proof: %+v of %+v", m, s)
		case len(m.Targets) == 0 || len(m.Targets) > plan.MaxTargets:
			t.Fatalf("%d targets", len(m.Targets))
		case m.Rate < 1 || m.FirstWave > max(1, m.Clients*plan.FirstWave/100) || m.FirstWave < min(1, m.Clients):
			t.Fatalf("pace: %+v", m)
		}
		rates += m.Rate
		moved += m.Clients
		for name, n := range spread(m) {
			coming[name] += n
			r := find(fleet, name)
			if r.Verdict.State != verdict.Alive || r.Exempt || r.Out || r.Address == "" || r.QueueDelay > 0 || r.Name == m.Server {
				t.Fatalf("%s can't receive: %+v", name, r)
			}
		}
		if m.Count > 0 {
			checkLevel(t, fleet, missed, m)
		}
	}
	if rates > max(p.Rate, float64(len(d.Moves))) {
		t.Fatalf("%v clients/s in all, and the policy has %v", rates, p.Rate)
	}
	if len(d.Moves) == 0 || d.Moves[0].Count > 0 {
		return
	}
	receivers, held, restless := 0, 0, false
	for _, m := range d.Moves {
		for name := range spread(m) {
			restless = restless || !find(fleet, name).Verdict.Suppressed.IsZero()
		}
	}
	for _, s := range fleet {
		if s.Verdict.State == verdict.Alive && !s.Exempt && !s.Out && s.Address != "" && s.QueueDelay == 0 && s.Verdict.Suppressed.IsZero() != restless {
			receivers++
			held += s.Sessions
		}
	}
	mean := float64(held+moved) / float64(receivers)
	for name, n := range coming {
		if n == 0 {
			continue // told to newcomers only
		}
		s := find(fleet, name)
		// Rounding is worth a client for each move.
		if load := s.Sessions + n - len(d.Moves); float64(load) > max(plan.MaxOver*mean, math.Ceil(mean)) {
			t.Fatalf("%s would hold %d, and the mean is %v", name, load, mean)
		}
		if s.Capacity > 0 && s.Sessions+n-len(d.Moves) > s.Capacity {
			t.Fatalf("%s would hold %d, above its capacity %d", name, s.Sessions+n, s.Capacity)
		}
	}
}

// checkLevel demands that nobody gives below the mean, or gets above it, and that
// a share is brought back to those only who were away.
func checkLevel(t *rapid.T, fleet []plan.Server, missed map[string]bool, m plan.Move) {
	total, n := 0, 0
	for _, s := range fleet {
		if s.Verdict.State == verdict.Alive && !s.Exempt && !s.Out && s.Address != "" {
			total += s.Sessions
			n++
		}
	}
	mean := float64(total) / float64(n)
	if s := find(fleet, m.Server); float64(s.Sessions-m.Count) < mean || m.Count < 1 {
		t.Fatalf("%s gives %d of %d, and the mean is %v", m.Server, m.Count, s.Sessions, mean)
	}
	for name, part := range spread(m) {
		if s := find(fleet, name); m.Reason == plan.Returned && !s.Returned && !missed[name] || float64(s.Sessions+part-1) > mean {
			t.Fatalf("%s gets %d to its %d, and the mean is %v", name, part, s.Sessions, mean)
		}
	}
}

// checkRest holds what else was decided against the rules.
func checkRest(t *rapid.T, now time.Time, p plan.Policy, fleet []plan.Server, brake verdict.Brake, d plan.Decision) {
	rate, stuck, serving := 0.0, false, false
	for _, m := range d.Moves {
		if m.Reason == plan.Rebalance {
			rate += m.Rate
			since := now.Sub(p.Memory.Rebalanced)
			if p.Mode != plan.Automatic || brake.Frozen || p.Memory.Uneven.IsZero() || now.Sub(p.Memory.Uneven) < time.Minute || since < 10*time.Minute {
				t.Fatalf("the load is evened %v after the last time, uneven since %v: %+v", since, p.Memory.Uneven, m)
			}
		}
	}
	if rate > 50 {
		t.Fatalf("the load is evened at %v/s", rate)
	}
	for _, s := range fleet {
		moves := slices.ContainsFunc(d.Moves, func(m plan.Move) bool { return m.Server == s.Name })
		sheds := slices.ContainsFunc(d.Shed, func(shed plan.Shed) bool { return shed.Server == s.Name })
		stuck = stuck || s.Verdict.State.Bad() && s.Verdict.Proven && !s.Exempt && !s.Out && !moves
		serving = serving || s.Verdict.State == verdict.Alive && !s.Exempt && !s.Out || slices.Contains(d.Readmit, s.Name) && s.Verdict.Suppressed.IsZero()
		if sheds && (p.Mode != plan.Automatic || s.Verdict.State != verdict.Overloaded || s.Exempt || s.Out || moves || brake.Frozen && !s.Shedding) {
			t.Fatalf("%+v turns newcomers away", s)
		}
	}
	for _, name := range d.Readmit {
		if s := find(fleet, name); p.Mode == plan.Automatic && !s.Verdict.Suppressed.IsZero() && !stuck && serving {
			t.Fatalf("%s is suppressed, and let in without need", name)
		}
	}
	if p.Mode == plan.Automatic && !brake.Frozen && !serving && len(d.Readmit) == 0 {
		for _, s := range fleet {
			if s.Out && s.Verdict.State == verdict.Alive && !s.Exempt && !s.Drained {
				t.Fatalf("nobody is in service, and %s is not let in", s.Name)
			}
		}
	}
}

// obey does at once what is decided.
func obey(fleet []plan.Server, d plan.Decision) {
	for _, name := range d.Readmit {
		s := find(fleet, name)
		s.Out, s.Returned = false, true
	}
	for _, m := range d.Moves {
		if m.AdviseOnly {
			find(fleet, m.Server).Advised = true
			continue
		}
		left := 0
		for name, n := range spread(m) {
			find(fleet, name).Sessions += n
			left += n
		}
		s := find(fleet, m.Server)
		s.Sessions = max(0, s.Sessions-left)
		s.Out = m.Count == 0
	}
}

// BenchmarkFailovers plans for 1,000 servers, ten of which are in trouble.
func BenchmarkFailovers(b *testing.B) {
	var fleet []plan.Server
	for i := range 1000 {
		s := plan.Server{Name: fmt.Sprint("im/server-", i), Address: "10.0.0.1:1883", Sessions: 1900 + i%200, Capacity: 10000, Verdict: verdict.Verdict{State: verdict.Alive}}
		if i%100 == 0 {
			s.Verdict = verdict.Verdict{State: verdict.Overloaded, Proven: true}
		}
		fleet = append(fleet, s)
	}
	p := plan.Policy{Mode: plan.Automatic, MaxServers: func(n int) int { return n / 10 }}
	b.ReportAllocs()
	for b.Loop() {
		if d := plan.Failovers(epoch, p, verdict.Brake{}, fleet, nil); len(d.Moves) != 10 {
			b.Fatalf("%d moves: %s", len(d.Moves), d.Blocked)
		}
	}
}
