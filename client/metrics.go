package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of an attempt to connect.
const (
	outcomeAccepted = "accepted"
	outcomeRefused  = "refused"  // in words of MQTT
	outcomeTimeout  = "timeout"  // no answer in time
	outcomeProtocol = "protocol" // nonsense, or another protocol
	outcomeFailed   = "failed"   // no connection, no credential
)

// metrics are shared by the clients of one Registerer.
type metrics struct {
	connected prometheus.Gauge
	events    *prometheus.CounterVec
	attempts  *prometheus.CounterVec
	beats     prometheus.Counter
	answer    prometheus.Histogram
	changes   prometheus.Counter
	resent    prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	m := metrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rollcall_client_connected", Help: "Clients that a heartbeat server holds."}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_client_events_total", Help: "Events told, by kind."}, []string{"kind"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_client_attempts_total", Help: "Attempts to connect, by outcome."}, []string{"outcome"}),
		beats: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_client_beats_total", Help: "PINGREQs sent."}),
		answer: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rollcall_client_answer_seconds", Help: "How long PINGRESPs took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_client_interval_changes_total", Help: "Changes of the interval that were declared to a server."}),
		resent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_client_resent_total", Help: "Publications that were sent again although a server had acknowledged them."}),
	}
	for _, k := range []Kind{Connected, Late, Moved, Offline} {
		m.events.WithLabelValues(string(k))
	}
	for _, o := range []string{outcomeAccepted, outcomeRefused, outcomeTimeout, outcomeProtocol, outcomeFailed} {
		m.attempts.WithLabelValues(o)
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(
		share(r, &m.connected), share(r, &m.events), share(r, &m.attempts), share(r, &m.beats),
		share(r, &m.answer), share(r, &m.changes), share(r, &m.resent),
	)
}

// share registers a collector, or takes the one of another client.
func share[T prometheus.Collector](r prometheus.Registerer, collector *T) error {
	err := r.Register(*collector)
	var there prometheus.AlreadyRegisteredError
	if errors.As(err, &there) {
		if existing, ok := there.ExistingCollector.(T); ok {
			*collector = existing
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// outcomeOf tells what became of an attempt that failed.
func outcomeOf(err error) string {
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return outcomeRefused
	case errors.Is(err, ErrProtocol):
		return outcomeProtocol
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return outcomeTimeout
	}
	return outcomeFailed
}
