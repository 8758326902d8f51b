package v1alpha1

// ProbeSpec is a union: exactly one kind of probe. Heartbeat servers are probed
// by MQTT; the others are for servers of any kind.
//
// +kubebuilder:validation:XValidation:rule="[has(self.mqtt), has(self.http), has(self.grpc), has(self.tcp)].filter(x, x).size() == 1",message="exactly one kind of probe must be set: one of mqtt, http, grpc and tcp, such as servers.probe: {http: {path: /healthz}}"
type ProbeSpec struct {
	// MQTT keeps a session on the server and pings it: for Rollcall's own heartbeat servers.
	// +optional
	MQTT *MQTTProbe `json:"mqtt,omitempty"`
	// HTTP asks with HTTP/1.1 requests.
	// +optional
	HTTP *HTTPProbe `json:"http,omitempty"`
	// GRPC asks the health service (grpc.health.v1).
	// +optional
	GRPC *GRPCProbe `json:"grpc,omitempty"`
	// TCP sends some bytes, and waits for others.
	// +optional
	TCP *TCPProbe `json:"tcp,omitempty"`
}

// Heartbeats tells whether the servers are Rollcall's own heartbeat servers. Any
// other has no record, and cannot tell its clients to go.
func (p *ProbeSpec) Heartbeats() bool { return p.HTTP == nil && p.GRPC == nil && p.TCP == nil }

// MQTTProbe has no settings yet.
type MQTTProbe struct{}

// ProbeTLS says how TLS is spoken with a server.
//
// +kubebuilder:validation:XValidation:rule="!has(self.caBundle) || size(self.caBundle) == 0 || has(self.serverName) && size(self.serverName) > 0",message="tls.caBundle needs tls.serverName, the DNS name that the server's certificate is for: without it no certificate is verified"
type ProbeTLS struct {
	// ServerName is the name that the server's certificate must be for, and that it
	// is told (SNI); empty: the certificate is not looked at, as kubelet's probes do.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self == '' || self.matches('^[a-zA-Z0-9*]([-a-zA-Z0-9.]*[a-zA-Z0-9])?$')",message="tls.serverName must be the DNS name that the server's certificate is for"
	// +optional
	ServerName string `json:"serverName,omitempty"`
	// CABundle holds PEM certificates of the authorities that serverName is verified
	// against, and is refused without it; empty: those that the agents' image trusts.
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	CABundle string `json:"caBundle,omitempty"`
}

// HTTPProbe is a GET request. An answer counts when it has come whole (64 KiB of it at most).
//
// +kubebuilder:validation:XValidation:rule="!has(self.headersFrom) || has(self.tls) && has(self.tls.serverName) && size(self.tls.serverName) > 0",message="probe.http.headersFrom needs probe.http.tls.serverName: where no certificate is verified, whoever stands in between reads the Secret"
type HTTPProbe struct {
	// Path and query that are asked for.
	// +kubebuilder:default="/"
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^/[!-~]*$')",message="probe.http.path must begin with / and hold no spaces, such as /healthz"
	// +optional
	Path string `json:"path,omitempty"`
	// Host is the Host header; empty: the pod's address.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[!-~]*$')",message="probe.http.host must be a host name, with a port if need be"
	// +optional
	Host string `json:"host,omitempty"`
	// Headers are sent beside those that HTTP needs.
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +optional
	Headers []HTTPHeader `json:"headers,omitempty"`
	// HeadersFrom are headers that not everybody may read who reads the Presence.
	// +optional
	HeadersFrom *HTTPHeadersFrom `json:"headersFrom,omitempty"`
	// Codes are the status codes, or ranges of them, of an answer as it should be.
	// +kubebuilder:default={"200-399"}
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=7
	// +kubebuilder:validation:XValidation:rule="self.all(c, c.matches('^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$'))",message="probe.http.codes must be status codes or ranges of them, such as 200 or 200-399"
	// +listType=set
	// +optional
	Codes []string `json:"codes,omitempty"`
	// TLS makes it HTTPS; absent: plain HTTP.
	// +optional
	TLS *ProbeTLS `json:"tls,omitempty"`
}

// HTTPHeader is one header of a request.
type HTTPHeader struct {
	// Name of the header.
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-A-Za-z0-9_]+$') && !(self.lowerAscii() in ['host', 'connection', 'content-length', 'transfer-encoding'])",message="probe.http.headers.name must be the name of a header, and none of Host (use probe.http.host), Connection, Content-Length and Transfer-Encoding"
	Name string `json:"name"`
	// Value of the header. Anybody who may read the Presence reads it.
	// +kubebuilder:validation:MaxLength=4096
	// +kubebuilder:validation:XValidation:rule="self.matches('^[ -~]*$')",message="probe.http.headers.value must be printable"
	Value string `json:"value"`
}

// HTTPHeadersFrom says where headers are kept.
type HTTPHeadersFrom struct {
	// SecretRef is a Secret of the Presence's namespace: each of its keys is the name
	// of a header, such as Authorization, and what it holds the header's value. The
	// agents need the right to get it, which nothing but a Role of that namespace
	// gives them. Until they can, and while the server answers it with 401 or 403,
	// the server is not judged by its answers.
	// +required
	SecretRef HTTPSecretRef `json:"secretRef"`
}

// HTTPSecretRef names a Secret.
type HTTPSecretRef struct {
	// Name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="probe.http.headersFrom.secretRef.name must be the name of a Secret in the Presence's namespace"
	// +required
	Name string `json:"name"`
}

// GRPCProbe calls grpc.health.v1.Health/Check, which must say SERVING.
type GRPCProbe struct {
	// Service is asked after; empty: the server as a whole.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Service string `json:"service,omitempty"`
	// TLS absent: plain text.
	// +optional
	TLS *ProbeTLS `json:"tls,omitempty"`
}

// TCPProbe is a question and its answer. That a connection can be made says
// nothing: the kernel makes it while the program hangs.
type TCPProbe struct {
	// Send is what is sent. \r, \n, \t, \\ and \xNN stand for those bytes.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^([^\\\\\\\\]|\\\\\\\\[rnt\\\\\\\\]|\\\\\\\\x[0-9a-fA-F]{2})*$')",message="probe.tcp.send: after a backslash comes one of r, n, t, \\ and xNN (a byte in hexadecimal), such as PING\\r\\n"
	// +required
	Send string `json:"send"`
	// Expect is what the answer holds, written likewise; nothing after it is waited for.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^([^\\\\\\\\]|\\\\\\\\[rnt\\\\\\\\]|\\\\\\\\x[0-9a-fA-F]{2})*$')",message="probe.tcp.expect: after a backslash comes one of r, n, t, \\ and xNN (a byte in hexadecimal), such as +PONG"
	// +required
	Expect string `json:"expect"`
	// Once: the protocol ends a connection after one answer, or can't be asked
	// twice; so every question is asked on a new connection.
	// +optional
	Once bool `json:"once,omitempty"`
	// TLS absent: plain TCP.
	// +optional
	TLS *ProbeTLS `json:"tls,omitempty"`
}
