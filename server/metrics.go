package server

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/internal/datagram"
	"github.com/rollcall-dev/rollcall/server/session"
)

// why is why a client, or what it asked for, was refused: a label.
type why string

const (
	whyAbsent        why = "absent"
	whyAddress       why = "address"
	whyAlias         why = "alias"
	whyBusy          why = "busy"
	whyClientID      why = "client-id"
	whyConnected     why = "connected"
	whyConnections   why = "connections"
	whyCredentials   why = "credentials"
	whyDraining      why = "draining"
	whyFilter        why = "filter"
	whyFull          why = "full"
	whyListener      why = "listener"
	whyShedding      why = "shedding"
	whyMalformed     why = "malformed"
	whyNotConnect    why = "not-connect"
	whyPayload       why = "payload"
	whyPong          why = "pong"
	whyPresence      why = "presence"
	whyPresenceFull  why = "presence-full"
	whyPrincipal     why = "principal"
	whyProtocol      why = "protocol"
	whyProxy         why = "proxy"
	whyQoS           why = "qos"
	whyReplay        why = "replay"
	whyRetain        why = "retain"
	whySignature     why = "signature"
	whySkew          why = "skew"
	whySlow          why = "slow"
	whyStarting      why = "starting"
	whyStore         why = "store"
	whyStrangers     why = "strangers"
	whySubprotocol   why = "subprotocol"
	whySubscriptions why = "subscriptions"
	whyTimeout       why = "timeout"
	whyTLS           why = "tls"
	whyTooLarge      why = "too-large"
	whyTopic         why = "topic"
	whyUnauthorized  why = "unauthorized"
	whyUntrusted     why = "untrusted"
	whyUserName      why = "user-name"
	whyVersion       why = "version"
	whyWill          why = "will"
)

var whys = []why{
	whyReplay, whySignature, whySkew,
	whyAbsent, whyAddress, whyAlias, whyBusy, whyClientID, whyConnected, whyConnections, whyCredentials, whyDraining, whyFilter, whyFull, whyListener, whyShedding, whyMalformed, whyNotConnect,
	whyPayload, whyPong, whyPresence, whyPresenceFull, whyPrincipal, whyProtocol, whyProxy, whyQoS, whyRetain, whySlow, whyStarting, whyStore, whyStrangers, whySubprotocol, whySubscriptions,
	whyTimeout, whyTLS, whyTooLarge, whyTopic, whyUnauthorized, whyUntrusted, whyUserName, whyVersion, whyWill,
}

type metrics struct {
	refusals *prometheus.CounterVec
	beats    prometheus.Counter
	expired  prometheus.Counter
	told     prometheus.Counter
	revoked  prometheus.Counter
	stranded prometheus.Counter
	// datagrams that were answered, by the answer.
	datagrams map[datagram.Kind]prometheus.Counter
}

func newMetrics(s *Server, reg prometheus.Registerer) *metrics {
	m := &metrics{
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_server_refusals_total", Help: "Clients, or what they asked for, that were refused, by reason.",
		}, []string{"reason"}),
		beats: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_server_beats_total", Help: "Packets from clients with a session.",
		}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_server_expired_total", Help: "Sessions that ended because their client was silent for longer than its lease.",
		}),
		told: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_server_told_total", Help: "Clients that were told to go to another server, as a directive has it.",
		}),
		revoked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rollcall_server_revoked_total", Help: "Sessions that ended because a right was taken back.",
		}),
	}
	m.stranded = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rollcall_server_stranded_total", Help: "Clients let in again during a drain, because nobody else had taken them.",
	})
	answers := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rollcall_server_datagrams_total", Help: "Datagrams that were answered, by the answer: ok, draining (go elsewhere), gone (there is no session).",
	}, []string{"answer"})
	m.datagrams = map[datagram.Kind]prometheus.Counter{
		datagram.OK: answers.WithLabelValues("ok"), datagram.Draining: answers.WithLabelValues("draining"), datagram.Gone: answers.WithLabelValues("gone"),
		datagram.Skewed: answers.WithLabelValues("skewed"),
	}
	for _, w := range slices.Concat(whys, datagramWhys) {
		m.refusals.WithLabelValues(string(w))
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.refusals, m.beats, m.expired, m.told, m.revoked, m.stranded, answers)
	gauge := func(name, help string, labels prometheus.Labels, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, f))
	}
	count := func(of func(*session.Class) int, probes bool) func() float64 {
		return func() float64 {
			n := 0
			for _, c := range s.table.Classes() {
				if c.Probe == probes {
					n += of(c)
				}
			}
			return float64(n)
		}
	}
	const name, help = "rollcall_server_sessions", "Sessions: of clients, those of them that are late, and of probes."
	gauge(name, help, prometheus.Labels{"kind": "client"}, count((*session.Class).Live, false))
	gauge(name, help, prometheus.Labels{"kind": "late"}, count((*session.Class).Late, false))
	gauge(name, help, prometheus.Labels{"kind": "probe"}, count((*session.Class).Live, true))
	gauge("rollcall_server_queue_delay_seconds", "The longest of the last second from when a packet was read to when its answer was written.", nil, func() float64 {
		return s.vitals.worst().Seconds()
	})
	gauge("rollcall_server_scheduler_latency_seconds", "How long goroutines wait for a processor: what 99 of a hundred waits of the last second took at most.", nil, func() float64 {
		return s.scheduling.latency().Seconds()
	})
	gauge("rollcall_server_connections", "Connections, those included that have not connected yet.", nil, func() float64 { return float64(s.peers.len()) })
	gauge("rollcall_server_addresses", "Addresses that have a connection, where connections are limited by address.", nil, func() float64 { return float64(s.addresses.len()) })
	gauge("rollcall_server_subscriptions", "Subscriptions to presence topics.", nil, func() float64 { return float64(s.hub.Subscribers()) })
	return m
}

func (m *metrics) refused(w why) { m.refusals.WithLabelValues(string(w)).Inc() }
