package sever

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

type metrics struct {
	connections prometheus.Counter
	refusals    *prometheus.CounterVec
	active      prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		connections: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_sever_connections_total", Help: "Client connections that this node's severer has ended.",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_sever_refusals_total", Help: "How often severing was asked for and could not begin or go on, by reason.",
		}, []string{"reason"}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rollcall_sever_followed_failovers", Help: "Failovers in progress that this node's severer follows.",
		}),
	}
	for _, reason := range []string{
		v1alpha1.ReasonNotDiverted, v1alpha1.ReasonHostNetwork, v1alpha1.ReasonNoSuchPod, v1alpha1.ReasonNoSuchPort,
		v1alpha1.ReasonNoNamespace, v1alpha1.ReasonNotPermitted, v1alpha1.ReasonNotSupported, v1alpha1.ReasonSeveringFailed,
	} {
		m.refusals.WithLabelValues(reason)
	}
	for _, c := range []prometheus.Collector{m.connections, m.refusals, m.active} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) refused(reason string) { m.refusals.WithLabelValues(reason).Inc() }
