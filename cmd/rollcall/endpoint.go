package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

// errStarting is what /readyz says until the part has all that it needs.
var errStarting = errors.New("starting: etcd or the Kubernetes API has not answered yet")

// endpoint is a part's own HTTP server. It answers from the first moment, alive
// and not ready, so that a part that waits for etcd is not taken for a dead one.
type endpoint struct {
	*http.ServeMux // takes handlers at any time
	ready          atomic.Pointer[func() error]
}

// serveHTTP serves metrics and health in group until ctx ends, if that is wanted.
func (o *common) serveHTTP(ctx context.Context, group *errgroup.Group, gatherer prometheus.Gatherer) *endpoint {
	e := &endpoint{ServeMux: http.NewServeMux()}
	e.readyWhen(func() error { return errStarting })
	e.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	e.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	e.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := (*e.ready.Load())(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	if o.http != "" {
		group.Go(func() error { return e.serve(ctx, o.http) })
	}
	return e
}

// readyWhen has check decide what /readyz says from now on.
func (e *endpoint) readyWhen(check func() error) { e.ready.Store(&check) }

func (e *endpoint) serve(ctx context.Context, address string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return portInUse("http", address, err)
	}
	server := &http.Server{Handler: e, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	done := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer done()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving --http: %w", err)
	}
	return nil
}
