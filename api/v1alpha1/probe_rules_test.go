package v1alpha1_test

import (
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The messages of the probes' rules, as their markers have them.
const (
	msgPath        = "probe.http.path must begin with / and hold no spaces, such as /healthz"
	msgHost        = "probe.http.host must be a host name, with a port if need be"
	msgHeader      = "probe.http.headers.name must be the name of a header, and none of Host (use probe.http.host), Connection, Content-Length and Transfer-Encoding"
	msgHeadersFrom = "probe.http.headersFrom needs probe.http.tls.serverName: where no certificate is verified, whoever stands in between reads the Secret"
	msgSecretRef   = "probe.http.headersFrom.secretRef.name must be the name of a Secret in the Presence's namespace"
	msgCodes       = "probe.http.codes must be status codes or ranges of them, such as 200 or 200-399"
	msgServerName  = "tls.serverName must be the DNS name that the server's certificate is for"
	msgCABundle    = "tls.caBundle needs tls.serverName, the DNS name that the server's certificate is for: without it no certificate is verified"
	msgSend        = `probe.tcp.send: after a backslash comes one of r, n, t, \ and xNN (a byte in hexadecimal), such as PING\r\n`
	msgExpect      = `probe.tcp.expect: after a backslash comes one of r, n, t, \ and xNN (a byte in hexadecimal), such as +PONG`
)

var probeRules = []struct {
	name, probe string
	want        []refusal // none: accepted
}{
	{"http needs nothing more", `http: {}`, nil},
	{"http with everything", `http: {path: "/healthz?deep=1", host: "web.example:8080", headers: [{name: X-Probe, value: "1"}], codes: ["200", "300-399"], tls: {serverName: web.example}}`, nil},
	{"grpc needs nothing more", `grpc: {}`, nil},
	{"grpc with everything", `grpc: {service: chat.v1, tls: {}}`, nil},
	{"tcp with a question and its answer", `tcp: {send: 'PING\r\n', expect: +PONG}`, nil},
	{"tcp with bytes", `tcp: {send: '\x00\xFFa\\', expect: '\x01', once: true}`, nil},
	{"two kinds are refused", `{http: {}, grpc: {}}`, []refusal{{"spec.servers.probe", msgProbe}}},
	{"a path without a slash is refused", `http: {path: healthz}`, []refusal{{"spec.servers.probe.http.path", msgPath}}},
	{"a path with a space is refused", `http: {path: "/a b"}`, []refusal{{"spec.servers.probe.http.path", msgPath}}},
	{"a host with a line's end is refused", `http: {host: "a\r\nX: y"}`, []refusal{{"spec.servers.probe.http.host", msgHost}}},
	{"the Host header is refused", `http: {headers: [{name: hOst, value: a}]}`, []refusal{{"spec.servers.probe.http.headers[0].name", msgHeader}}},
	{"a header's value with a line's end is refused", `http: {headers: [{name: A, value: "a\nB: c"}]}`, []refusal{{"spec.servers.probe.http.headers[0].value", "probe.http.headers.value must be printable"}}},
	{"a status code of another kind is refused", `http: {codes: [ok]}`, []refusal{{"spec.servers.probe.http.codes", msgCodes}}},
	{"a server name with a slash is refused", `http: {tls: {serverName: "a/b"}}`, []refusal{{"spec.servers.probe.http.tls.serverName", msgServerName}}},
	{"authorities with the name that they vouch for", `http: {tls: {serverName: web.example, caBundle: PEM}}`, nil},
	{"authorities without a name are refused", `http: {tls: {caBundle: PEM}}`, []refusal{{"spec.servers.probe.http.tls", msgCABundle}}},
	{"authorities with an empty name are refused", `grpc: {tls: {serverName: "", caBundle: PEM}}`, []refusal{{"spec.servers.probe.grpc.tls", msgCABundle}}},
	{"headers from a Secret, to whom the certificate is for", `http: {headersFrom: {secretRef: {name: web-probe}}, tls: {serverName: web.example}}`, nil},
	{"headers from a Secret in the clear are refused", `http: {headersFrom: {secretRef: {name: web-probe}}}`, []refusal{{"spec.servers.probe.http", msgHeadersFrom}}},
	{"headers from a Secret to anybody are refused", `http: {headersFrom: {secretRef: {name: web-probe}}, tls: {}}`, []refusal{{"spec.servers.probe.http", msgHeadersFrom}}},
	{"headers from a Secret of another namespace are refused", `http: {headersFrom: {secretRef: {name: other/web-probe}}, tls: {serverName: web.example}}`, []refusal{{"spec.servers.probe.http.headersFrom.secretRef.name", msgSecretRef}}},
	{"an unknown escape is refused", `tcp: {send: '\q', expect: a}`, []refusal{{"spec.servers.probe.tcp.send", msgSend}}},
	{"half a byte is refused", `tcp: {send: a, expect: '\x1'}`, []refusal{{"spec.servers.probe.tcp.expect", msgExpect}}},
}

func TestProbeRules(t *testing.T) {
	a := newAPI(t)
	for _, tt := range probeRules {
		t.Run(tt.name, func(t *testing.T) {
			o := a.object(t, "Presence", "", `servers: {selector: {matchLabels: {a: b}}, port: web, probe: {`+trimmed(tt.probe)+`}}`)
			checkRefused(t, a.Create(t.Context(), o, client.DryRunAll, client.FieldValidation("Strict")), tt.want...)
		})
	}
}

// trimmed is a flow mapping without its braces.
func trimmed(s string) string {
	if s[0] == '{' {
		return s[1 : len(s)-1]
	}
	return s
}
