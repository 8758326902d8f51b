package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// subprotocol is what MQTT over WebSocket is called [MQTT-6.0.0-3].
const subprotocol = "mqtt"

// webSocket carries MQTT over WebSocket, with TLS below it or not. Whatever the
// path of the request, it is a client's.
type webSocket struct {
	*tcp
	s      *Server
	config *tls.Config // nil: no TLS
}

func listenWebSocket(address string, name Listener, config *tls.Config, s *Server) (*webSocket, error) {
	t, err := listenTCP(address, name, s)
	if err != nil {
		return nil, err
	}
	return &webSocket{t, s, overHTTP(config)}, nil
}

// heardKey is the connection below a request.
type heardKey struct{}

// withHeard notes it, for http.Server.
func withHeard(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, heardKey{}, c)
}

func (w *webSocket) Run(ctx context.Context, accept func(l link) *peer) error {
	var clients gate
	defer clients.close()
	web := &http.Server{
		ReadHeaderTimeout: connectWithin,
		IdleTimeout:       connectWithin,
		MaxHeaderBytes:    maxConnect,
		ErrorLog:          log.New(io.Discard, "", 0), // what strangers do is counted
		ConnContext:       withHeard,
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if !clients.enter() {
				return
			}
			defer clients.leave()
			w.serve(rw, r, accept)
		}),
		DisableGeneralOptionsHandler: true,
	}
	web.SetKeepAlivesEnabled(false) // who asks for something else is answered once
	var listener net.Listener = &heardListener{w.tcp, w.s}
	if w.config != nil {
		listener = tls.NewListener(listener, w.config)
	}
	stop := context.AfterFunc(ctx, func() { _ = web.Close() })
	defer stop()
	if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("server: WebSocket: %w", err)
	}
	return nil
}

// serve serves one client, from its first request to its end.
func (w *webSocket) serve(rw http.ResponseWriter, r *http.Request, accept func(l link) *peer) {
	h, ok := r.Context().Value(heardKey{}).(*heard)
	if !ok {
		http.Error(rw, "not a connection of this listener", http.StatusInternalServerError)
		return
	}
	// Who a client is its CONNECT says, not a cookie: pages of any origin may. But a
	// browser shows a certificate by itself, whatever page asks.
	conn, err := websocket.Accept(rw, r, &websocket.AcceptOptions{Subprotocols: []string{subprotocol}, InsecureSkipVerify: shown(r.TLS) == nil})
	if err != nil {
		return // it has been answered
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(-1) // a frame may hold many packets, and is read in pieces
	h.counted.end()       // accept counts it
	l := &webLink{conn: conn, plain: &h.plain, state: r.TLS}
	defer l.ending.close()
	p := accept(l)
	if p == nil {
		return
	}
	defer p.gone()
	_ = h.SetReadDeadline(h.accepted.Add(connectWithin))
	if conn.Subprotocol() != subprotocol {
		p.refuse(refusal{why: whySubprotocol, detail: "the subprotocol is mqtt"})
		return
	}
	if w.s.cfg.WebSocketPing > 0 {
		ctx, stop := context.WithCancel(context.Background())
		var pinging sync.WaitGroup
		defer pinging.Wait()
		defer stop()
		pinging.Go(func() { w.ping(ctx, p, conn) })
	}
	pump(p, &framed{conn: conn, from: h}, h.plain.conn)
}

// heardListener makes connections of which it is known when they were read. They
// are counted as strangers until they are WebSockets.
type heardListener struct {
	t *tcp
	s *Server
}

func (l *heardListener) Accept() (net.Conn, error) {
	for {
		c, err := l.t.listener.AcceptTCP()
		if err != nil {
			return nil, err
		}
		raw, err := c.SyscallConn()
		if err != nil {
			_ = c.Close()
			continue
		}
		g, err := l.t.door.enter(c.RemoteAddr())
		if err != nil {
			_ = c.SetLinger(0)
			_ = c.Close()
			continue
		}
		counted := l.s.stranger()
		if counted == nil {
			g.leave()
			_ = c.SetLinger(0)
			_ = c.Close()
			continue
		}
		h := l.t.newHeard(c, raw, g)
		h.accepted, h.counted, h.departs = time.Now(), counted, g
		return h, nil
	}
}

func (l *heardListener) Close() error   { return l.t.Close() }
func (l *heardListener) Addr() net.Addr { return l.t.Addr() }

// framed is what a client sends in the frames of a WebSocket, wherever they are cut.
type framed struct {
	conn *websocket.Conn
	from *heard
	r    io.Reader // of a frame that is not at its end; nil: there is none
}

var errText = errors.New("MQTT is sent in binary frames") // [MQTT-6.0.0-1]

func (f *framed) read(buf []byte) (int, moment, error) {
	f.from.fresh = true
	for {
		if f.r == nil {
			kind, r, err := f.conn.Reader(context.Background())
			switch {
			case err != nil:
				return 0, f.from.m, f.from.failure(err)
			case kind != websocket.MessageBinary:
				return 0, f.from.m, errText
			}
			f.r = r
		}
		n, err := f.r.Read(buf)
		if errors.Is(err, io.EOF) {
			f.r, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, f.from.m, f.from.failure(err)
		}
	}
}

// webLink writes to a WebSocket. What is below it never waits, and so it doesn't.
type webLink struct {
	conn   *websocket.Conn
	plain  *tcpLink
	state  *tls.ConnectionState // nil: there is no TLS
	ending gate                 // of those who close the connection in good order
}

func (l *webLink) write(b []byte) error {
	return l.conn.Write(context.Background(), websocket.MessageBinary, b)
}

func (l *webLink) unsent() int { return l.plain.unsent() }

func (l *webLink) finish() {
	_ = l.plain.conn.SetReadDeadline(time.Now().Add(finishWithin))
	if l.ending.enter() {
		go func() {
			defer l.ending.leave()
			_ = l.conn.Close(websocket.StatusNormalClosure, "")
		}()
	}
}

func (l *webLink) abort() { l.plain.abort() }

func (l *webLink) remote() string { return l.plain.remote() }

func (l *webLink) guest() *guest { return l.plain.who }

func (l *webLink) secure() bool { return l.state != nil }

func (l *webLink) certificate() *x509.Certificate {
	return shown(l.state)
}
