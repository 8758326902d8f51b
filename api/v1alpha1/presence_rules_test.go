package v1alpha1_test

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The messages of Presence's rules, as its markers have them.
const (
	msgOneSubject  = "exactly one of spec.nodes, spec.servers and spec.clients must be set: make a Presence for each population"
	msgSameSubject = "spec.nodes, spec.servers or spec.clients, whichever was set, cannot be exchanged for another: delete this Presence and create one"
	msgName        = "metadata.name must be at most 63 characters: clients send it in their MQTT user name, and it is part of every session's key"
	msgSelector    = "servers.selector must not be empty: name a label of the server pods, such as matchLabels: {app: broker}"
	msgOperator    = ".selector.matchExpressions: the operator must be In or NotIn with values, or Exists or DoesNotExist without"
	msgPort        = "servers.port must be a container port: its name (at most 15 of a-z, 0-9 and -, with a letter) or its number, from 1 to 65535"
	msgProbe       = "exactly one kind of probe must be set: one of mqtt, http, grpc and tcp, such as servers.probe: {http: {path: /healthz}}"
	msgAnswerTime  = "overload.answerTime must be a duration from 10ms to 60s, such as 500ms"
	msgWindow      = "overload.window must be a duration from 200ms to 5m, such as 1s"
	msgRecovery    = "overload.recovery must be a duration from 1s to 1h, such as 5s"
	msgMaxServers  = "failover.maxServers must be a number from 1 to 1000, or a share from 1% to 100%, such as 10%"
	msgMinHealthy  = "failover.minHealthy must be a number from 1 to 1000, or a share from 1% to 100%, such as 50%"
	msgDivert      = "failover.divert must be Label for heartbeat servers (probe.mqtt), which their Service selects by their label: ReadinessGate and None are for servers probed by http, grpc or tcp"
	msgGrace       = "clients.grace must be a duration from 0s to 1h, such as 5s"
	msgRetention   = "clients.retention must be a duration from 1m to 720h, such as 24h"
	msgMin         = "clients.interval.min must be whole seconds from 1s to 18h, such as 30s"
	msgMax         = "clients.interval.max must be whole seconds from 1s to 18h, such as 10m"
	msgMinMax      = "clients.interval.min must not exceed clients.interval.max: lower the one or raise the other"
	msgWhere       = "an override needs a network, a region or both: without, it is clients.interval itself that says it"
	msgWhat        = "an override needs a min, a max or both: else it changes nothing"
	msgOverride    = "clients.interval.overrides: of an override, with what it leaves out taken from clients.interval, min must not exceed max: lower the one or raise the other"
	msgOverrideMax = "clients.interval.overrides[].max must be whole seconds from 1s to 18h, such as 4m30s"
	msgOverrideMin = "clients.interval.overrides[].min must be whole seconds from 1s to 18h, such as 30s"
	msgMaxSkew     = "clients.signedBeats.maxSkew must be a duration from 1s to 10m, such as 30s"
)

