package server

import (
	"errors"
	"net/netip"
	"testing"
)

func TestAConnectionThatWasResetIsNobodys(t *testing.T) {
	s := &Server{cfg: Config{ConnectionsPerAddress: 1}} // without metrics: it is not counted as refused
	for _, d := range []Door{{Connections: 1}, {Proxied: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}} {
		in := &door{Door: d, s: s}
		if g, err := in.admit(netip.AddrPort{}); g != nil || !errors.Is(err, errTurnedAway) || in.n.Load() != 0 || s.addresses.len() != 0 {
			t.Errorf("%+v: %v, %d connections of %d addresses", g, err, in.n.Load(), s.addresses.len())
		}
	}
}
