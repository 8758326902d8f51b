package agent

import (
	"strings"
	"testing"

	"github.com/rollcall-dev/rollcall/agent/probe"
	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

func ask(t *testing.T, spec v1alpha1.ProbeSpec) (probe.Way, error) {
	t.Helper()
	q := question(spec)
	if q == "" {
		t.Fatalf("%+v is a question to a heartbeat server", spec)
	}
	return way(probe.Target{Server: "im/web-0", Address: "10.0.0.1:8080", Question: q}, &secrets{})
}

func TestHeartbeatServersAreAskedAsSuch(t *testing.T) {
	for _, spec := range []v1alpha1.ProbeSpec{{}, {MQTT: &v1alpha1.MQTTProbe{}}} {
		if q := question(spec); q != "" {
			t.Errorf("%+v asks %q", spec, q)
		}
	}
}

func TestWayOfHTTP(t *testing.T) {
	w, err := ask(t, v1alpha1.ProbeSpec{HTTP: &v1alpha1.HTTPProbe{
		Host: "web.example", Headers: []v1alpha1.HTTPHeader{{Name: "x-use", Value: "probe"}}, TLS: &v1alpha1.ProbeTLS{ServerName: "web.example"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	h := w.(*probe.HTTP)
	if h.Address != "10.0.0.1:8080" || h.Host != "web.example" || h.Path != "/" || h.Headers.Get("X-Use") != "probe" || h.Codes.String() != "200 to 399" {
		t.Errorf("%+v", h)
	}
	if h.TLS == nil || h.TLS.InsecureSkipVerify || h.TLS.ServerName != "web.example" {
		t.Errorf("TLS %+v is not verified for web.example", h.TLS)
	}
}

func TestWayOfGRPC(t *testing.T) {
	w, err := ask(t, v1alpha1.ProbeSpec{GRPC: &v1alpha1.GRPCProbe{Service: "chat", TLS: &v1alpha1.ProbeTLS{}}})
	if err != nil {
		t.Fatal(err)
	}
	if g := w.(*probe.GRPC); g.Service != "chat" || g.Address != "10.0.0.1:8080" || g.TLS == nil || !g.TLS.InsecureSkipVerify {
		t.Errorf("%+v", g)
	}
}

func TestWayOfTCP(t *testing.T) {
	w, err := ask(t, v1alpha1.ProbeSpec{TCP: &v1alpha1.TCPProbe{Send: `PING\r\n`, Expect: "+PONG", Once: true}})
	if err != nil {
		t.Fatal(err)
	}
	if c := w.(*probe.TCP); string(c.Send) != "PING\r\n" || string(c.Expect) != "+PONG" || !c.Once() || c.TLS != nil {
		t.Errorf("%+v", c)
	}
}

// What admission lets in by mistake, or a newer API knows, is said in words.
func TestWaysThatCannotBe(t *testing.T) {
	for want, spec := range map[string]v1alpha1.ProbeSpec{
		"probe.tcp.send":   {TCP: &v1alpha1.TCPProbe{Send: `\q`, Expect: "a"}},
		"probe.tcp.expect": {TCP: &v1alpha1.TCPProbe{Send: `q`, Expect: `\x1`}},
		"probe.http.codes": {HTTP: &v1alpha1.HTTPProbe{Codes: []string{"well"}}},
		"tls.caBundle":     {HTTP: &v1alpha1.HTTPProbe{TLS: &v1alpha1.ProbeTLS{ServerName: "a", CABundle: "no PEM"}}},
		"tls.serverName":   {TCP: &v1alpha1.TCPProbe{Send: "a", Expect: "a", TLS: &v1alpha1.ProbeTLS{CABundle: "PEM"}}},
	} {
		if _, err := ask(t, spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error that names %s", spec, err, want)
		}
	}
	if _, err := way(probe.Target{Question: `{"smtp":{}}`}, &secrets{}); err == nil || !strings.Contains(err.Error(), "no kind of probe that this agent knows") {
		t.Errorf("a kind that is not known: %v", err)
	}
}

func TestObserversOfOneServerAreNotInStep(t *testing.T) {
	every := probe.ServiceEvery(3)
	seen := map[int64]bool{}
	for _, node := range []string{"a", "b", "c"} {
		phase := phaseOf(node, "im/web-0", every)
		if phase < 0 || phase >= every {
			t.Errorf("phase %v is not within %v", phase, every)
		}
		seen[phase.Milliseconds()] = true
	}
	if len(seen) != 3 {
		t.Errorf("they ask at %v ms", seen)
	}
}
