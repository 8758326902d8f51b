package verdict_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// TestPenaltiesUnderRandomFailures has one server fail and recover at random,
// and compares what it is charged with a ledger that adds up all its failures.
func TestPenaltiesUnderRandomFailures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := epoch
		observers := []verdict.Observer{{Name: "n1", Zone: "z1"}, {Name: "n2", Zone: "z2"}, {Name: "n3", Zone: "z3"}}
		e := verdict.ServerEvidence{Name: "s", Incarnation: "uid.1", Assigned: observers}
		var last verdict.Judgement
		seen, said := now, ""
		judge := func(band string) verdict.Verdict {
			if band != said {
				seen, said = now, band
			}
			e.Observations = nil
			for _, o := range observers {
				e.Observations = append(e.Observations, verdict.Observation{Observer: o, Band: band, Seen: seen, Online: true, Healthy: true})
			}
			last = verdict.Servers(verdict.World{Now: now, Warm: true}, verdict.ServerPolicy{}, []verdict.ServerEvidence{e}, last.Verdicts, last.Brake)
			return last.Verdicts["s"]
		}
		judge("ok")
		sum, at := 0.0, now
		for range rapid.IntRange(1, 30).Draw(t, "failures") {
			now = now.Add(time.Duration(rapid.IntRange(1, 600).Draw(t, "well")) * time.Second)
			before := last.Verdicts["s"].Suppressed
			v := judge(rapid.SampledFrom([]string{"hung", "refused"}).Draw(t, "band"))
			sum = min(12000, sum*math.Pow(0.5, now.Sub(at).Minutes()/15)+1000)
			at = now
			left := v.Suppressed.Sub(now)
			switch suppressed := !v.Suppressed.IsZero(); {
			case math.Abs(v.Penalty-sum) > 1e-6*sum || !v.PenaltyAt.Equal(now):
				t.Fatalf("a penalty of %v at %v, want %v at %v", v.Penalty, v.PenaltyAt, sum, now)
			case suppressed != (sum >= 6000 || before.After(now)):
				t.Fatalf("suppressed until %v with a penalty of %v, and until %v before", v.Suppressed, sum, before)
			case suppressed && (left > time.Hour || math.Abs(sum*math.Pow(0.5, left.Minutes()/15)-750) > 1):
				t.Fatalf("suppressed for %v with a penalty of %v", left, sum)
			}
			judge("refused") // the same failure, whatever it turns into
			now = now.Add(time.Second)
			judge("ok")
			now = now.Add(verdict.DefaultRecovery)
			if v := judge("ok"); v.State != verdict.Alive || v.Penalty != last.Verdicts["s"].Penalty || v.PenaltyAt != at {
				t.Fatalf("recovered, and yet %+v", v)
			}
			now = now.Add(time.Second)
		}
		now = now.Add(time.Hour)
		if v := judge("ok"); !v.Suppressed.IsZero() {
			t.Fatalf("suppressed until %v, an hour after its last failure", v.Suppressed)
		}
		e.Incarnation = "another.1"
		judge("ok")
		if v := judge("refused"); v.Penalty != 1000 {
			t.Fatalf("a pod that was replaced begins with %v", v.Penalty)
		}
	})
}
