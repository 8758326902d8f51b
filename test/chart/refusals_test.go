package chart

import (
	"strings"
	"testing"
)

func TestImpossibleValuesAreRefusedWithWhatToChange(t *testing.T) {
	for _, c := range []struct{ name, values, want string }{
		{"a misspelt value", `server: {replica: 3}`, "additional properties 'replica' not allowed"},
		{"no server", `server: {replicas: 0}`, "at '/server/replicas': minimum: got 0, want 1"},
		{"no controller", `controller: {replicas: 0}`, "at '/controller/replicas': minimum: got 0, want 1"},
		{"an even number of members", `etcd: {members: 2}`, "at '/etcd/members': value must be one of 1, 3, 5"},
		{"an etcd of two kinds", `etcd: {ephemeral: true, endpoints: ["https://etcd.example.com:2379"]}`, "give only one of the two"},
		{"an endpoint without a port", `etcd: {endpoints: ["https://etcd.example.com"]}`, `etcd.endpoints has "https://etcd.example.com": write https://host:port`},
		{"an endpoint without a scheme", `etcd: {endpoints: ["etcd.example.com:2379"]}`, "write https://host:port"},
		{"a client certificate for nobody", `etcd: {tls: {secretName: etcd-client}}`, "give etcd.endpoints too"},
		{"a client certificate in the clear", `etcd: {endpoints: ["http://etcd:2379"], tls: {secretName: etcd-client}}`, "write etcd.endpoints with https://"},
		{"a quota that etcd does not support", `etcd: {quota: 9Gi, storage: {size: 20Gi}}`, "etcd supports at most 8Gi"},
		{"a volume that the quota would fill", `etcd: {storage: {size: 8Gi}}`, "make it a fifth larger than the quota at least, or lower the quota"},
		{"a size that is none", `etcd: {quota: large}`, "at '/etcd/quota'"},
		{"load balancers without names", `server: {perPod: {type: LoadBalancer}}`, "set server.perPod.host to a name for each server"},
		{"load balancers of one name", `server: {perPod: {type: LoadBalancer, host: mqtt.example.com}}`, "put $(POD_NAME) or $(POD_INDEX) in it"},
		{"one address for all servers", `server: {advertise: "mqtt.example.com:1883"}`, "it must lead to one of them"},
		{"an address without a port", `server: {advertise: "$(POD_NAME).example.com"}`, "at '/server/advertise'"},
		{"node ports that have no room for numbers", `server: {perPod: {type: NodePort, nodePortBase: 31885}}`, "it must end in 0"},
		{"more servers than node ports", `server: {replicas: 11, perPod: {type: NodePort}}`, "use LoadBalancer for more"},
		{"one node port twice", `server: {service: {type: NodePort, nodePort: 31880}, perPod: {type: NodePort}}`, "a node port leads to one Service"},
		{"a node port of a ClusterIP", `server: {service: {nodePort: 31880}}`, "needs server.service.type NodePort or LoadBalancer"},
		{"a flag with its dashes", `server: {extraFlags: {"--connect-rate": 5}}`, "write a flag's name without dashes"},
		{"an issuer without an audience", `access: {jwt: {issuer: "https://id.example.com", keys: "https://id.example.com/keys"}}`, "needs access.jwt.audience"},
		{"keys of no issuer", `access: {jwt: {keys: "https://id.example.com/keys"}}`, "do nothing without access.jwt.issuer"},
		{"a load balancer from nowhere", `server: {balanced: {enabled: true}}`, "needs server.balanced.trusted"},
		{"a load balancer behind nodes", `server: {balanced: {enabled: true, trusted: [10.0.0.0/24], externalTrafficPolicy: Cluster}}`, "externalTrafficPolicy"},
		{"networks of no load balancer", `server: {balanced: {trusted: [10.0.0.0/24]}}`, "does nothing without server.balanced.enabled"},
		{"a load balancer that is everybody", `server: {balanced: {enabled: true, trusted: [0.0.0.0/0]}}`, "at '/server/balanced/trusted/0'"},
		{"an address for no requests", `server: {http: {advertise: "$(POD_IP):8443"}}`, "does nothing without server.http.enabled"},
		{"one address for requests to all servers", `server: {http: {enabled: true, advertise: "beats.example.com:8443"}}`, "put $(POD_NAME), $(POD_IP)"},
		{"requests to Services that lead to MQTT", `server: {http: {enabled: true}, perPod: {type: NodePort}}`, "set server.http.advertise"},
		{"fewer connections than none", `server: {limits: {connectionsPerAddress: -1}}`, "at '/server/limits/connectionsPerAddress'"},
		{"datagrams without TLS", `server: {tls: {enabled: false}, udp: {enabled: true}}`, "set server.tls.enabled=true"},
		{"datagrams to Services that lead to TCP", `server: {udp: {enabled: true}, perPod: {type: NodePort}}`, "set server.udp.advertise"},
		{"an address for no datagrams", `server: {udp: {advertise: "$(POD_IP):8884"}}`, "does nothing without server.udp.enabled"},
		{"one address for datagrams to all servers", `server: {udp: {enabled: true, advertise: "udp.example.com:8884"}}`, "put $(POD_NAME), $(POD_IP)"},
		{"client certificates without TLS", `{access: {clientCertificates: {secretName: devices}}, server: {tls: {enabled: false}}}`, "set server.tls.enabled=true"},
		{"cert-manager where there is none", `certificates: {provider: certManager}`, "install cert-manager first, or set it to auto or job"},
		{"monitors where there is no operator", `monitoring: {podMonitors: true}`, "install the Prometheus operator first, or set it to auto"},
		{"alerts where there is no operator", `monitoring: {rules: "true"}`, "monitoring.rules is true"},
		{"a schedule that is none", `etcd: {defragmentation: {schedule: daily}}`, "at '/etcd/defragmentation/schedule'"},
		{"one port of the node twice", `agent: {gossip: {hostNetwork: true, port: 17946}}`, "give each its own"},
		{"agents on the nodes' network whom servers would not let in", `{agent: {gossip: {hostNetwork: true}}, networkPolicies: {clients: [{namespaceSelector: {}}]}}`, "add the nodes' network to networkPolicies.clients"},
		{"a level that is none", `logLevel: loud`, "value must be one of 'debug', 'info', 'warn', 'error'"},
		{"a name that no object can have", `fullnameOverride: Rollcall_1`, "at '/fullnameOverride'"},
		{"a priority that is the system's", `priorityClass: {value: 2000000000}`, "at '/priorityClass/value': maximum"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := theHelm(t).Template(t.Context(), "--values", valuesFile(t, c.values))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v\nwant it to say %q", err, c.want)
			}
		})
	}
}
