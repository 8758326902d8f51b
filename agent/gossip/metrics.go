package gossip

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	pings, joins *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, g *Gossip) (*metrics, error) {
	m := &metrics{
		pings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_gossip_pings_total",
			Help: "Direct pings of other agents, by outcome.",
		}, []string{"outcome"}),
		joins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_gossip_joins_total",
			Help: "Attempts to join peers that were not members, by outcome.",
		}, []string{"outcome"}),
	}
	m.pings.WithLabelValues("answered")
	m.pings.WithLabelValues("unanswered")
	m.joins.WithLabelValues("joined")
	m.joins.WithLabelValues("failed")
	for _, c := range []prometheus.Collector{
		m.pings, m.joins,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rollcall_gossip_members",
			Help: "Other agents that gossip holds alive.",
		}, func() float64 { return float64(g.Alive()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rollcall_gossip_health_score",
			Help: "Memberlist's health score of this agent; 0 is well.",
		}, func() float64 { return float64(g.Health()) }),
	} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
