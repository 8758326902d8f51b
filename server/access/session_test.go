package access

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/prometheus/client_golang/prometheus"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
	"github.com/rollcall-dev/rollcall/server"
)

// android is the only Presence.
type android struct{}

func (android) Lookup(namespace, name string) (server.Presence, bool) {
	return server.Presence{Kind: server.Clients, MinInterval: time.Second, MaxInterval: time.Minute, Grace: time.Second},
		namespace == "im" && name == "android"
}

func TestARevocationEndsTheSessionOfAPod(t *testing.T) {
	in := install(t)
	etcd := storetest.Start(t)
	st, err := store.Open(t.Context(), store.Config{Endpoints: etcd.Endpoints(), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	in.must(err)
	defer st.Close()
	s, err := server.New(server.Config{
		Name: "a", Namespace: "rollcall-system", Incarnation: "a.1", Listen: "127.0.0.1:0", Capacity: 10,
		Store: st, Presences: android{}, Authenticator: in.Access, RevalidateEvery: 50 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	in.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() { cancel(); in.must(<-ended) }()
	in.eventually("the server is ready", func() bool { return s.Ready() == nil })

	token := in.token("im", "app", "app-7d4f-x2x", "n1", "rollcall")
	in.bind("im", "rollcall-client", rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Name: "app", Namespace: "im"})
	gone := make(chan byte, 1)
	connect := func(id string) (byte, error) {
		conn, err := net.Dial("tcp", s.Addr().String())
		in.must(err)
		t.Cleanup(func() { conn.Close() })
		c := paho.NewClient(paho.ClientConfig{
			Conn:               packets.NewThreadSafeConn(conn),
			OnServerDisconnect: func(d *paho.Disconnect) { gone <- d.ReasonCode },
		})
		ack, err := c.Connect(t.Context(), &paho.Connect{
			ClientID: id, KeepAlive: 30, CleanStart: true, Username: "im/android", UsernameFlag: true, Password: []byte(token), PasswordFlag: true,
		})
		if ack == nil {
			return 0, err
		}
		return ack.ReasonCode, err
	}
	in.eventually("the pod is let in", func() bool { _, err := connect("app-7d4f-x2x"); return err == nil })
	if code, err := connect("another"); err == nil || code != packets.ConnackNotAuthorized {
		t.Errorf("as another, %#x, %v, want not authorized", code, err)
	}

	in.must(in.client.RbacV1().RoleBindings("im").Delete(t.Context(), "rollcall-client", metav1.DeleteOptions{}))
	select {
	case code := <-gone:
		if code != packets.DisconnectNotAuthorized {
			t.Errorf("the session ended with %#x, want not authorized", code)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("the session goes on")
	}
}
