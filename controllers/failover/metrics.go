package failover

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// Metrics of Failovers.
type Metrics struct {
	decided  *prometheus.CounterVec
	finished *prometheus.CounterVec
	directed prometheus.Histogram
}

// NewMetrics makes and registers them.
func NewMetrics(registerer prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		decided: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_failovers_decided_total", Help: "Failovers that this controller has created, by reason.",
		}, []string{"reason"}),
		finished: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_failovers_finished_total", Help: "Failovers that have ended, by outcome.",
		}, []string{"outcome"}),
		directed: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "rollcall_failover_directed_seconds",
			Help:    "From the first evidence of a fault to its directive.",
			Buckets: []float64{.1, .25, .5, 1, 1.5, 2, 3, 5, 10, 30},
		}),
	}
	for _, r := range []v1alpha1.FailoverReason{
		v1alpha1.FailoverOverloaded, v1alpha1.FailoverDead, v1alpha1.FailoverReturned, v1alpha1.FailoverRebalance,
	} {
		m.decided.WithLabelValues(string(r))
	}
	for _, o := range []string{
		v1alpha1.ReasonMoved, v1alpha1.ReasonRecovered, v1alpha1.ReasonAdvised, v1alpha1.ReasonCancelled, v1alpha1.ReasonTimedOut,
	} {
		m.finished.WithLabelValues(o)
	}
	for _, c := range []prometheus.Collector{m.decided, m.finished, m.directed} {
		if err := registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) created(reason string) { m.decided.WithLabelValues(reason).Inc() }

func (m *Metrics) ended(outcome string) { m.finished.WithLabelValues(outcome).Inc() }

func (m *Metrics) wrote(fo *v1alpha1.Failover, now time.Time) {
	if d := fo.Spec.DetectedAt; d != nil {
		m.directed.Observe(now.Sub(d.Time).Seconds())
	}
}
