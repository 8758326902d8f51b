package clienttest

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server"
)

// beServer, in the environment, makes a process a server; its value is an order.
const beServer = "ROLLCALL_TEST_SERVER"

// order is what a server process is to be.
type order struct {
	Endpoints   []string
	Name        string
	Listen      string
	ConnectRate float64
	Capacity    int
	Grace       time.Duration
	Cert, Key   string
}

// Main is to be called first in TestMain: in a process that Start has made it
// serves, until its standard input ends, and does not return.
func Main() {
	value := os.Getenv(beServer)
	if value == "" {
		return
	}
	if err := serve(value); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(value string) error {
	var o order
	if err := json.Unmarshal([]byte(value), &o); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	st, err := store.Open(ctx, store.Config{Endpoints: o.Endpoints})
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }() // the process ends
	faults := server.NewFaults()
	config := server.Config{
		Name: o.Name, Namespace: Namespace, Incarnation: Incarnation(o.Name), Listen: o.Listen, Capacity: o.Capacity,
		ConnectRate: o.ConnectRate, ConnectBurst: int(o.ConnectRate / 10),
		Store: st, Presences: presences{o.Grace}, Authenticator: everybody{}, Faults: faults, Logger: slog.New(slog.DiscardHandler),
	}
	if o.Cert != "" {
		shown, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return err
		}
		config.Listen, config.ListenTLS, config.ListenUDP = "", o.Listen, o.Listen
		config.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{shown}}
	}
	s, err := server.New(config)
	if err != nil {
		return err
	}
	go command(faults, stop)
	go func() {
		for tick := time.NewTicker(10 * time.Millisecond); s.Ready() != nil; <-tick.C {
		}
		fmt.Println(s.Addr())
	}()
	if err := s.Run(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// command takes answer delays from the standard input, one a line, until it ends.
func command(f *server.Faults, stop func()) {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if d, err := time.ParseDuration(lines.Text()); err == nil {
			f.SetAnswerDelay(d)
		}
	}
	stop()
}

// presences knows im/android.
type presences struct{ grace time.Duration }

func (p presences) Lookup(namespace, name string) (server.Presence, bool) {
	return server.Presence{Kind: server.Clients, MinInterval: time.Second, MaxInterval: time.Minute, Grace: p.grace},
		namespace == "im" && name == "android"
}

// everybody may connect and watch, but with the password "wrong".
type everybody struct{}

func (everybody) Authenticate(_ context.Context, c server.Credentials) (server.Principal, error) {
	if string(c.Password) == "wrong" {
		return server.Principal{}, server.ErrCredentials
	}
	return server.Principal{Name: "test", Rights: server.Connect | server.Watch}, nil
}
