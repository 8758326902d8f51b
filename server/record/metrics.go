package record

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/wire"
)

type metrics struct {
	waiting   prometheus.Gauge
	writes    *prometheus.CounterVec // by outcome
	lost      *prometheus.CounterVec // by why
	takeovers *prometheus.CounterVec // by why the client left
	gaps      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rollcall_recorder_waiting", Help: "Clients about which something waits to be written to the store.",
		}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_recorder_writes_total", Help: "Writes of session records, by outcome: won, refused (the record was another), failed (no answer).",
		}, []string{"outcome"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_recorder_lost_total", Help: "Sessions that were found to be another server's: taken, or foreign (another principal's).",
		}, []string{"why"}),
		takeovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_recorder_takeovers_total", Help: "Clients recorded here that came from another incarnation, by what made them leave it.",
		}, []string{"cause"}),
		gaps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_recorder_gaps_total", Help: "Times that this process was stopped or lost its lease, so that what it had not written became unproven.",
		}),
	}
	for _, o := range []string{"won", "refused", "failed"} {
		m.writes.WithLabelValues(o)
	}
	for _, l := range []Loss{Taken, Foreign} {
		m.lost.WithLabelValues(l.String())
	}
	for _, c := range []string{"directive", "late", "broken", "severed"} {
		m.takeovers.WithLabelValues(c)
	}
	if reg != nil {
		reg.MustRegister(m.waiting, m.writes, m.lost, m.takeovers, m.gaps)
	}
	return m
}

// maxOrigins is how many origins of takeovers a server's record names.
const maxOrigins = 64

// tookOver counts that a client's record is ours now, and was its origin's; r.mu
// is held.
func (r *Recorder) tookOver(e *entry) {
	from := e.from()
	t, known := r.takeovers[from.origin]
	cause := "severed"
	switch from.left {
	case wire.LeftDirected:
		t.Directive++
		cause = "directive"
	case wire.LeftLate:
		t.Late++
		cause = "late"
	case wire.LeftBroken:
		t.Broken++
		cause = "broken"
	default:
		t.Severed++
	}
	if !known {
		r.origins = append(r.origins, from.origin)
		if len(r.origins) > maxOrigins {
			delete(r.takeovers, r.origins[0])
			r.origins = r.origins[1:]
		}
	}
	r.takeovers[from.origin] = t
	r.metrics.takeovers.WithLabelValues(cause).Inc()
	e.comes(transit{left: from.left})
}

// found is what a record shows of an entry: it was so at the revision asOf.
func (r *Recorder) found(e *entry, asOf, revision int64, current *store.Session) finding {
	if asOf > e.known && (current == nil || current.Offline) {
		e.comes(transit{left: e.from().left})
	}
	if current == nil {
		return finding{asOf: asOf, absent: true}
	}
	f := finding{
		revision: revision, asOf: asOf, ours: current.Incarnation == r.cfg.Incarnation, offline: current.Offline,
		same: same(*current, r.session(e)),
	}
	other := !f.ours && !f.offline
	f.foreign = other && current.Principal != e.principal
	if other && asOf > e.known {
		e.comes(transit{current.Incarnation, e.from().left})
	}
	return f
}
