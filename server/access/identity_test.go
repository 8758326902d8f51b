package access

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"

	"github.com/rollcall-dev/rollcall/server"
)

func TestAClientIsWhomItsCredentialNames(t *testing.T) {
	const (
		connect     = server.Connect
		watch       = server.Watch
		report      = server.Report
		impersonate = server.Impersonate
	)
	app := serviceAccount("im", "app", "web-7d4f-x2x", "n1")
	agent := serviceAccount("rollcall-system", "rollcall-agent", "rollcall-agent-8xk", "n1")
	unbound := serviceAccount("rollcall-system", "rollcall-agent", "", "")
	members := server.Credentials{Namespace: "im", Presence: "android", Kind: server.Clients}
	nodes := server.Credentials{Namespace: "rollcall-system", Presence: "nodes", Kind: server.Nodes}
	foreign := server.Credentials{Namespace: "im", Presence: "nodes", Kind: server.Nodes}
	for _, tt := range []struct {
		name   string
		who    identity
		where  server.Credentials
		client string
		has    server.Rights
		want   server.Rights
	}{
		{"its ServiceAccount", app, members, "app", connect | watch, connect | watch},
		{"its ServiceAccount and more", app, members, "app-1", connect, connect},
		{"its ServiceAccount and a dot", app, members, "app.1", connect, connect},
		{"its pod", app, members, "web-7d4f-x2x", connect, connect},
		{"its pod and a worker", app, members, "web-7d4f-x2x:3", connect, connect},
		{"another pod of the same kind", app, members, "web-7d4f-y3y", connect, 0},
		{"a name that only begins like it", app, members, "apple", connect, 0},
		{"another name", app, members, "b", connect | watch, watch},
		{"another name, as a gateway", app, members, "b", connect | impersonate, connect | impersonate},
		{"its own name, as a gateway", app, members, "app", connect | impersonate, connect},
		{"no right", app, members, "app", impersonate, 0},
		{"a report from a client", app, members, "app", connect | report, connect},

		{"the agent of its node", agent, nodes, "n1:0", connect | report, connect | report},
		{"its other session", agent, nodes, "n1:1", connect | report, connect | report},
		{"its probe", agent, nodes, "probe:n1:7", connect | report, connect | report},
		{"who speaks for the kernel of its node", agent, nodes, "kernel:n1:0", connect | report, connect | report},
		{"who speaks for another's kernel", agent, nodes, "kernel:n2:0", connect | report, 0},
		{"a third session for the kernel", agent, nodes, "kernel:n1:2", connect | report, 0},
		{"the agent of another node", agent, nodes, "n2:0", connect | report, 0},
		{"the agent of another node, as a gateway", agent, nodes, "n2:0", connect | report | impersonate, 0},
		{"a probe of another node", agent, nodes, "probe:n2:0", connect | report, 0},
		{"a probe of a node that begins like it", agent, nodes, "probe:n10:0", connect | report, 0},
		{"a third session", agent, nodes, "n1:2", connect | report, 0},
		{"its own ServiceAccount among nodes", agent, nodes, "rollcall-agent:0", connect | report, 0},
		{"an agent without the right to report", agent, nodes, "n1:0", connect, 0},
		{"an agent without the right to connect", agent, nodes, "n1:0", report, 0},
		{"a token that names no node", unbound, nodes, ":0", connect | report, 0},
		{"nodes of another namespace", agent, foreign, "n1:0", connect | report, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.where
			c.ClientID = tt.client
			if got := tt.who.narrow(c, tt.has, "rollcall-system"); got != tt.want {
				t.Errorf("%q, want %q", describe(got), describe(tt.want))
			}
		})
	}
}

func TestACertificateIsNobodyOfTheCluster(t *testing.T) {
	who, err := certificate(&x509.Certificate{Subject: pkix.Name{
		CommonName: "system:serviceaccount:im:app", Organization: []string{"system:masters", "two words", "a\nsystem:masters"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := who.subject.Value()
	if s.user != "certificate:system:serviceaccount:im:app" {
		t.Errorf("user %q", s.user)
	}
	want := []string{"certificate:system:masters", "certificate:two words", "rollcall:certificates"}
	if got := s.groupList(); len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("groups %q, want %q", got, want)
	}
	if _, err := certificate(&x509.Certificate{}); err == nil {
		t.Error("a certificate without a name is somebody")
	}
}
