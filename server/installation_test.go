package server_test

import (
	"testing"

	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/server"
)

func init() {
	known["im/theirs"] = server.Presence{Kind: server.Clients, Foreign: true, Installation: "rollcall-b"}
	known["im/default"] = server.Presence{Kind: server.Clients, Foreign: true}
}

func TestClientsOfAnotherInstallationAreToldWhereTheyBelong(t *testing.T) {
	a := start(t, storetest.Etcd(t), "a")
	for presence, want := range map[string]string{
		"im/theirs":  "Presence im/theirs belongs to the installation of Rollcall in namespace rollcall-b: connect to the servers of that one",
		"im/default": "Presence im/default belongs to the cluster's default installation of Rollcall: connect to the servers of that one",
	} {
		r := dial(t, a.addr())
		r.send(connect5bytes("c", presence, "alice", 20))
		if ack := r.connack(0x86); ack.Properties.ReasonString != want {
			t.Errorf("%s: %q", presence, ack.Properties.ReasonString)
		}
	}
}
