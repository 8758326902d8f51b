package controllers

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/rollcall-dev/rollcall/internal/store"
	"github.com/rollcall-dev/rollcall/internal/store/storetest"
)

func TestAnAPIServerThatIsAwayIsWaitedFor(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	s, err := store.Open(t.Context(), store.Config{
		Endpoints: storetest.Etcd(t), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := New(Config{
		Store: s, RestConfig: &rest.Config{Host: "https://127.0.0.1:1"}, Namespace: "rollcall-system", ID: "one",
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := c.Run(ctx); err != nil {
		t.Errorf("Run ended before it was told to: %v", err)
	}
	if ctx.Err() == nil {
		t.Error("Run did not wait")
	}
	if c.Ready() == nil || c.Leading() {
		t.Error("it is ready, or leads, and has seen nothing")
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{
		Store: &store.Store{}, RestConfig: &rest.Config{}, Namespace: "rollcall-system", ID: "one",
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	for name, spoil := range map[string]func(*Config){
		"no store":      func(c *Config) { c.Store = nil },
		"no API server": func(c *Config) { c.RestConfig = nil },
		"no namespace":  func(c *Config) { c.Namespace = "" },
		"no name":       func(c *Config) { c.ID = "" },
		"no logger":     func(c *Config) { c.Logger = nil },
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			bad := good
			spoil(&bad)
			if _, err := New(bad); err == nil {
				t.Error("it was taken")
			}
		})
	}
}
