package verdict_test

import (
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/internal/verdict"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

// A service that is not Rollcall's own may be asked what it never answers. A
// leader that knows nothing of what was before takes it for overloaded only
// where an observer says that it did answer once.
func TestAServiceIsNeverOverloadedFromBirth(t *testing.T) {
	now := time.Now()
	judge := func(service, answered bool) verdict.Verdict {
		e := verdict.ServerEvidence{Name: "im/web-0", Incarnation: "uid", Node: "node-0", Service: service}
		for _, zone := range []string{"a", "b", "c"} {
			o := verdict.Observer{Name: "node-" + zone, Zone: zone}
			e.Assigned = append(e.Assigned, o)
			e.Observations = append(e.Observations, verdict.Observation{
				Observer: o, Band: string(wire.BandSlow), Seen: now, Healthy: true, Online: true, Answered: answered,
			})
		}
		cold := verdict.World{Now: now, Started: now}
		return verdict.Servers(cold, verdict.ServerPolicy{}, []verdict.ServerEvidence{e}, nil, verdict.Brake{}).Verdicts[e.Name]
	}
	for _, tt := range []struct {
		name              string
		service, answered bool
		want              verdict.State
		reason            string
	}{
		{"a heartbeat server is taken as it is", false, false, verdict.Overloaded, verdict.ReasonAnswersLate},
		{"a service that never answered as it should", true, false, verdict.Suspect, verdict.ReasonNeverAnswered},
		{"a service that did", true, true, verdict.Overloaded, verdict.ReasonAnswersLate},
	} {
		if v := judge(tt.service, tt.answered); v.State != tt.want || v.Reason != tt.reason {
			t.Errorf("%s: %s for %s, want %s for %s", tt.name, v.State, v.Reason, tt.want, tt.reason)
		}
	}
}
