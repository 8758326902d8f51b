//go:build !linux

package server

// listenPlain is the carrier for plain TCP: the standard library's, whatever
// loops says.
func listenPlain(address string, _ int, s *Server) (carrier, error) {
	return listenTCP(address, s.clock, s.cfg.Store)
}
