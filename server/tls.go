package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"syscall"
	"time"
)

// secure carries MQTT over TLS, with a goroutine for each connection.
type secure struct {
	*tcp
	config *tls.Config
}

func listenTLS(address string, name Listener, config *tls.Config, s *Server) (*secure, error) {
	t, err := listenTCP(address, name, s)
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	return &secure{t, config}, nil
}

func (t *secure) Run(ctx context.Context, accept func(l link) *peer) error {
	return t.each(ctx, func(c *net.TCPConn, raw syscall.RawConn, g *guest) bool {
		h := t.newHeard(c, raw, g)
		l := &secureLink{conn: tls.Server(h, t.config), plain: &h.plain}
		p := accept(l)
		if p == nil {
			return false
		}
		defer p.gone()
		if err := l.conn.Handshake(); err != nil {
			if g != nil && g.fault != nil {
				return false // it is counted
			}
			p.s.metrics.refused(whyTLS)
			p.log("Client was refused", "reason", whyTLS, "detail", err.Error())
			return false
		}
		pump(p, &revealed{l.conn, h}, c)
		return false
	})
}

// heard is the connection below TLS: it never waits to write, and knows when what
// it read was read.
type heard struct {
	net.Conn
	plain  tcpLink
	reader *reader
	// m is the moment of the first read since fresh was last set; where there was
	// none since, of the last. A record of TLS that ends in a later one began in
	// this: what it says is no newer.
	m     moment
	fresh bool
	// accepted is when the connection was, and ended why it could not be read any
	// more; where what lies above asks.
	accepted time.Time
	ended    error
	counted  *stranger // nil: what lies above counts it
	departs  *guest    // likewise
}

func (t *tcp) newHeard(c *net.TCPConn, raw syscall.RawConn, g *guest) *heard {
	h := &heard{Conn: c, plain: tcpLink{conn: c, raw: raw, who: g}, fresh: true}
	h.reader = t.newReader(raw, &h.plain)
	return h
}

// Close closes the connection.
func (h *heard) Close() error {
	h.counted.end()
	h.departs.leave()
	return h.Conn.Close()
}

// failure is why the connection could not be read, where that is behind err.
func (h *heard) failure(err error) error {
	if err != nil && h.ended != nil {
		return h.ended
	}
	return err
}

func (h *heard) Read(b []byte) (int, error) {
	n, m, err := h.reader.read(b)
	h.ended = err
	switch {
	case err != nil:
	case h.fresh:
		h.m, h.fresh = m, false
	default:
		h.m.trusted = h.m.trusted && m.trusted
	}
	return n, err
}

func (h *heard) Write(b []byte) (int, error) {
	if err := h.plain.write(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// revealed is what a client sends over TLS.
type revealed struct {
	conn *tls.Conn
	from *heard
}

func (r *revealed) read(buf []byte) (int, moment, error) {
	r.from.fresh = true
	n, err := r.conn.Read(buf)
	if n > 0 {
		err = nil // what is left of it comes with the next read
	}
	return n, r.from.m, err
}

// secureLink writes to a TLS connection.
type secureLink struct {
	conn  *tls.Conn
	plain *tcpLink
}

func (l *secureLink) write(b []byte) error {
	_, err := l.conn.Write(b)
	return err
}

func (l *secureLink) unsent() int { return l.plain.unsent() }

func (l *secureLink) finish() {
	if l.conn.CloseWrite() != nil {
		l.abort()
		return
	}
	l.plain.finish()
}

func (l *secureLink) abort() { l.plain.abort() }

func (l *secureLink) remote() string { return l.plain.remote() }

func (l *secureLink) guest() *guest { return l.plain.who }

func (l *secureLink) secure() bool { return true }

func (l *secureLink) certificate() *x509.Certificate {
	state := l.conn.ConnectionState()
	return shown(&state)
}

// shown is the certificate that a client has shown, verified; nil: none.
func shown(state *tls.ConnectionState) *x509.Certificate {
	if state == nil || len(state.VerifiedChains) == 0 {
		return nil
	}
	return state.VerifiedChains[0][0]
}

// certificateOf is the client's, verified; nil: it has shown none.
func certificateOf(l link) *x509.Certificate {
	if c, ok := l.(interface{ certificate() *x509.Certificate }); ok {
		return c.certificate()
	}
	return nil
}
