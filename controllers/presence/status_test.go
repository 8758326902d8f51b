package presence

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
	"github.com/rollcall-dev/rollcall/controllers/judge"
	"github.com/rollcall-dev/rollcall/internal/plan"
	"github.com/rollcall-dev/rollcall/internal/verdict"
)

var now = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func world() verdict.World { return verdict.World{Now: now, Warm: true} }

// servers is a population of servers in some states.
func servers(states ...verdict.State) *judge.Population {
	p := &judge.Population{
		Presence: &v1alpha1.Presence{
			ObjectMeta: metav1.ObjectMeta{Namespace: "im", Name: "servers", Generation: 3},
			Spec:       v1alpha1.PresenceSpec{Servers: &v1alpha1.ServersSpec{Failover: v1alpha1.FailoverPolicy{Mode: v1alpha1.ModeAdvise}}},
		},
		Subject:   v1alpha1.SubjectServers,
		Judgement: verdict.Judgement{Verdicts: map[string]verdict.Verdict{}},
	}
	for i, s := range states {
		name := fmt.Sprintf("im/server-%02d", i)
		p.Members = append(p.Members, name)
		p.Judgement.Verdicts[name] = verdict.Verdict{State: s, Since: now, Message: "because"}
	}
	return p
}

func TestStatusSaysWhatWasJudged(t *testing.T) {
	for _, c := range []struct {
		name                string
		population          *judge.Population
		change              func(*judge.Population, *verdict.World)
		healthy, reason     string
		ready, frozen, word string // reasons of Ready and Frozen; status.reason
		dead, overloaded    int32
		suspect             int32
	}{
		{name: "all are alive", population: servers(verdict.Alive, verdict.Alive),
			healthy: "True", reason: v1alpha1.ReasonAllAlive, ready: v1alpha1.ReasonJudging, frozen: v1alpha1.ReasonNotFrozen},
		{name: "the worst state gives the reason",
			population: servers(verdict.Suspect, verdict.Overloaded, verdict.Dead, verdict.Unknown),
			healthy:    "False", reason: v1alpha1.ReasonDead, ready: v1alpha1.ReasonJudging, frozen: v1alpha1.ReasonNotFrozen,
			word: v1alpha1.ReasonDead, dead: 1, overloaded: 1, suspect: 2},
		{name: "Unknown is not a fault", population: servers(verdict.Alive, verdict.Unknown),
			healthy: "Unknown", reason: v1alpha1.ReasonUnknown, ready: v1alpha1.ReasonJudging, frozen: v1alpha1.ReasonNotFrozen,
			word: v1alpha1.ReasonUnknown, suspect: 1},
		{name: "nothing is selected", population: servers(),
			healthy: "Unknown", reason: v1alpha1.ReasonNoMembers, ready: v1alpha1.ReasonJudging, frozen: v1alpha1.ReasonNotFrozen,
			word: v1alpha1.ReasonNoMembers},
		{name: "no room freezes", population: servers(verdict.Overloaded),
			change: func(p *judge.Population, _ *verdict.World) {
				p.Decision = plan.Decision{NoHeadroom: true, Blocked: "full"}
			},
			healthy: "False", reason: v1alpha1.ReasonOverloaded, ready: v1alpha1.ReasonJudging, frozen: v1alpha1.ReasonNoHeadroom,
			word: v1alpha1.ReasonOverloaded, overloaded: 1},
		{name: "the store is away", population: servers(verdict.Alive),
			change: func(p *judge.Population, w *verdict.World) {
				w.StoreAway = verdict.StoreAwayLimit
				p.Judgement.Brake = verdict.Brake{Frozen: true, Reason: v1alpha1.ReasonStoreAway}
			},
			healthy: "True", reason: v1alpha1.ReasonAllAlive, ready: v1alpha1.ReasonStoreAway, frozen: v1alpha1.ReasonStoreAway,
			word: v1alpha1.ReasonStoreAway},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := world()
			if c.change != nil {
				c.change(c.population, &w)
			}
			s := Status(v1alpha1.PresenceStatus{}, w, c.population)
			for kind, want := range map[string]string{
				v1alpha1.ConditionHealthy: c.reason, v1alpha1.ConditionReady: c.ready, v1alpha1.ConditionFrozen: c.frozen,
			} {
				if got := meta.FindStatusCondition(s.Conditions, kind); got == nil || got.Reason != want || got.ObservedGeneration != 3 {
					t.Errorf("%s is %+v, want the reason %s", kind, got, want)
				}
			}
			if got := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionHealthy); string(got.Status) != c.healthy {
				t.Errorf("Healthy is %s, want %s", got.Status, c.healthy)
			}
			n := s.Counts
			if s.Reason != c.word || n.Dead != c.dead || *n.Overloaded != c.overloaded || n.Suspect != c.suspect ||
				n.Members != n.Alive+n.Suspect+n.Dead+*n.Overloaded {
				t.Errorf("reason %q and counts %+v", s.Reason, n)
			}
			if len(s.NotAlive) != int(n.Members-n.Alive) {
				t.Errorf("%d are listed as not alive", len(s.NotAlive))
			}
		})
	}
}

