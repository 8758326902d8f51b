package verdict_test

import (
	"strings"
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

// Who lacks the Secret to ask with abstains, and says which.
func TestAServiceThatIsNotAskedIsUnknown(t *testing.T) {
	now := time.Now()
	judge := func(bands ...wire.Band) verdict.Verdict {
		e := verdict.ServerEvidence{Name: "im/web-0", Incarnation: "uid", Node: "node-0", Service: true}
		for i, zone := range []string{"a", "b", "c"} {
			o := verdict.Observer{Name: "node-" + zone, Zone: zone}
			e.Assigned = append(e.Assigned, o)
			e.Observations = append(e.Observations, verdict.Observation{
				Observer: o, Band: string(bands[i]), Seen: now, Healthy: true, Online: true, Answered: true,
				Detail: "Secret im/web-probe does not exist",
			})
		}
		warm := verdict.World{Now: now, Started: now.Add(-time.Hour), Warm: true}
		return verdict.Servers(warm, verdict.ServerPolicy{}, []verdict.ServerEvidence{e}, nil, verdict.Brake{}).Verdicts[e.Name]
	}
	for _, tt := range []struct {
		name    string
		bands   []wire.Band
		want    verdict.State
		message string
	}{
		{"by nobody", []wire.Band{wire.BandUnasked, wire.BandUnasked, wire.BandUnasked}, verdict.Unknown, "3 of 3 observers cannot ask it: Secret im/web-probe does not exist"},
		{"by some", []wire.Band{wire.BandUnasked, wire.BandOK, wire.BandUnasked}, verdict.Alive, "1 of 3 observers get answers in time"},
		{"by any but one, who waits", []wire.Band{wire.BandUnasked, wire.BandHung, wire.BandUnasked}, verdict.Suspect, "that is not enough for a verdict"},
	} {
		if v := judge(tt.bands...); v.State != tt.want || !strings.Contains(v.Message, tt.message) {
			t.Errorf("%s: %s, %q; want %s, %q", tt.name, v.State, v.Message, tt.want, tt.message)
		}
	}
}
