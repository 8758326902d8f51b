package access

import "github.com/prometheus/client_golang/prometheus"

// why is why a credential was not taken: a label.
type why string

const (
	whyNobodys   why = "nobodys"
	whyMalformed why = "malformed"
	whySignature why = "signature"
	whyAudience  why = "audience"
	whyExpired   why = "expired"
	whyNotYet    why = "not-yet"
	whyName      why = "name"
)

// refusal is a credential that is not taken, for good.
type refusal struct{ why why }

func (r *refusal) Error() string { return "refused: " + string(r.why) }

type metrics struct {
	refusals *prometheus.CounterVec
	reviews  *prometheus.CounterVec
	fetches  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_access_refusals_total", Help: "Credentials that were not taken, by reason.",
		}, []string{"reason"}),
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_access_reviews_total",
			Help: "Questions to the API server whether it holds the same of somebody's rights, by outcome. Different is an alarm: what it said counts.",
		}, []string{"outcome"}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_access_key_fetches_total", Help: "Fetches of the keys that tokens are verified with, by issuer and outcome.",
		}, []string{"issuer", "outcome"}),
	}
	for _, w := range []why{whyNobodys, whyMalformed, whySignature, whyAudience, whyExpired, whyNotYet, whyName} {
		m.refusals.WithLabelValues(string(w))
	}
	for _, o := range []string{reviewSame, reviewDifferent, reviewFailed} {
		m.reviews.WithLabelValues(o)
	}
	reg.MustRegister(m.refusals, m.reviews, m.fetches)
	return m
}
