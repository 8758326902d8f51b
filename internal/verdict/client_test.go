package verdict_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-dev/rollcall/internal/verdict"
)

// TestClientIsOfflineOnlyAfterAFairChance: nobody is Offline earlier than a
// whole lease after the last beat, the loss of the server, the end of its
// Failover and the end of the freeze.
func TestClientIsOfflineOnlyAfterAFairChance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := func(label string) time.Time {
			if rapid.Bool().Draw(t, label+"Never") {
				return time.Time{}
			}
			return epoch.Add(time.Duration(rapid.IntRange(-60, 60).Draw(t, label)) * time.Second)
		}
		p := verdict.ClientPolicy{
			MissesUntilLate: rapid.IntRange(0, 3).Draw(t, "late"), MissesUntilOffline: rapid.IntRange(0, 3).Draw(t, "offline"),
			Grace: time.Duration(rapid.IntRange(0, 10).Draw(t, "grace")) * time.Second,
		}
		s := verdict.Session{
			LastBeat: epoch.Add(-time.Duration(rapid.IntRange(0, 60).Draw(t, "beat")) * time.Second),
			Interval: time.Duration(rapid.IntRange(0, 20).Draw(t, "interval")) * time.Second,
			Goodbye:  rarely(t, "goodbye"), ServerLost: at("lost"), Failover: rarely(t, "failover"), FailoverEnded: at("ended"),
		}
		brake := verdict.Brake{Frozen: rarely(t, "frozen"), Since: at("thawed")}
		now := epoch
		v, next := verdict.Client(now, p, s, brake)

		if v.State == verdict.Offline && !s.Goodbye {
			fair := []time.Time{s.LastBeat}
			if !s.ServerLost.IsZero() {
				fair = []time.Time{s.ServerLost, s.FailoverEnded, brake.Since}
				if brake.Frozen || s.Failover {
					t.Fatalf("Offline while frozen or moving: %+v", v)
				}
			}
			for _, f := range fair {
				if now.Sub(f) < p.Lease(s.Interval) {
					t.Fatalf("Offline %v after %v, and the lease is %v", now.Sub(f), f, p.Lease(s.Interval))
				}
			}
		}
		if next.IsZero() {
			if later, _ := verdict.Client(now.Add(24*time.Hour), p, s, brake); later.State != v.State {
				t.Fatalf("%s becomes %s, and nobody looks again", v.State, later.State)
			}
			return
		}
		if !next.After(now) {
			t.Fatalf("Next is %v, and it is %v already", next, now)
		}
		if before, _ := verdict.Client(next.Add(-1), p, s, brake); before.State != v.State {
			t.Fatalf("%s becomes %s before Next", v.State, before.State)
		}
		if after, _ := verdict.Client(next, p, s, brake); after.State == v.State {
			t.Fatalf("still %s at Next", v.State)
		}
	})
}
