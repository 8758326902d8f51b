//go:build !linux

package server

import "crypto/tls"

// listenPlain is the carrier for plain TCP: the standard library's, whatever
// loops says.
func listenPlain(address string, name Listener, _ int, s *Server) (carrier, error) {
	return listenTCP(address, name, s)
}

// listenSecure is the carrier for TLS, likewise.
func listenSecure(address string, name Listener, config *tls.Config, _ int, s *Server) (carrier, error) {
	return listenTLS(address, name, config, s)
}
