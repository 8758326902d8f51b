package probe

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Metrics of all probers of a process.
type Metrics struct {
	asked    prometheus.Counter
	answers  prometheus.Histogram
	sessions *prometheus.CounterVec
	bands    *prometheus.CounterVec
}

// NewMetrics registers the metrics of probes.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		asked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_probe_questions_total",
			Help: "Questions (CONNECT, PINGREQ, beats) that probes have asked servers.",
		}),
		answers: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "rollcall_probe_answer_seconds",
			Help:    "How long servers took to answer probes.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_probe_sessions_total",
			Help: "Attempts to make a probe session, by outcome.",
		}, []string{"outcome"}),
		bands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_probe_bands_total",
			Help: "Bands that probed servers entered.",
		}, []string{"band"}),
	}
	for _, r := range []DialResult{DialConnected, DialRefused, DialFailed, DialLocal} {
		m.sessions.WithLabelValues(outcome(r))
	}
	m.sessions.WithLabelValues("notAdmitted")
	for _, b := range []wire.Band{wire.BandOK, wire.BandSlow, wire.BandHung, wire.BandLossy, wire.BandRefused, wire.BandUnreachable, wire.BandUnasked} {
		m.bands.WithLabelValues(string(b))
	}
	for _, c := range []prometheus.Collector{m.asked, m.answers, m.sessions, m.bands} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func outcome(r DialResult) string {
	switch r {
	case DialConnected:
		return "connected"
	case DialRefused:
		return "refused"
	case DialFailed:
		return "failed"
	}
	return "local"
}
