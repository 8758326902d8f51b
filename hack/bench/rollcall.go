//go:build linux

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall-dev/rollcall/internal/heap"
	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/server"
)

// everyone is the Presence that all clients are of.
type everyone struct{}

func (everyone) Lookup(namespace, name string) (server.Presence, bool) {
	return server.Presence{Kind: server.Clients, MinInterval: time.Second, MaxInterval: time.Hour, Grace: 5 * time.Second},
		namespace == "bench" && name == "clients"
}

// serveRollcall is `rollcall server`, but that Presences are not looked up in a
// Kubernetes API. It listens for plain TCP, for TLS ("-tls"), or for TLS and for
// datagrams ("-udp"), or for beats by HTTP ("-http").
func serveRollcall(ctx context.Context, p plan, how, listen, etcd string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	registry := prometheus.NewRegistry()
	s, err := store.Open(ctx, store.Config{Endpoints: []string{etcd}, Logger: log, Registerer: registry})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }() // the bench ends with it
	authenticator, err := server.NewAuthenticator("", true)
	if err != nil {
		return err
	}
	config := server.Config{
		Name: "server-0", Namespace: "bench", Incarnation: fmt.Sprintf("pid-%d.%d", os.Getpid(), time.Now().UnixNano()),
		Listen: listen, Loops: p.loops, Capacity: 100_000, ConnectRate: 1e6, // what it can do, not what it is told to
		Store: s, Presences: everyone{}, Authenticator: authenticator, Logger: log, Registerer: registry,
	}
	switch how {
	case "-http":
		config.Listen, config.ListenBeats = "127.0.0.1:0", listen
		config.Capacity = max(config.Capacity, p.sessions)
	case "-tls", "-udp":
		config.Listen, config.ListenTLS = "", listen
		if how == "-udp" {
			config.ListenUDP = listen
		}
		if config.TLS, err = selfSigned(); err != nil {
			return err
		}
	}
	srv, err := server.New(config)
	if err != nil {
		return err
	}
	go func() { _ = heap.Keep(ctx, heap.Config{Percent: p.percent}) }() // as `rollcall server` does
	return srv.Run(ctx)
}
