package report

import "github.com/rollcall-dev/rollcall/internal/wire"

// Place is a heartbeat server, as a place for a session to be on.
type Place struct {
	Server  string // "namespace/pod"
	Address string // where it is probed; a server may name another one for itself
	// Own: on this very node, so that its end says nothing that the node's
	// doesn't.
	Own bool
}

// rank orders places for a session whose other one is on the server other
// (empty: on none). The smallest is the best: two sessions on two servers, not
// on this node, nor on a server that is ill itself. Of these, the last gives
// way last.
func rank(p Place, other string, ill func(server string) bool) int {
	switch {
	case ill(p.Server):
		return 3
	case p.Own:
		return 2
	case p.Server == other:
		return 1
	}
	return 0
}

// excluded tells whether address is one to leave alone because a better place
// is known. An address that is nobody's is not.
func excluded(address string, places []Place, other string, ill func(string) bool) bool {
	best, mine, known := 4, 0, false
	for _, p := range places {
		r := rank(p, other, ill)
		best = min(best, r)
		if p.Address == address {
			mine, known = r, true
		}
	}
	return known && mine > best
}

// misplaced tells whether a session on server should move: there is a better
// place for it, and not just because the server is ill, which is for the
// session itself to find out.
func misplaced(server string, places []Place, other string, ill func(string) bool) bool {
	best, mine, known := 4, 0, false
	for _, p := range places {
		if p.Server == server {
			mine, known = rank(p, other, func(string) bool { return false }), true
			continue
		}
		best = min(best, rank(p, other, ill))
	}
	return known && best < mine
}

// isIll tells whether a band is that of a server to stay away from.
func isIll(b wire.Band) bool {
	switch b {
	case wire.BandSlow, wire.BandHung, wire.BandRefused, wire.BandUnreachable:
		return true
	}
	return false
}