var presenceRules = []struct {
	name string
	spec string
	want []refusal // none: accepted
}{
	{"nodes alone are enough", `nodes: {}`, nil},
	{"clients alone are enough", `clients: {}`, nil},
	{"servers need a selector and a port", `servers: {selector: {matchLabels: {a: b}}, port: mqtt}`, nil},
	{"a Presence without a subject is refused", `{}`, []refusal{{"spec", msgOneSubject}}},
	{"two subjects are refused", `{nodes: {}, clients: {}}`, []refusal{{"spec", msgOneSubject}}},
	{"three subjects are refused", `{nodes: {}, clients: {}, servers: {selector: {matchLabels: {a: b}}, port: mqtt}}`, []refusal{{"spec", msgOneSubject}}},

	{"servers without a selector are refused", `servers: {port: mqtt}`, []refusal{{"spec.servers.selector", "Required value"}}},
	{"servers without a port are refused", `servers: {selector: {matchLabels: {a: b}}}`, []refusal{{"spec.servers.port", "Required value"}}},
	{"a selector of every pod is refused", `servers: {selector: {}, port: mqtt}`, []refusal{{"spec.servers.selector", msgSelector}}},
	{"a selector of every pod, in other words, is refused", `servers: {selector: {matchLabels: {}, matchExpressions: []}, port: mqtt}`, []refusal{{"spec.servers.selector", msgSelector}}},
	{"a selector may be an expression", `servers: {selector: {matchExpressions: [{key: a, operator: Exists}]}, port: mqtt}`, nil},
	{"a selector may hold every operator", `nodes: {selector: {matchExpressions: [{key: a, operator: In, values: [b]}, {key: c, operator: NotIn, values: [d, e]}, {key: f, operator: Exists}, {key: g, operator: DoesNotExist, values: []}]}}`, nil},
	{"an operator that doesn't exist is refused", `servers: {selector: {matchExpressions: [{key: a, operator: Is, values: [b]}]}, port: mqtt}`, []refusal{{"spec.servers.selector", "servers" + msgOperator}}},
	{"In without values is refused", `nodes: {selector: {matchExpressions: [{key: a, operator: In}]}}`, []refusal{{"spec.nodes.selector", "nodes" + msgOperator}}},
	{"Exists with values is refused", `nodes: {selector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}`, []refusal{{"spec.nodes.selector", "nodes" + msgOperator}}},

	{"a port may be the lowest number", `servers: {selector: {matchLabels: {a: b}}, port: 1}`, nil},
	{"a port may be the highest number", `servers: {selector: {matchLabels: {a: b}}, port: 65535}`, nil},
	{"port 0 is refused", `servers: {selector: {matchLabels: {a: b}}, port: 0}`, []refusal{{"spec.servers.port", msgPort}}},
	{"port 65536 is refused", `servers: {selector: {matchLabels: {a: b}}, port: 65536}`, []refusal{{"spec.servers.port", msgPort}}},
	{"a port's number in quotes is refused", `servers: {selector: {matchLabels: {a: b}}, port: "1883"}`, []refusal{{"spec.servers.port", msgPort}}},
	{"a port's name of 15 characters is accepted", `servers: {selector: {matchLabels: {a: b}}, port: mqtt-over-tls-1}`, nil},
	{"a port's name of 16 characters is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt-over-tls-12}`, []refusal{{"spec.servers.port", msgPort}}},

	{"a probe of no kind is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, probe: {}}`, []refusal{{"spec.servers.probe", msgProbe}}},

	{"the shortest answer time is 10ms", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {answerTime: 10ms}}`, nil},
	{"a shorter answer time is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {answerTime: 9.9ms}}`, []refusal{{"spec.servers.overload.answerTime", msgAnswerTime}}},
	{"the longest answer time is 60s", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {answerTime: 1m}}`, nil},
	{"a longer answer time is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {answerTime: 1m0.001s}}`, []refusal{{"spec.servers.overload.answerTime", msgAnswerTime}}},
	{"a number without a unit is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {answerTime: "500"}}`, []refusal{{"spec.servers.overload.answerTime", msgAnswerTime}}},
	{"a unit that Go doesn't know is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {answerTime: 1 minute}}`, []refusal{{"spec.servers.overload.answerTime", msgAnswerTime}}},
	{"a duration that overflows is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {answerTime: 9999999999h}}`, []refusal{{"spec.servers.overload.answerTime", msgAnswerTime}}},
	{"the shortest window is 200ms", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {window: 200ms}}`, nil},
	{"a shorter window is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {window: 199ms}}`, []refusal{{"spec.servers.overload.window", msgWindow}}},
	{"a longer window than 5m is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {window: 5m1s}}`, []refusal{{"spec.servers.overload.window", msgWindow}}},
	{"the shortest recovery is 1s", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {recovery: 1s}}`, nil},
	{"a shorter recovery is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {recovery: 0.9s}}`, []refusal{{"spec.servers.overload.recovery", msgRecovery}}},
	{"a longer recovery than 1h is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {recovery: 2h}}`, []refusal{{"spec.servers.overload.recovery", msgRecovery}}},
	{"no observers are refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {observers: 0}}`, []refusal{{"spec.servers.overload.observers", "should be greater than or equal to 1"}}},
	{"ten observers are refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, overload: {observers: 10}}`, []refusal{{"spec.servers.overload.observers", "should be less than or equal to 9"}}},

	{"a mode that doesn't exist is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {mode: Auto}}`, []refusal{{"spec.servers.failover.mode", `supported values: "Automatic", "Advise", "Off"`}}},
	{"shares may be numbers", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {maxServers: 1, minHealthy: 1000}}`, nil},
	{"shares may be everything", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {maxServers: 100%, minHealthy: 100%}}`, nil},
	{"no servers at once is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {maxServers: 0}}`, []refusal{{"spec.servers.failover.maxServers", msgMaxServers}}},
	{"a share of more than all is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {maxServers: 101%}}`, []refusal{{"spec.servers.failover.maxServers", msgMaxServers}}},
	{"a number that Go can't hold is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {maxServers: 3000000000}}`, []refusal{{"spec.servers.failover.maxServers", msgMaxServers}}},
	{"a share of none is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {minHealthy: 0%}}`, []refusal{{"spec.servers.failover.minHealthy", msgMinHealthy}}},
	{"a share without a percent sign is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {minHealthy: "50"}}`, []refusal{{"spec.servers.failover.minHealthy", msgMinHealthy}}},
	{"a pace of no client a second is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {clientsPerSecond: 0}}`, []refusal{{"spec.servers.failover.clientsPerSecond", "should be greater than or equal to 1"}}},
	{"services may be led past by a readiness gate", `servers: {selector: {matchLabels: {a: b}}, port: web, probe: {http: {}}, failover: {divert: ReadinessGate}}`, nil},
	{"or not at all", `servers: {selector: {matchLabels: {a: b}}, port: web, probe: {tcp: {send: a, expect: b}}, failover: {divert: None}}`, nil},
	{"heartbeat servers are led past by their label", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {divert: Label}}`, nil},
	{"heartbeat servers have no readiness gate", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {divert: ReadinessGate}}`, []refusal{{"spec.servers.failover.divert", msgDivert}}},
	{"heartbeat servers are led past", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, probe: {mqtt: {}}, failover: {divert: None}}`, []refusal{{"spec.servers.failover.divert", msgDivert}}},
	{"a way to divert that doesn't exist is refused", `servers: {selector: {matchLabels: {a: b}}, port: web, probe: {grpc: {}}, failover: {divert: Annotation}}`, []refusal{{"spec.servers.failover.divert", `supported values: "Label", "ReadinessGate", "None"`}}},
	{"connections may be severed", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {sever: {mode: Paced, clientsPerSecond: 1}}}`, nil},
	{"a way to sever that doesn't exist is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {sever: {mode: AtOnce}}}`, []refusal{{"spec.servers.failover.sever.mode", `supported values: "Off", "Paced"`}}},
	{"a restart after a while is taken", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {restart: {after: 60s}}}`, nil},
	{"a restart at once is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {restart: {after: 1s}}}`, []refusal{{"spec.servers.failover.restart.after", "failover.restart.after must be a duration from 10s to 24h, such as 60s"}}},
	{"a restart after no time that is said is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {restart: {}}}`, []refusal{{"spec.servers.failover.restart.after", "Required value"}}},
	{"severing no client a second is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {sever: {mode: Paced, clientsPerSecond: 0}}}`, []refusal{{"spec.servers.failover.sever.clientsPerSecond", "should be greater than or equal to 1"}}},
	{"severing more than 100000 a second is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {sever: {mode: Paced, clientsPerSecond: 100001}}}`, []refusal{{"spec.servers.failover.sever.clientsPerSecond", "should be less than or equal to 100000"}}},
	{"a pace of more than 100000 a second is refused", `servers: {selector: {matchLabels: {a: b}}, port: mqtt, failover: {clientsPerSecond: 100001}}`, []refusal{{"spec.servers.failover.clientsPerSecond", "should be less than or equal to 100000"}}},

	{"a taint for dead nodes is accepted", `nodes: {onDead: {mode: Taint}}`, nil},

	{"an interval may be fixed", `clients: {interval: {min: 30s, max: 30s}}`, nil},
	{"the longest interval is what MQTT can say", `clients: {interval: {max: 18h}}`, nil},
	{"an interval of 0s is refused", `clients: {interval: {min: 0s}}`, []refusal{{"spec.clients.interval.min", msgMin}}},
	{"a fraction of a second, which MQTT cannot say, is refused", `clients: {interval: {min: 1.5s}}`, []refusal{{"spec.clients.interval.min", msgMin}}},
	{"milliseconds, which MQTT cannot say, are refused", `clients: {interval: {max: 1500ms}}`, []refusal{{"spec.clients.interval.max", msgMax}}},
	{"a longer interval than MQTT can say is refused", `clients: {interval: {max: 19h}}`, []refusal{{"spec.clients.interval.max", msgMax}}},
	{"a minimum over the maximum is refused", `clients: {interval: {min: 2m, max: 1m}}`, []refusal{{"spec.clients.interval", msgMinMax}}},
	{"a minimum over the default maximum is refused", `clients: {interval: {min: 11m}}`, []refusal{{"spec.clients.interval", msgMinMax}}},
	{"an interval that is no duration is refused once", `clients: {interval: {min: often}}`, []refusal{{"spec.clients.interval.min", msgMin}}},
	{"a network in a region may have bounds of its own", `clients: {interval: {min: 30s, max: 10m, overrides: [{network: cell, region: cn, max: 4m30s}, {network: wifi, min: 1m, max: 18h}]}}`, nil},
	{"an override of nowhere is refused", `clients: {interval: {overrides: [{max: 4m30s}]}}`, []refusal{{"spec.clients.interval.overrides[0]", msgWhere}}},
	{"an override of nothing is refused", `clients: {interval: {overrides: [{network: cell}]}}`, []refusal{{"spec.clients.interval.overrides[0]", msgWhat}}},
	{"an override's minimum over its maximum is refused", `clients: {interval: {overrides: [{network: cell, min: 2m, max: 1m}]}}`, []refusal{{"spec.clients.interval", msgOverride}}},
	{"an override's minimum over the other maximum is refused", `clients: {interval: {max: 1m, overrides: [{network: cell, min: 2m}]}}`, []refusal{{"spec.clients.interval", msgOverride}}},
	{"an override's maximum under the other minimum is refused", `clients: {interval: {min: 1m, overrides: [{network: cell, max: 30s}]}}`, []refusal{{"spec.clients.interval", msgOverride}}},
	{"an override that is no duration is refused once", `clients: {interval: {overrides: [{network: cell, max: often}]}}`, []refusal{{"spec.clients.interval.overrides[0].max", msgOverrideMax}}},
	{"an override's fraction of a second is refused", `clients: {interval: {overrides: [{network: cell, min: 1.5s}]}}`, []refusal{{"spec.clients.interval.overrides[0].min", msgOverrideMin}}},
	{"a network's name with a space is refused", `clients: {interval: {overrides: [{network: a b, max: 1m}]}}`, []refusal{{"spec.clients.interval.overrides[0].network", "should match '^[A-Za-z0-9._-]+$'"}}},
	{"signed beats need no more", `clients: {signedBeats: {}}`, nil},
	{"the greatest skew is 10m", `clients: {signedBeats: {maxSkew: 10m}}`, nil},
	{"a greater skew than 10m is refused", `clients: {signedBeats: {maxSkew: 601s}}`, []refusal{{"spec.clients.signedBeats.maxSkew", msgMaxSkew}}},
	{"a skew under 1s is refused", `clients: {signedBeats: {maxSkew: 999ms}}`, []refusal{{"spec.clients.signedBeats.maxSkew", msgMaxSkew}}},
	{"no grace is accepted", `clients: {grace: 0s}`, nil},
	{"a negative grace is refused", `clients: {grace: -1s}`, []refusal{{"spec.clients.grace", msgGrace}}},
	{"a grace of more than 1h is refused", `clients: {grace: 61m}`, []refusal{{"spec.clients.grace", msgGrace}}},
	{"a retention of 30 days is accepted", `clients: {retention: 720h}`, nil},
	{"a shorter retention than 1m is refused", `clients: {retention: 59s}`, []refusal{{"spec.clients.retention", msgRetention}}},
	{"a longer retention than 30 days is refused", `clients: {retention: 721h}`, []refusal{{"spec.clients.retention", msgRetention}}},
	{"days, which Go doesn't know, are refused", `clients: {retention: 30d}`, []refusal{{"spec.clients.retention", msgRetention}}},
	{"no miss until Late is refused", `clients: {missesUntilLate: 0}`, []refusal{{"spec.clients.missesUntilLate", "should be greater than or equal to 1"}}},
	{"more than 100 misses until Offline are refused", `clients: {missesUntilOffline: 101}`, []refusal{{"spec.clients.missesUntilOffline", "should be less than or equal to 100"}}},
}

func TestPresenceRules(t *testing.T) {
	a := newAPI(t)
	for _, tt := range presenceRules {
		t.Run(tt.name, func(t *testing.T) {
			o := a.object(t, "Presence", "", tt.spec)
			checkRefused(t, a.Create(t.Context(), o, client.DryRunAll, client.FieldValidation("Strict")), tt.want...)
		})
	}
}

func TestPresenceNameIsBounded(t *testing.T) {
	a := newAPI(t)
	longest := strings.Repeat("a", 63)
	checkRefused(t, a.Create(t.Context(), a.object(t, "Presence", longest, `clients: {}`), client.DryRunAll))
	checkRefused(t, a.Create(t.Context(), a.object(t, "Presence", longest+"a", `clients: {}`), client.DryRunAll), refusal{root, msgName})
}

var presenceChanges = []struct {
	name     string
	from, to string
	want     []refusal
}{
	{"a policy may be changed", `clients: {grace: 5s}`, `clients: {grace: 10s}`, nil},
	{"a selector may be changed", `servers: {selector: {matchLabels: {a: b}}, port: mqtt}`, `servers: {selector: {matchLabels: {a: c}}, port: 1883}`, nil},
	{"clients cannot become nodes", `clients: {}`, `nodes: {}`, []refusal{{"spec", msgSameSubject}}},
	{"nodes cannot become servers", `nodes: {}`, `servers: {selector: {matchLabels: {a: b}}, port: mqtt}`, []refusal{{"spec", msgSameSubject}}},
}

func TestPresenceChanges(t *testing.T) {
	a := newAPI(t)
	for _, tt := range presenceChanges {
		t.Run(tt.name, func(t *testing.T) {
			o := a.object(t, "Presence", "", tt.from)
			checkRefused(t, a.Create(t.Context(), o))
			o.Object["spec"] = fromYAML(t, tt.to)
			checkRefused(t, a.Update(t.Context(), o), tt.want...)
		})
	}
}
