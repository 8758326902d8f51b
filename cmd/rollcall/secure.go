package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"

	"github.com/spf13/pflag"

	"github.com/rollcall-dev/rollcall/internal/certificate"
)

// tlsClientOptions say how a part speaks TLS with heartbeat servers. Files are
// read anew when they change.
type tlsClientOptions struct {
	prefix    string // of the flags
	on        bool
	ca, name  string
	cert, key string
}

func (o *tlsClientOptions) flags(f *pflag.FlagSet) {
	f.BoolVar(&o.on, o.prefix+"tls", false, "speak TLS with heartbeat servers")
	f.StringVar(&o.ca, o.prefix+"tls-ca", "", "PEM `file` with the authority that signed the servers' certificates; empty: the system's")
	f.StringVar(&o.name, o.prefix+"tls-server-name", "", "`name` that the servers' certificates must have; empty: that of the address")
	f.StringVar(&o.cert, o.prefix+"tls-cert", "", "PEM `file` with a client certificate")
	f.StringVar(&o.key, o.prefix+"tls-key", "", "PEM `file` with the key of --"+o.prefix+"tls-cert")
}

func (o *tlsClientOptions) check(c *checks) {
	if (o.cert == "") != (o.key == "") {
		c.fail(o.prefix+"tls-cert", "and --%stls-key go together", o.prefix)
	}
	if !o.on && (o.ca != "" || o.name != "" || o.cert != "") {
		c.fail(o.prefix+"tls", "is needed with --%[1]stls-ca, --%[1]stls-server-name and --%[1]stls-cert", o.prefix)
	}
}

// config is how to speak TLS on the next connection; nil: not at all.
func (o *tlsClientOptions) config(log *slog.Logger) (func() *tls.Config, error) {
	if !o.on {
		return nil, nil
	}
	files, err := certificate.New(certificate.Config{Cert: o.cert, Key: o.key, CA: o.ca, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-ca: %w", err)
	}
	return func() *tls.Config { return files.Client(o.name) }, nil
}

// dialer opens connections of that kind; nil: plain TCP.
func (o *tlsClientOptions) dialer(log *slog.Logger) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	config, err := o.config(log)
	if config == nil || err != nil {
		return nil, err
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return certificate.Handshake(ctx, conn, address, config())
	}, nil
}

// tlsServerOptions say how a heartbeat server speaks TLS. Files are read anew
// when they change.
type tlsServerOptions struct {
	listen        string
	cert, key, ca string
	required      bool
}

func (o *tlsServerOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.listen, "tls-listen", "", "`address` for MQTT over TLS; empty: none")
	f.StringVar(&o.cert, "tls-cert", "", "PEM `file` with this server's certificate")
	f.StringVar(&o.key, "tls-key", "", "PEM `file` with the key of --tls-cert")
	f.StringVar(&o.ca, "tls-client-ca", "", "PEM `file` with the authority that signs clients' certificates: who shows one and no token is its common name")
	f.BoolVar(&o.required, "tls-client-required", false, "turn clients away who show no certificate of --tls-client-ca")
}

func (o *tlsServerOptions) check(c *checks) {
	if o.listen == "" {
		if o.cert != "" || o.key != "" || o.ca != "" || o.required {
			c.fail("tls-listen", "is needed with --tls-cert, --tls-key, --tls-client-ca and --tls-client-required")
		}
		return
	}
	c.address("tls-listen", o.listen, true)
	c.needed("tls-cert", o.cert)
	c.needed("tls-key", o.key)
	if o.required && o.ca == "" {
		c.fail("tls-client-required", "goes with --tls-client-ca")
	}
}

// config is nil where there is no TLS.
func (o *tlsServerOptions) config(log *slog.Logger) (*tls.Config, error) {
	if o.listen == "" {
		return nil, nil
	}
	files, err := certificate.New(certificate.Config{Cert: o.cert, Key: o.key, CA: o.ca, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-client-ca: %w", err)
	}
	return files.Server(o.required), nil
}
