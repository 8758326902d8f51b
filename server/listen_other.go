//go:build !linux

package server

// listenPlain is the carrier for plain TCP: the standard library's, whatever
// loops says.
func listenPlain(address string, name Listener, _ int, s *Server) (carrier, error) {
	return listenTCP(address, name, s)
}
