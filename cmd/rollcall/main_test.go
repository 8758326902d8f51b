package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runHere carries out a command line, and returns its exit status and what it
// said on stderr.
func runHere(t *testing.T, environ []string, args ...string) (status int, stderr string) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stderr
	os.Stderr = write
	defer func() { os.Stderr = old }()
	status = run(t.Context(), args, environ)
	write.Close()
	said, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	return status, string(said)
}

func TestBadSettingsAreOneLineAndStatus2BeforeAnythingStarts(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	kubeconfig := file("kubeconfig", "{apiVersion: v1, kind: Config, clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}], contexts: [{name: c, context: {cluster: c}}], current-context: c}")
	goodServer := []string{"server", "--name", "s", "--namespace", "n", "--listen", "127.0.0.1:0", "--advertise", "127.0.0.1:1883", "--etcd", "http://127.0.0.1:2379", "--anonymous"}
	tests := []struct {
		name    string
		environ []string
		args    []string
		says    string
	}{
		{name: "no subcommand", args: nil, says: "a subcommand is needed"},
		{name: "an unknown subcommand", args: []string{"serve"}, says: `unknown command "serve"`},
		{name: "an unknown flag", args: []string{"server", "--prot"}, says: "unknown flag: --prot"},
		{name: "an argument that is none", args: []string{"agent", "now"}, says: `"now"`},
		{name: "a flag without its value", args: []string{"server", "--name"}, says: "--name"},
		{name: "a number that is none", args: []string{"crowd", "--count", "many"}, says: "--count"},
		{name: "a needed setting is missing", args: []string{"controller", "--namespace", "n"}, says: "--etcd is needed"},
		{name: "an address without a port", args: append(goodServer, "--advertise", "10.0.0.1"), says: `--advertise "10.0.0.1" is not an address`},
		{name: "an address with a port out of range", args: append(goodServer, "--advertise", "10.0.0.1:99999"), says: "--advertise"},
		{name: "an etcd endpoint without a scheme", args: append(goodServer, "--etcd", "127.0.0.1:2379"), says: "is not an endpoint"},
		{name: "half of a key pair", args: append(goodServer, "--etcd-cert", "c.pem"), says: "--etcd-key"},
		{name: "an unknown log level", args: append(goodServer, "--log-level", "loud"), says: `--log-level "loud" is not debug`},
		{name: "neither credentials nor anonymous", args: goodServer[:len(goodServer)-1], says: "--tokens is needed"},
		{name: "TLS without a certificate", args: append(goodServer, "--tls-listen", ":8883"), says: "--tls-cert is needed; --tls-key is needed"},
		{name: "a certificate without TLS", args: append(goodServer, "--tls-cert", "c.pem"), says: "--tls-listen is needed"},
		{name: "a certificate that is not there", args: append(goodServer, "--kubeconfig", kubeconfig, "--tls-listen", ":8883", "--tls-cert", filepath.Join(dir, "none"), "--tls-key", "k"), says: "--tls-cert"},
		{name: "certificates that are required of nobody", args: append(goodServer, "--tls-listen", ":8883", "--tls-cert", "c", "--tls-key", "k", "--tls-client-required"), says: "--tls-client-ca"},
		{name: "headers from nobody", args: append(goodServer, "--proxy-protocol", "listen"), says: "--proxy-trusted is needed"},
		{name: "headers on no listener", args: append(goodServer, "--proxy-protocol", "tls-listen", "--proxy-trusted", "10.0.0.0/24"), says: "on which nothing listens"},
		{name: "a network that is none", args: append(goodServer, "--proxy-protocol", "listen", "--proxy-trusted", "10.0.0.1"), says: "is not a network"},
		{name: "a network with an address", args: append(goodServer, "--proxy-protocol", "listen", "--proxy-trusted", "10.0.0.1/24"), says: "write 10.0.0.0/24"},
		{name: "headers from everybody", args: append(goodServer, "--balanced-listen", ":8884", "--proxy-trusted", "0.0.0.0/0"), says: "lets everybody say who they are"},
		{name: "networks for nothing", args: append(goodServer, "--proxy-trusted", "10.0.0.0/24"), says: "does nothing without"},
		{name: "a limit for no listener", args: append(goodServer, "--connections-per-listener", "tls=5"), says: "on which nothing listens"},
		{name: "a limit of none", args: append(goodServer, "--connections-per-listener", "listen=0"), says: "must be at least 1"},
		{name: "a negative limit", args: append(goodServer, "--connections-per-address", "-1"), says: "must not be negative"},
		{name: "beats over TLS without a certificate", args: append(goodServer, "--beats-tls-listen", ":8443"), says: "--beats-tls-listen needs --tls-listen"},
		{name: "an address for no beats", args: append(goodServer, "--beats-advertise", "a:1"), says: "does nothing without"},
		{name: "pings without WebSockets", args: append(goodServer, "--websocket-ping", "30s"), says: "does nothing without"},
		{name: "pings without pause", args: append(goodServer, "--websocket-listen", ":8080", "--websocket-ping", "1ms"), says: "at least 1s"},
		{name: "datagrams without TLS", args: append(goodServer, "--udp-listen", ":8884"), says: "--udp-listen needs --tls-listen"},
		{name: "an address for no datagrams", args: append(goodServer, "--udp-advertise", "10.0.0.1:8884"), says: "--udp-advertise needs --udp-listen"},
		{name: "no address at all", args: append(goodServer, "--listen", ""), says: "--listen or --tls-listen is needed"},
		{name: "keys of no issuer", args: append(goodServer, "--jwt-keys", "https://example.org/keys"), says: "--jwt-issuer is needed"},
		{name: "an issuer without keys", args: append(goodServer, "--jwt-issuer", "https://example.org"), says: "--jwt-audience is needed; --jwt-keys is needed"},
		{name: "keys that anybody could change", args: append(goodServer, "--kubeconfig", kubeconfig, "--jwt-issuer", "i", "--jwt-audience", "a", "--jwt-keys", "http://example.org/keys"), says: "the URL must be https"},
		{name: "an authority without TLS", args: []string{"crowd", "--servers", "127.0.0.1:1", "--presence", "im/android", "--tls-ca", "ca.pem"}, says: "--tls is needed"},
		{name: "an authority that is not there", args: []string{"crowd", "--servers", "127.0.0.1:1", "--presence", "im/android", "--tls", "--tls-ca", filepath.Join(dir, "none")}, says: "--tls-ca"},
		{name: "half of a client's key pair", args: []string{"crowd", "--servers", "127.0.0.1:1", "--presence", "im/android", "--tls", "--tls-cert", "c"}, says: "--tls-key"},
		{name: "an environment variable that is no setting", environ: []string{"ROLLCALL_PROT=1"}, args: goodServer, says: "environment variable ROLLCALL_PROT: there is no such setting"},
		{name: "an environment variable with a bad value", environ: []string{"ROLLCALL_CAPACITY=much"}, args: goodServer, says: "environment variable ROLLCALL_CAPACITY"},
		{name: "a config file that is not there", args: append(goodServer, "--config", filepath.Join(dir, "none")), says: "--config"},
		{name: "an unknown field in the config file", args: append(goodServer, "--config", file("typo", "capasity: 5\n")), says: "capasity: there is no such setting"},
		{name: "a bad value in the config file", args: append(goodServer, "--config", file("bad", "capacity: much\n")), says: "capacity"},
		{name: "a config file that is not YAML", args: append(goodServer, "--config", file("not", "\t{")), says: "--config"},
		{name: "credentials that are not there", args: append(goodServer[:len(goodServer)-1], "--tokens", filepath.Join(dir, "none")), says: "--tokens"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, stderr := runHere(t, tt.environ, tt.args...)
			if status != exitUsage {
				t.Errorf("status %d, want %d", status, exitUsage)
			}
			if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "rollcall: ") {
				t.Errorf("want one line, got %q", stderr)
			}
			if !strings.Contains(stderr, tt.says) {
				t.Errorf("%q does not say %q", stderr, tt.says)
			}
		})
	}
}