func TestWhatWasKnownLastStandsWhileNoOneCanJudge(t *testing.T) {
	known := Status(v1alpha1.PresenceStatus{}, world(), servers(verdict.Alive, verdict.Dead))
	w := world()
	w.Warm = false
	s := Status(known, w, servers(verdict.Unknown, verdict.Unknown))
	if s.Counts.Dead != 1 || s.NotAlive[0].State != string(verdict.Dead) || s.Reason != v1alpha1.ReasonWarmingUp {
		t.Errorf("it became %+v", s)
	}
}

func TestTheListIsBoundedAndHoldsTheWorst(t *testing.T) {
	states := make([]verdict.State, 50)
	for i := range states {
		states[i] = verdict.Suspect
	}
	states[49] = verdict.Dead
	s := Status(v1alpha1.PresenceStatus{}, world(), servers(states...))
	if len(s.NotAlive) != v1alpha1.MaxNotAlive || s.NotAlive[0].Name != "server-49" || s.Counts.Suspect != 49 {
		t.Errorf("%d listed, the first is %s", len(s.NotAlive), s.NotAlive[0].Name)
	}
}

func TestWhenAStatusIsDue(t *testing.T) {
	base := func() v1alpha1.PresenceStatus {
		return v1alpha1.PresenceStatus{
			Subject: v1alpha1.SubjectClients, Counts: v1alpha1.PresenceCounts{Members: 1000, Alive: 1000},
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionHealthy, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllAlive}},
		}
	}
	for _, c := range []struct {
		name   string
		change func(*v1alpha1.PresenceStatus)
		after  time.Duration
		never  bool
	}{
		{"never, if nothing differs", func(*v1alpha1.PresenceStatus) {}, 0, true},
		{"at once, if a condition does", func(s *v1alpha1.PresenceStatus) { s.Conditions[0].Status = metav1.ConditionFalse }, 0, false},
		{"at once, if a member's state does",
			func(s *v1alpha1.PresenceStatus) { s.NotAlive = []v1alpha1.MemberStatus{{Name: "a"}} }, 0, false},
		{"promptly, if counts do by a hundredth", func(s *v1alpha1.PresenceStatus) { s.Counts.Alive = 990 }, promptly, false},
		{"lazily, if by less", func(s *v1alpha1.PresenceStatus) { s.Counts.Alive = 991 }, lazily, false},
		{"lazily, if only words do", func(s *v1alpha1.PresenceStatus) { s.Conditions[0].Message = "other" }, lazily, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := base()
			c.change(&s)
			if after, never := due(base(), s); after != c.after || never != c.never {
				t.Errorf("after %v, never %v", after, never)
			}
		})
	}
}

func TestCalibrating(t *testing.T) {
	for _, c := range []struct {
		usual          time.Duration
		status, reason string
	}{
		{0, "True", v1alpha1.ReasonMeasuring},
		{3 * time.Millisecond, "False", v1alpha1.ReasonCalibrated},
		{400 * time.Millisecond, "True", v1alpha1.ReasonAnswerTimeTooShort},
	} {
		p := servers(verdict.Alive)
		p.Presence.Spec.Servers.Overload.AnswerTime.Duration = 500 * time.Millisecond
		p.Calibration.Usual = c.usual
		s := Status(v1alpha1.PresenceStatus{}, world(), p)
		got := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionCalibrating)
		if got == nil || string(got.Status) != c.status || got.Reason != c.reason {
			t.Errorf("usual %v: %+v", c.usual, got)
		}
		if s.Reason != "" {
			t.Errorf("usual %v: the Presence's reason is %s", c.usual, s.Reason)
		}
	}
}
