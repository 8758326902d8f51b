package plan_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// TestPaceUnderRandomLoad adjusts moves in progress while all that they are
// adjusted to changes at random.
func TestPaceUnderRandomLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := epoch
		fleet := drawFleet(t)
		p := plan.Policy{Mode: plan.Automatic, Rate: float64(rapid.IntRange(1, 1000).Draw(t, "rate"))}
		m := plan.Active{Server: "from", Reason: rapid.SampledFrom([]string{plan.Overloaded, plan.Drained, plan.Returned, plan.Rebalance}).Draw(t, "reason")}
		for i, s := range fleet {
			if i < 3 {
				m.Targets = append(m.Targets, plan.Target{Server: s.Name, Weight: rapid.IntRange(0, 5).Draw(t, "weight")})
			}
		}
		most := map[string]float64{plan.Overloaded: 4 * p.Rate, plan.Drained: 4 * p.Rate, plan.Returned: p.Rate / 5, plan.Rebalance: min(50, p.Rate)}[m.Reason]
		last := plan.Pace{Rate: min(p.Rate, most), Targets: m.Targets, At: now}
		changed := now
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "later")) * time.Millisecond)
			m.Pending = rapid.IntRange(0, 1000).Draw(t, "pending")
			for i := range fleet {
				fleet[i].Verdict = drawVerdict(t, now)
				fleet[i].Answer = time.Duration(rapid.IntRange(0, 300).Draw(t, "answer")) * time.Millisecond
				fleet[i].Sessions = rapid.IntRange(0, 2000).Draw(t, "sessions")
			}
			active := []plan.Active{m}
			if rarely(t, "another") {
				active = append(active, plan.Active{Server: "s11", Reason: plan.Dead})
			}
			brake := verdict.Brake{Frozen: rarely(t, "frozen"), Reason: "why"}
			m.Pace = last
			pace := plan.Adjust(now, p, brake, m, fleet, active)

			same := pace.Rate == last.Rate && slices.Equal(pace.Targets, last.Targets)
			switch {
			case !same && now.Sub(changed) < time.Second:
				t.Fatalf("changed again after %v: %+v, then %+v", now.Sub(changed), last, pace)
			case same:
			case pace.Rate > 0 && last.Rate > 0 && math.Abs(pace.Rate-last.Rate) <= last.Rate/10 && slices.Equal(pace.Targets, last.Targets):
				t.Fatalf("changed for little: %+v, then %+v", last, pace)
			case pace.Rate > max(1, most/float64(len(active))):
				t.Fatalf("%v clients/s of at most %v, of %d moves", pace.Rate, most, len(active))
			case (pace.Rate == 0) != (pace.Held != ""), pace.Rate != 0 && pace.Rate < 1:
				t.Fatalf("stands still without a reason, or creeps: %+v", pace)
			}
			if !pace.Next.After(now) || pace.Next.Sub(now) > time.Second {
				t.Fatalf("looks again at %v, and it is %v", pace.Next, now)
			}
			if now.Sub(last.At) >= time.Second && pace.Held == "" {
				for _, target := range pace.Targets {
					s := plan.Server{}
					if i := slices.IndexFunc(fleet, func(s plan.Server) bool { return s.Name == target.Server }); i >= 0 {
						s = fleet[i]
					}
					if target.Weight > 0 && (s.Verdict.State != verdict.Alive || s.Exempt || s.Address == "" || max(s.Answer, s.QueueDelay) >= 250*time.Millisecond) {
						t.Fatalf("sends clients to %+v", s)
					}
				}
				if brake.Frozen && m.Reason != plan.Drained {
					t.Fatal("goes on while frozen")
				}
			}
			if !same {
				changed = now
			}
			last = pace
		}
	})
}

// TestPaceConverges moves clients to receivers that bear a certain rate, and
// answer the later the more it is exceeded: the move ends, about as fast as
// they bear it, and the receivers are slow for less than half of the time.
func TestPaceConverges(t *testing.T) {
	for _, bears := range []float64{60, 300, 900, 1500, 5000} {
		t.Run(fmt.Sprint("receivers that bear ", bears, " clients a second"), func(t *testing.T) {
			now, pending, queue, slow, n := epoch, 40000.0, 0.0, 0, 0
			p := plan.Policy{Rate: 500}
			m := plan.Active{Server: "a", Reason: plan.Overloaded, Targets: []plan.Target{{Server: "b", Weight: 1}}}
			pace := plan.Pace{Rate: 500, Targets: m.Targets, At: now}
			for ; pending > 0; n++ {
				if n > 10*3600 {
					t.Fatalf("%v are left after an hour, at %+v", pending, pace)
				}
				now = now.Add(100 * time.Millisecond)
				moved := min(pending, pace.Rate/10)
				pending -= moved
				queue = max(0, queue+moved-bears/10) // who waits at the receiver
				answer := 2*time.Millisecond + time.Duration(queue/bears*float64(time.Second))
				if answer >= 250*time.Millisecond {
					slow++
				}
				m.Pending, m.Pace = int(pending), pace
				fleet := []plan.Server{{Name: "b", Address: "b:1883", Answer: answer, Verdict: verdict.Verdict{State: verdict.Alive}}}
				pace = plan.Adjust(now, p, verdict.Brake{}, m, fleet, []plan.Active{m})
			}
			took, best := float64(n)/10, 40000/min(bears, plan.PaceMost*500)
			t.Logf("took %.0f s, and %.0f s would have been best; slow for %.0f %% of it", took, best, 100*float64(slow)/float64(n))
			if took > 3*best || slow*2 > n {
				t.Errorf("took %.0f s, and %.0f s would have been best; slow for %.0f %% of it", took, best, 100*float64(slow)/float64(n))
			}
		})
	}
}
