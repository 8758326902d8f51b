// Package service is an ordinary service and its ordinary clients, for the
// end-to-end suite: neither knows anything of Rollcall. The server can be told to
// hang in several ways, and the clients say who answered them, and when nobody did.
package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Speech is the protocol that a service and its clients speak.
type Speech string

// What is spoken.
const (
	HTTP      Speech = "http"
	GRPC      Speech = "grpc"
	WebSocket Speech = "websocket"
)

// usual is how many units of work an answer is.
const usual = 4

// ServerConfig is one server, a pod of the service.
type ServerConfig struct {
	// Name is what every answer says: the pod's.
	Name string
	// Speech of Listener. HTTP and WebSocket are spoken by the same server.
	Speech Speech
	// Listener is for clients and probes, Control for who makes the faults.
	Listener, Control net.Listener
	// Slow is how much longer an answer takes while the server is Slow.
	Slow time.Duration
}

func (c *ServerConfig) validate() error {
	switch {
	case c.Name == "":
		return errors.New("name must say which server it is")
	case c.Listener == nil || c.Control == nil:
		return errors.New("listener and control must both be given")
	case c.Slow <= 0:
		return fmt.Errorf("slow is %s: it must be more than 0s", c.Slow)
	}
	return c.Speech.validate()
}

func (s Speech) validate() error {
	switch s {
	case HTTP, GRPC, WebSocket:
		return nil
	}
	return fmt.Errorf("%q is not spoken: give %s, %s or %s", s, HTTP, GRPC, WebSocket)
}

// Serve serves until ctx ends, and closes both listeners.
func Serve(ctx context.Context, c ServerConfig) error {
	if err := c.validate(); err != nil {
		return err
	}
	w := newWorker(c.Slow)
	listener := &gate{Listener: c.Listener, worker: w, closed: make(chan struct{})}
	serve := func(ctx context.Context) error { return serveHTTP(ctx, listener, pages(c.Name, w)) }
	if c.Speech == GRPC {
		serve = func(ctx context.Context) error { return serveGRPC(ctx, listener, c.Name, w) }
	}
	return together(ctx, serve, func(ctx context.Context) error { return serveHTTP(ctx, c.Control, controls(w)) })
}

// together runs all until ctx or one of them ends; then all end.
func together(ctx context.Context, run ...func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error)
	for _, f := range run {
		go func() { ended <- f(ctx) }()
	}
	var errs []error
	for range run {
		errs = append(errs, <-ended)
		stop()
	}
	return errors.Join(errs...)
}

// serveHTTP serves until ctx ends; then it ends all connections. That of a
// WebSocket ends with its handler, whose context ends.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx }}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s: %w", l.Addr(), err)
	}
	return nil
}

// controls say and change how a server behaves. A burst is answered when it is over.
func controls(w *worker) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /mode", func(rw http.ResponseWriter, _ *http.Request) {
		mode, _ := w.now()
		fmt.Fprintln(rw, mode)
	})
	mux.HandleFunc("PUT /mode/{mode}", func(rw http.ResponseWriter, r *http.Request) {
		if err := w.set(Mode(r.PathValue("mode"))); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		rw.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("PUT /work/{times}", func(rw http.ResponseWriter, r *http.Request) {
		times, err := strconv.Atoi(r.PathValue("times"))
		if err == nil {
			err = w.multiply(times)
		}
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		rw.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("PUT /burst/{length}", func(rw http.ResponseWriter, r *http.Request) {
		length, err := time.ParseDuration(r.PathValue("length"))
		if err != nil || length <= 0 || length > maxBurst {
			http.Error(rw, fmt.Sprintf("length is %q: it must be more than 0s, and at most %s", r.PathValue("length"), maxBurst), http.StatusBadRequest)
			return
		}
		w.burn(r.Context(), length)
		rw.WriteHeader(http.StatusNoContent)
	})
	return mux
}
