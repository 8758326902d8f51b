package agent

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rollcall-dev/rollcall/agent/probe"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

// question is how a server that is not Rollcall's own is asked, as its Presence
// has it, in a form that can be compared; empty: as a heartbeat server is.
func question(spec v1alpha1.ProbeSpec) string {
	if spec.Heartbeats() {
		return ""
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return "" // strings, numbers and lists of them can always be written
	}
	return string(b)
}

// way makes of a question what asks it; secrets are those that questions name.
func way(t probe.Target, secrets *secrets) (probe.Way, error) {
	var spec v1alpha1.ProbeSpec
	if err := json.Unmarshal([]byte(t.Question), &spec); err != nil {
		return nil, fmt.Errorf("servers.probe: %w", err)
	}
	switch {
	case spec.HTTP != nil:
		return httpWay(spec.HTTP, t, secrets)
	case spec.GRPC != nil:
		config, err := tlsOf(spec.GRPC.TLS)
		return &probe.GRPC{Address: t.Address, Service: spec.GRPC.Service, TLS: config}, err
	case spec.TCP != nil:
		return tcpWay(spec.TCP)
	}
	return nil, errors.New("servers.probe: no kind of probe that this agent knows is set")
}

func httpWay(spec *v1alpha1.HTTPProbe, t probe.Target, secrets *secrets) (probe.Way, error) {
	config, err := tlsOf(spec.TLS)
	if err != nil {
		return nil, err
	}
	expected := spec.Codes
	if len(expected) == 0 {
		expected = []string{"200-399"}
	}
	codes, err := probe.ParseCodes(expected)
	if err != nil {
		return nil, fmt.Errorf("servers.probe.http.codes: %w", err)
	}
	w := &probe.HTTP{Address: t.Address, Host: spec.Host, Path: spec.Path, Headers: http.Header{}, Codes: codes, TLS: config}
	if w.Path == "" {
		w.Path = "/"
	}
	for _, h := range spec.Headers {
		w.Headers.Set(h.Name, h.Value)
	}
	if from := spec.HeadersFrom; from != nil {
		if config == nil || config.InsecureSkipVerify {
			return nil, errors.New("servers.probe.http.headersFrom needs tls.serverName: without it no certificate is verified, and anybody may read the Secret")
		}
		namespace, _, _ := strings.Cut(t.Server, "/")
		w.Credentials = secrets.of(types.NamespacedName{Namespace: namespace, Name: from.SecretRef.Name})
	}
	return w, nil
}

func tcpWay(spec *v1alpha1.TCPProbe) (probe.Way, error) {
	config, err := tlsOf(spec.TLS)
	if err != nil {
		return nil, err
	}
	send, err := probe.Unescape(spec.Send)
	if err != nil {
		return nil, fmt.Errorf("servers.probe.tcp.send: %w", err)
	}
	expect, err := probe.Unescape(spec.Expect)
	if err != nil {
		return nil, fmt.Errorf("servers.probe.tcp.expect: %w", err)
	}
	return &probe.TCP{Send: send, Expect: expect, Single: spec.Once, TLS: config}, nil
}

// tlsOf is how TLS is spoken; nil: not at all.
func tlsOf(spec *v1alpha1.ProbeTLS) (*tls.Config, error) {
	if spec == nil {
		return nil, nil //nolint:nilnil // plain is no error
	}
	switch {
	case spec.ServerName == "" && spec.CABundle != "":
		return nil, errors.New("servers.probe tls.caBundle needs tls.serverName: without it no certificate is verified")
	case spec.ServerName == "":
		// What is learnt is only how soon it answers, and nothing secret is sent: see httpWay.
		return &tls.Config{InsecureSkipVerify: true}, nil //nolint:gosec // as its owner has asked for, and as kubelet's probes do
	}
	config := &tls.Config{ServerName: spec.ServerName, MinVersion: tls.VersionTLS12}
	if spec.CABundle != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(spec.CABundle)) {
			return nil, errors.New("servers.probe tls.caBundle holds no certificate in PEM")
		}
	}
	return config, nil
}

// phaseOf is when in each turn this agent asks a server: observers are spread by
// their names, which are not in step.
func phaseOf(node, server string, every time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(node + " " + server)) // never fails
	return time.Duration(h.Sum64() % uint64(every))
}
