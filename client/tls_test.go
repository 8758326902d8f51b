package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/rollcall-dev/rollcall/agent/agenttest"
	"github.com/rollcall-dev/rollcall/client"
	"github.com/rollcall-dev/rollcall/internal/certificate"
	"github.com/rollcall-dev/rollcall/internal/certificate/certificatetest"
)

func TestAClientOverTLS(t *testing.T) {
	s := agenttest.NewServer(t, "ns/server-0")
	dir := t.TempDir()
	cert, key, ca := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")
	a := certificatetest.New(t, "test")
	a.Issue("rollcall", cert, key)
	a.Write(ca)
	files, err := certificate.New(certificate.Config{Cert: cert, Key: key, CA: ca, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.Secure(files.Server(false))
	config := client.Config{
		Servers: []string{s.Address}, Presence: "im/android", ClientID: "c", Interval: time.Second, AckTimeout: faultAckTimeout,
		TLS: files.Client(""),
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), "$rollcall/beat", nil); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}

	offline := make(chan client.Event, 100)
	config.TLS, config.OnEvent = &tls.Config{MinVersion: tls.VersionTLS12}, func(e client.Event) { offline <- e }
	c, err = client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if e := <-offline; e.Kind != client.Offline {
		t.Errorf("a server that anybody could be: %+v", e)
	} else if _, ok := errors.AsType[*tls.CertificateVerificationError](e.Err); !ok {
		t.Errorf("a server that anybody could be: %v", e.Err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
