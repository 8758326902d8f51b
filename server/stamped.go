package server

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
)

// stamped is a connection that carries requests: it knows when the one that is being
// answered was read, although the next may be read meanwhile.
type stamped struct {
	*heard
	s *Server

	mu     sync.Mutex // guards what follows
	first  moment     // of the first read since the last request was taken
	taken  bool       // nothing was read since
	stays  bool       // a request was granted
	closed bool
}

func (c *stamped) Read(b []byte) (int, error) {
	n, m, err := c.reader.read(b)
	if err != nil {
		return n, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken {
		c.first, c.taken = m, false
	}
	c.first.trusted = c.first.trusted && m.trusted
	return n, nil
}

// take is no later than when the request was sent that is being answered.
func (c *stamped) take() moment {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken = true
	return c.first
}

// stays tells whether the connection may carry more requests. Until one was granted it
// is a stranger's, and then one of all that there may be.
func (v *visitor) stays() bool {
	c := v.over
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stays && !c.closed && c.s.peers.reserve(c.s.cfg.MaxConnections) {
		c.stays = true
		c.counted.end()
	}
	return c.stays
}

// Close closes the connection.
func (c *stamped) Close() error {
	c.mu.Lock()
	if c.stays && !c.closed {
		c.s.peers.release()
	}
	c.closed = true
	c.mu.Unlock()
	return c.heard.Close()
}

// stampedListener makes such connections.
type stampedListener struct{ heardListener }

func (l *stampedListener) Accept() (net.Conn, error) {
	c, err := l.heardListener.Accept()
	if err != nil {
		return nil, err
	}
	return &stamped{heard: c.(*heard), s: l.s, taken: true}, nil
}

// visit is the link of a visitor: nothing is sent by it.
type visit struct {
	at    *tcpLink // nil: not known
	state *tls.ConnectionState
}

func (l *visit) write([]byte) error { return net.ErrClosed }
func (l *visit) unsent() int        { return 0 }
func (l *visit) finish()            {}
func (l *visit) abort()             {}

func (l *visit) remote() string {
	if l.at == nil {
		return ""
	}
	return l.at.remote()
}

func (l *visit) guest() *guest {
	if l.at == nil {
		return nil
	}
	return l.at.who
}

func (l *visit) certificate() *x509.Certificate { return shown(l.state) }
