package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/rollcall-dev/rollcall/internal/mqtt"
)

const (
	// beatsPath is where a client's beats go.
	beatsPath = "/v1/beats/{namespace}/{presence}/{client}"
	// maxBeatsAtOnce is how many requests are answered at once: each may have a
	// credential to be checked.
	maxBeatsAtOnce = 512
	// maxHeader bounds the headers of a request, in bytes: a credential is the most of it.
	maxHeader = 16 << 10
	// keepRequests is how long a connection may be without a request.
	keepRequests = time.Minute
)

// beats carries beats of programs without MQTT, as HTTP requests. A session made so
// has no connection: it lives until its lease ends.
type beats struct {
	*tcp
	s      *Server
	config *tls.Config // nil: no TLS
	turns  chan struct{}
}

func listenBeats(address string, name Listener, config *tls.Config, s *Server) (*beats, error) {
	t, err := listenTCP(address, name, s)
	if err != nil {
		return nil, err
	}
	return &beats{t, s, overHTTP(config), make(chan struct{}, maxBeatsAtOnce)}, nil
}

func (b *beats) Run(ctx context.Context, _ func(l link) *peer) error {
	var clients gate
	defer clients.close()
	mux := http.NewServeMux()
	mux.HandleFunc("PUT "+beatsPath, b.put)
	mux.HandleFunc("DELETE "+beatsPath, b.remove)
	mux.Handle("GET /v1/sessions", b.s.SessionsHandler())
	web := &http.Server{
		ReadHeaderTimeout: connectWithin,
		ReadTimeout:       connectWithin,
		WriteTimeout:      2*connectWithin + authenticateWithin,
		IdleTimeout:       keepRequests,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(io.Discard, "", 0), // what strangers do is counted
		ConnContext:       withHeard,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !clients.enter() {
				return
			}
			defer clients.leave()
			select {
			case b.turns <- struct{}{}:
				defer func() { <-b.turns }()
			default:
				b.s.answer(w, nil, &refusal{why: whyBusy, reason: mqtt.ServerBusy, detail: "too many requests at once", retryAfter: time.Second})
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxPacket)
			mux.ServeHTTP(w, r)
		}),
		DisableGeneralOptionsHandler: true,
	}
	var listener net.Listener = &stampedListener{heardListener{b.tcp, b.s}}
	if b.config != nil {
		listener = tls.NewListener(listener, b.config)
	}
	stop := context.AfterFunc(ctx, func() { _ = web.Close() })
	defer stop()
	if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("server: HTTP beats: %w", err)
	}
	return nil
}

// overHTTP is a configuration for connections that speak HTTP/1.1; nil: no TLS.
func overHTTP(config *tls.Config) *tls.Config {
	if config == nil {
		return nil
	}
	config = config.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	config.NextProtos = []string{"http/1.1"}
	return config
}
