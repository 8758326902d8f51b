package verdict

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Penalties for servers that fail again and again, as BGP has them for routes
// (RFC 2439): each failure adds one, they decay, and above a limit the server
// is suppressed until what is left of them is under another. The values are the
// customary ones of routers (RFC 7196, table 1), but for the limit: 2,000 punishes
// what is merely restless, and RFC 7196 recommends at least 6,000. The sum is
// capped, so that nothing is suppressed for longer than an hour.
//
// A server whose failures are four minutes apart or more is never suppressed;
// one that fails every minute is so from the seventh on.
const (
	// FlapPenalty is added by each entry into Overloaded or Dead.
	FlapPenalty = 1000
	// FlapSuppress is the sum from which a server is suppressed.
	FlapSuppress = 6000
	// FlapReuse is the sum at which it is suppressed no more.
	FlapReuse = 750
	// FlapHalfLife is how long the sum takes to halve.
	FlapHalfLife = 15 * time.Minute
	// FlapCeiling is the greatest sum: four half-lives above FlapReuse.
	FlapCeiling = FlapReuse << 4
)

// flap counts a failure that begins now, lets what was suppressed go when that
// is over, and words it. was is the state before, any exemption apart.
//
// A process that is restarted in its pod carries on what the one before it had:
// failing by restarts is flapping too. A pod that was replaced begins anew:
// somebody may have mended it. A judge that warms up takes what an earlier one has
// left: whether that counted the failure that it finds is not known, so it adds
// none. One that is left nothing begins without penalties.
func (v *Verdict) flap(w World, was State, last Verdict, past Past) {
	now := w.Now
	if !w.Warm && !past.At.IsZero() {
		last.Incarnation, last.Penalty, last.PenaltyAt, last.Suppressed = past.Incarnation, past.Penalty, past.At, past.Suppressed
		was = v.State
	}
	if pod(v.Incarnation) == pod(last.Incarnation) || last.Incarnation == "" {
		v.Penalty, v.PenaltyAt, v.Suppressed = last.Penalty, last.PenaltyAt, last.Suppressed
	}
	if v.State.Bad() && !was.Bad() {
		v.Penalty = min(decayed(v.Penalty, now.Sub(v.PenaltyAt))+FlapPenalty, FlapCeiling)
		v.PenaltyAt = now
		if v.Penalty >= FlapSuppress || !v.Suppressed.IsZero() {
			v.Suppressed = now.Add(untilReuse(v.Penalty))
		}
	}
	if v.Suppressed.IsZero() {
		return
	}
	if !now.Before(v.Suppressed) {
		v.Suppressed = time.Time{}
		return
	}
	if v.State == Alive {
		v.Reason = ReasonFlapping
	}
	v.Message += fmt.Sprintf("; it fails too often: its penalty was %.0f at the last failure, and must decay to %d. Once out, it is not let in again before %s, unless it is needed",
		v.Penalty, FlapReuse, v.Suppressed.UTC().Format("15:04:05 MST"))
}

// Spent tells whether so little is left of a server's penalty that it need not be
// remembered.
func (v Verdict) Spent(now time.Time) bool {
	return decayed(v.Penalty, now.Sub(v.PenaltyAt)) < FlapPenalty/10
}

// decayed is what is left of a penalty after a while.
func decayed(penalty float64, after time.Duration) float64 {
	if penalty == 0 {
		return 0
	}
	return penalty * math.Exp2(-float64(max(after, 0))/float64(FlapHalfLife))
}

// untilReuse is how long a penalty takes to decay to FlapReuse.
func untilReuse(penalty float64) time.Duration {
	return time.Duration(math.Log2(penalty/FlapReuse) * float64(FlapHalfLife)).Round(time.Second)
}

// pod is the pod of an incarnation, "<pod uid>.<start>".
func pod(incarnation string) string {
	uid, _, _ := strings.Cut(incarnation, ".")
	return uid
}