func TestFlagsWinOverEnvironmentAndEnvironmentOverTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte("zone: from-file\ncapacity: 100000\nnode: from-file\netcd: [http://a:1, http://b:2]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := serverCommand()
	cmd.Flags().String("config", "", "")
	if err := cmd.ParseFlags([]string{"--config", path, "--name", "from-flag"}); err != nil {
		t.Fatal(err)
	}
	environ := []string{"ROLLCALL_ZONE=from-env", "ROLLCALL_NAME=from-env", "PATH=/bin"}
	if err := applySettings(cmd.Flags(), environ); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"name": "from-flag", "zone": "from-env", "node": "from-file", "capacity": "100000", "etcd": "[http://a:1,http://b:2]"} {
		if got := cmd.Flags().Lookup(name).Value.String(); got != want {
			t.Errorf("--%s is %q, want %q", name, got, want)
		}
	}
}

func TestAPartThatWaitsForEtcdIsAliveAndNotReady(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	config := "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n"
	if err := os.WriteFile(kubeconfig, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"controller", "--namespace", "n", "--etcd", "http://127.0.0.1:1", "--kubeconfig", kubeconfig, "--http", address, "--log-level", "error"}, nil)
	}()
	get := func(path string) (int, string) {
		response, err := http.Get("http://" + address + path)
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body)
	}
	deadline := time.After(time.Minute)
	for status, body := get("/healthz"); status != http.StatusOK; status, body = get("/healthz") {
		select {
		case <-deadline:
			t.Fatalf("/healthz: %d %s", status, body)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if status, body := get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "starting") {
		t.Errorf("/readyz: %d %q, want 503 and why", status, body)
	}
	cancel()
	if status := <-ended; status != 0 {
		t.Errorf("status %d after the end of its context", status)
	}
}
