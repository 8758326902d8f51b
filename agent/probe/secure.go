package probe

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/rollcall-dev/rollcall/internal/certificate"
)

// counted is the connection below TLS. It counts what is written, so that the
// kernel's word on what was acknowledged can be held against it: a byte is counted
// before it is written.
type counted struct {
	net.Conn
	written atomic.Uint64
}

func (c *counted) Write(b []byte) (int, error) {
	c.written.Add(uint64(len(b)))
	return c.Conn.Write(b)
}

// secure makes a new session one over TLS. The handshake is a part of the first
// question: a server that is hung does not answer it either, while its kernel
// acknowledges it.
func (s *session) secure(address string, config *tls.Config) error {
	config, err := certificate.ForAddress(config, address)
	if err != nil {
		return err
	}
	s.below = &counted{Conn: s.raw}
	s.conn = tls.Client(s.below, config)
	return nil
}

// greet shakes hands, and introduces the probe.
func (s *session) greet(hello []byte) error {
	secure, ok := s.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	if err := secure.Handshake(); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	_, err := secure.Write(hello)
	return err
}
