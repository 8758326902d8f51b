package presence

import (
	"fmt"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

func TestTheStatusAdvisesIntervalsInTheOrderOfNetworks(t *testing.T) {
	p := &judge.Population{Presence: &v1alpha1.Presence{}, Subject: v1alpha1.SubjectClients, Advised: map[string]time.Duration{
		"wifi": 10 * time.Minute, "cell": 270 * time.Second,
	}}
	s := Status(v1alpha1.PresenceStatus{}, world(), p)
	if fmt.Sprint(s.AdvisedIntervals) != "[{cell {4m30s}} {wifi {10m0s}}]" {
		t.Errorf("advised: %v", s.AdvisedIntervals)
	}
	if again := Status(s, world(), p); fmt.Sprint(again.AdvisedIntervals) != fmt.Sprint(s.AdvisedIntervals) {
		t.Errorf("the second time: %v", again.AdvisedIntervals)
	}
	away := world()
	away.StoreAway = verdict.StoreAwayLimit
	p.Advised = nil
	if blind := Status(s, away, p); len(blind.AdvisedIntervals) != 2 {
		t.Errorf("while the store is away: %v", blind.AdvisedIntervals)
	}
	p.Advised = map[string]time.Duration{}
	for i := range 2 * v1alpha1.MaxAdvised {
		p.Advised[fmt.Sprintf("n%03d", i)] = time.Minute
	}
	if s := Status(s, world(), p); len(s.AdvisedIntervals) != v1alpha1.MaxAdvised {
		t.Errorf("%d are advised", len(s.AdvisedIntervals))
	}
}

func TestAdviceIsWrittenWhenItChangesAndNotAtOnce(t *testing.T) {
	old := v1alpha1.PresenceStatus{Subject: v1alpha1.SubjectClients}
	now := old
	now.AdvisedIntervals = advisedIntervals(map[string]time.Duration{"cell": time.Minute})
	if after, never := due(old, now); never || after != lazily {
		t.Errorf("due %v, %v", after, never)
	}
	if _, never := due(now, now); !never {
		t.Error("what says the same is written")
	}
}
