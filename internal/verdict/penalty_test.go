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

// The controllers were all gone, and one is started anew.
func TestAJudgeThatWarmsUpTakesWhatAnEarlierOneHasLeft(t *testing.T) {
	left := verdict.Past{Incarnation: "uid.1", Penalty: 6500, At: epoch.Add(-10 * time.Minute), Suppressed: epoch.Add(35 * time.Minute)}
	for _, c := range []struct {
		name, incarnation, band string
		past                    verdict.Past
		want                    float64
		suppressed              bool
	}{
		{"of a server that is well", "uid.2", "ok", left, 6500, true},
		{"of one that has failed, which is counted already", "uid.1", "refused", left, 6500, true},
		{"of one of which no record is left", "", "refused", left, 6500, true},
		{"not of a pod that was replaced", "another.1", "ok", left, 0, false},
		{"nothing", "uid.1", "ok", verdict.Past{}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := verdict.ServerEvidence{Name: "s", Incarnation: c.incarnation, Past: c.past, Lease: verdict.LeaseLive}
			for i, zone := range []string{"z1", "z2", "z3"} {
				o := verdict.Observer{Name: string(rune('a' + i)), Zone: zone}
				e.Assigned = append(e.Assigned, o)
				e.Observations = append(e.Observations, verdict.Observation{Observer: o, Band: c.band, Online: true, Healthy: true})
			}
			var last verdict.Judgement
			judge := func(w verdict.World) verdict.Verdict {
				last = verdict.Servers(w, verdict.ServerPolicy{}, []verdict.ServerEvidence{e}, last.Verdicts, last.Brake)
				return last.Verdicts["s"]
			}
			for _, w := range []verdict.World{{Now: epoch}, {Now: epoch.Add(time.Second)}, {Now: epoch.Add(3 * time.Second), Warm: true}} {
				if v := judge(w); v.Penalty != c.want || v.Suppressed.IsZero() == c.suppressed {
					t.Fatalf("at %v, a penalty of %v, suppressed until %v", w.Now, v.Penalty, v.Suppressed)
				}
			}
			// What is left meanwhile, by whomever, is not this judge's any more.
			e.Past = verdict.Past{Incarnation: "uid.1", Penalty: 11000, At: epoch.Add(4 * time.Second)}
			if v := judge(verdict.World{Now: epoch.Add(5 * time.Second), Warm: true}); v.Penalty != c.want {
				t.Errorf("once warm, it has a penalty of %v", v.Penalty)
			}
		})
	}
}

func TestSpentPenaltiesNeedNotBeRemembered(t *testing.T) {
	v := verdict.Verdict{Penalty: 1000, PenaltyAt: epoch}
	if v.Spent(epoch.Add(45*time.Minute)) || !v.Spent(epoch.Add(55*time.Minute)) || !(verdict.Verdict{}).Spent(epoch) {
		t.Error("what is left of one failure is spent after 50 minutes")
	}
}
