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
	dial := func(config *tls.Config, within time.Duration) (*client.Client, error) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return client.Dial(ctx, client.Config{Servers: []string{s.Address}, Presence: "im/android", ClientID: "c", Interval: time.Second, TLS: config})
	}
	c, err := dial(files.Client(""), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(t.Context(), "$rollcall/beat", nil); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	_, err = dial(&tls.Config{MinVersion: tls.VersionTLS12}, time.Second)
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		t.Errorf("a server that anybody could be: %v", err)
	}
}
