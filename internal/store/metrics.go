package store

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What is asked of etcd, as the label "op" and in errors.
const (
	opSync     = "sync"
	opPulse    = "pulse"
	opList     = "list"
	opRead     = "read"
	opWrite    = "write_sessions"
	opOffline  = "mark_offline"
	opLease    = "lease"
	opRenew    = "renew_lease"
	opServer   = "write_server"
	opDirect   = "write_directive"
	opPause    = "write_pause"
	opClaim    = "claim"
	opKeep     = "keep"
	opReport   = "write_report"
	opCampaign = "campaign"
)

const (
	outcomeOK      = "ok"
	outcomeRefused = "refused" // etcd said no
	outcomeUnsent  = "unsent"  // no connection
	outcomeUnknown = "unknown" // sent, never answered
)

// Kinds of records, as the label "kind" and in logs.
const (
	kindServer      = "server"
	kindSession     = "session"
	kindObservation = "observation"
	kindSuspicion   = "suspicion"
	kindDirective   = "directive"
	kindPause       = "pause"
	kindAssignment  = "assignment"
	kindPenalty     = "penalty"
	kindDue         = "due"
	kindBucket      = "bucket"
	kindLeader      = "leader"
)

type metrics struct {
	requests *prometheus.CounterVec   // by op, outcome
	seconds  *prometheus.HistogramVec // by op
	retries  *prometheus.CounterVec   // by op
	unread   *prometheus.CounterVec   // by kind
	resets   *prometheus.CounterVec   // by kind
	leases   *prometheus.CounterVec   // by kind
	sessions *prometheus.CounterVec   // by result
	reports  *prometheus.CounterVec   // by result
	rewinds  prometheus.Counter
	revision prometheus.GaugeFunc
	away     prometheus.GaugeFunc
}

func newMetrics(s *Store) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rollcall_store_" + name, Help: help}, labels)
	}
	m := &metrics{
		requests: counter("requests_total", "Requests to etcd, by what they are for and how they ended.", "op", "outcome"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rollcall_store_request_seconds", Help: "How long requests to etcd took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}, []string{"op"}),
		retries:  counter("retries_total", "Requests to etcd that were made again.", "op"),
		unread:   counter("unreadable_total", "Keys and values in etcd that could not be read, and were left out.", "kind"),
		resets:   counter("watch_resets_total", "Watches that had to begin again because etcd had forgotten what lay between.", "kind"),
		leases:   counter("leases_lost_total", "Leases that ended without being given up.", "kind"),
		sessions: counter("session_writes_total", "Writes of sessions, by whether the epoch was the one compared.", "result"),
		reports:  counter("reports_total", "Reports taken from agents, by what became of them.", "result"),
		rewinds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_store_rewinds_total", Help: "How often etcd came back with less history than it had shown.",
		}),
		revision: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rollcall_store_revision", Help: "The highest etcd revision that this process has seen.",
		}, func() float64 { return float64(s.Revision()) }),
		away: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rollcall_store_away_seconds", Help: "How long etcd has not answered; 0: it answers.",
		}, func() float64 { return s.Away(s.clock()).Seconds() }),
	}
	for _, op := range []string{
		opSync, opPulse, opList, opRead, opWrite, opOffline, opLease, opRenew, opServer, opDirect, opPause, opClaim, opKeep, opReport, opCampaign,
	} {
		for _, o := range []string{outcomeOK, outcomeRefused, outcomeUnsent, outcomeUnknown} {
			m.requests.WithLabelValues(op, o)
		}
		m.seconds.WithLabelValues(op)
		m.retries.WithLabelValues(op)
	}
	kinds := []string{kindServer, kindSession, kindObservation, kindSuspicion, kindDirective, kindPause, kindAssignment, kindPenalty, kindDue, kindBucket}
	for _, k := range kinds {
		m.unread.WithLabelValues(k)
	}
	for _, k := range kinds[:len(kinds)-1] {
		m.resets.WithLabelValues(k)
	}
	for _, k := range []string{kindServer, kindBucket, kindLeader} {
		m.leases.WithLabelValues(k)
	}
	for _, r := range []string{resultWon, resultLost} {
		m.sessions.WithLabelValues(r)
	}
	for _, r := range []string{reportTaken, reportStale} {
		m.reports.WithLabelValues(r)
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{
		m.requests, m.seconds, m.retries, m.unread, m.resets, m.leases, m.sessions, m.reports, m.rewinds, m.revision, m.away,
	} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *metrics) observe(op, outcome string, took time.Duration) {
	m.requests.WithLabelValues(op, outcome).Inc()
	m.seconds.WithLabelValues(op).Observe(took.Seconds())
}
