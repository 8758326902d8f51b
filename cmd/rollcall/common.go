package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// common are the settings of every part.
type common struct {
	logLevel, logFormat string
	http                string
}

func (o *common) flags(f *pflag.FlagSet) {
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "json", "json or text")
	f.StringVar(&o.http, "http", "", "`address` for /metrics, /healthz and /readyz; empty: none")
}

func (o *common) check(c *checks) {
	if err := new(slog.LevelVar).UnmarshalText([]byte(o.logLevel)); err != nil {
		c.fail("log-level", "%q is not debug, info, warn or error", o.logLevel)
	}
	if o.logFormat != "json" && o.logFormat != "text" {
		c.fail("log-format", "%q is not json or text", o.logFormat)
	}
	if o.http != "" {
		c.address("http", o.http, true)
	}
}

// logger makes the one handler that everything feeds: slog, controller-runtime
// and klog.
func (o *common) logger() *slog.Logger {
	var level slog.LevelVar
	_ = level.UnmarshalText([]byte(o.logLevel)) // checked before
	options := &slog.HandlerOptions{Level: &level}
	var handler slog.Handler = slog.NewJSONHandler(os.Stderr, options)
	if o.logFormat == "text" {
		handler = slog.NewTextHandler(os.Stderr, options)
	}
	log := slog.New(handler)
	ctrl.SetLogger(logr.FromSlogHandler(handler))
	klog.SetLogger(logr.FromSlogHandler(handler))
	return log
}

// registry is a part's own, with the process's and Go's metrics.
func registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// portInUse says which setting to change when an address is taken.
func portInUse(flag, address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use by another program: choose another address with --%s", address, flag)
	}
	return fmt.Errorf("--%s: %w", flag, err)
}

// etcdOptions say where the store is.
type etcdOptions struct {
	endpoints     []string
	ca, cert, key string
}

func (o *etcdOptions) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&o.endpoints, "etcd", nil, "etcd `endpoints`, http(s)://host:port, comma separated")
	f.StringVar(&o.ca, "etcd-ca", "", "PEM `file` with the authority that signed etcd's certificates")
	f.StringVar(&o.cert, "etcd-cert", "", "PEM `file` with this part's certificate for etcd")
	f.StringVar(&o.key, "etcd-key", "", "PEM `file` with the key of --etcd-cert")
}

func (o *etcdOptions) check(c *checks) {
	if len(o.endpoints) == 0 {
		c.fail("etcd", "is needed: one or more endpoints, http(s)://host:port, comma separated")
	}
	for _, e := range o.endpoints {
		u, err := url.Parse(e)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Port() == "" || strings.Trim(u.Path, "/") != "" {
			c.fail("etcd", "%q is not an endpoint: write http://host:port or https://host:port", e)
		}
	}
	if (o.cert == "") != (o.key == "") {
		c.fail("etcd-cert", "and --etcd-key go together")
	}
}

// tls reads the files; nil where none is given.
func (o *etcdOptions) tls() (*tls.Config, error) {
	if o.ca == "" && o.cert == "" {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.ca != "" {
		pem, err := os.ReadFile(o.ca)
		if err != nil {
			return nil, fmt.Errorf("--etcd-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--etcd-ca %s holds no certificate", o.ca)
		}
	}
	if o.cert != "" {
		// Read anew at each handshake, so that a renewed certificate needs no restart.
		if _, err := tls.LoadX509KeyPair(o.cert, o.key); err != nil {
			return nil, fmt.Errorf("--etcd-cert: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(o.cert, o.key)
			return &pair, err
		}
	}
	return config, nil
}

func (o *etcdOptions) open(ctx context.Context, log *slog.Logger, r prometheus.Registerer) (*store.Store, error) {
	config, err := o.tls()
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Config{Endpoints: o.endpoints, TLS: config, Logger: log, Registerer: r})
}

// kubeOptions say where the Kubernetes API is.
type kubeOptions struct{ kubeconfig string }

func (o *kubeOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig `file`; empty: the pod's own service account")
}

func (o *kubeOptions) rest() (*rest.Config, error) {
	if o.kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, errors.New("--kubeconfig is needed outside a cluster: no service account was found in this environment")
		}
		return config, nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	return config, nil
}

// token reads a credential from a file, anew at each call, so that a renewed
// one is used without a restart.
func token(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		raw, err := os.ReadFile(path)
		return strings.TrimSpace(string(raw)), err
	}
}

// runPart runs what start begins, all in one group, until ctx ends or one of it
// fails. Its error is a failure, not one of usage.
func runPart(ctx context.Context, start func(ctx context.Context, group *errgroup.Group) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return start(ctx, group) })
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return failure{err}
	}
	return nil
}
