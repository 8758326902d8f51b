// Package certificate keeps certificates that were read from files, and reads
// them anew when the files have changed: whoever renews them restarts nothing.
// It makes no certificate, and decides nobody's rights.
package certificate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// checkEvery is how often the files are looked at, at most: at handshakes.
const checkEvery = time.Second

// Config says which files. Logger is required.
type Config struct {
	// Cert and Key are PEM files with this part's own certificate, and go
	// together; empty: none.
	Cert, Key string
	// CA is a PEM file with the authorities that sign the other side's; empty:
	// the system's for servers, none for clients.
	CA     string
	Logger *slog.Logger
	// Now is for tests; nil: time.Now.
	Now func() time.Time
}

// Files are certificates as they are in files. Safe for concurrent use.
type Files struct {
	cfg Config

	mu      sync.Mutex
	checked time.Time
	seen    [3]os.FileInfo // of Cert, Key, CA, when they were read
	pair    *tls.Certificate
	pool    *x509.CertPool // nil: no CA
	server  *tls.Config    // made of them; nil: not yet
}

// New reads the files.
func New(cfg Config) (*Files, error) {
	if (cfg.Cert == "") != (cfg.Key == "") {
		return nil, errors.New("a certificate and its key go together")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := &Files{cfg: cfg, checked: cfg.Now()}
	seen, err := f.stat()
	if err != nil {
		return nil, err
	}
	return f, f.read(seen)
}

// Server is how a server speaks TLS. Clients may show a certificate where there
// is a CA, and must where required.
func (f *Files) Server(required bool) *tls.Config {
	auth := tls.NoClientCert
	if f.cfg.CA != "" {
		auth = tls.VerifyClientCertIfGiven
	}
	if required {
		auth = tls.RequireAndVerifyClientCert
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.refresh()
			if f.server == nil {
				f.server = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: auth, ClientCAs: f.pool, Certificates: []tls.Certificate{*f.pair}}
			}
			return f.server, nil
		},
	}
}

// Client is how a client speaks TLS on its next connection. name is the
// server's; empty: that of its address.
func (f *Files) Client(name string) *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh()
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: f.pool, ServerName: name}
	if f.pair != nil {
		c.Certificates = []tls.Certificate{*f.pair}
	}
	return c
}

// refresh reads files that have changed. What cannot be read (yet) changes
// nothing. The caller holds mu.
func (f *Files) refresh() {
	now := f.cfg.Now()
	if now.Sub(f.checked) < checkEvery {
		return
	}
	f.checked = now
	seen, err := f.stat()
	if err == nil {
		same := true
		for i := range seen {
			same = same && unchanged(seen[i], f.seen[i])
		}
		if same {
			return
		}
		err = f.read(seen)
	}
	if err != nil {
		f.cfg.Logger.Warn("Certificates could not be read again, those before stay", "error", err)
		return
	}
	f.cfg.Logger.Info("Certificates have changed, and were read again", "cert", f.cfg.Cert, "ca", f.cfg.CA)
}

func unchanged(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (f *Files) stat() (seen [3]os.FileInfo, err error) {
	for i, path := range []string{f.cfg.Cert, f.cfg.Key, f.cfg.CA} {
		if path == "" {
			continue
		}
		if seen[i], err = os.Stat(path); err != nil {
			return seen, err
		}
	}
	return seen, nil
}

func (f *Files) read(seen [3]os.FileInfo) error {
	var pair *tls.Certificate
	var pool *x509.CertPool
	if f.cfg.Cert != "" {
		p, err := tls.LoadX509KeyPair(f.cfg.Cert, f.cfg.Key)
		if err != nil {
			return fmt.Errorf("%s and %s: %w", f.cfg.Cert, f.cfg.Key, err)
		}
		pair = &p
	}
	if f.cfg.CA != "" {
		pem, err := os.ReadFile(f.cfg.CA)
		if err != nil {
			return err
		}
		pool = x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no certificate", f.cfg.CA)
		}
	}
	f.seen, f.pair, f.pool, f.server = seen, pair, pool, nil
	return nil
}

// Handshake makes a connection to address one over TLS, as ForAddress has it.
// Where it fails, the connection is closed.
func Handshake(ctx context.Context, conn net.Conn, address string, config *tls.Config) (*tls.Conn, error) {
	config, err := ForAddress(config, address)
	if err != nil {
		conn.Close()
		return nil, err
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secure, nil
}

// ForAddress is a client's config for the server at address: one that names no
// server expects that of the address.
func ForAddress(config *tls.Config, address string) (*tls.Config, error) {
	if config.ServerName != "" {
		return config, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	config = config.Clone()
	config.ServerName = host
	return config, nil
}
