package verdict

import (
	"testing"
	"time"
)

func TestABeginningIsNoLossAndALossIsFollowedByAThaw(t *testing.T) {
	w := World{Now: time.Unix(1000, 0), Warm: true}
	few, enough := census{what: "servers", total: 3, minHealthy: 2}, census{what: "servers", total: 3, healthy: 3, minHealthy: 2}
	b, _ := w.brake(Brake{}, &few)
	if !b.Frozen || b.Reason != BrakeTooFewHealthy {
		t.Fatalf("with nobody known to be healthy: %+v, want frozen", b)
	}
	w.Now = w.Now.Add(3 * time.Second)
	if b, _ = w.brake(b, &enough); b.Frozen {
		t.Fatalf("once enough are, for the first time: %+v, want free", b)
	}
	w.Now = w.Now.Add(time.Minute)
	b, _ = w.brake(b, &few)
	w.Now = w.Now.Add(3 * time.Second)
	if b, _ = w.brake(b, &enough); !b.Frozen {
		t.Fatalf("after a loss: %+v, want frozen until it has been over for %v", b, ThawAfter)
	}
	w.Now = w.Now.Add(ThawAfter)
	if b, _ = w.brake(b, &enough); b.Frozen {
		t.Fatalf("%v after it was over: %+v, want free", ThawAfter, b)
	}
}
