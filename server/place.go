package server

import (
	"slices"
	"time"

	"github.com/rollcall-dev/rollcall/internal/wire"
)

// Overrides are other bounds of the interval, by where clients say that they are.
type Overrides struct {
	// Min and Max are the bounds of those whom none fits.
	Min, Max time.Duration
	// All of them: the first that fits counts.
	All []Override
}

// Override bounds the interval on one kind of network, in one region, or both.
type Override struct {
	// Network and Region; empty: any.
	Network, Region string
	// Min and Max; 0: as elsewhere.
	Min, Max time.Duration
}

// Networks that no client declares: of those who declare none, and of those
// whose word nobody has named.
const (
	networkUnknown = "unknown"
	networkOther   = "other"
)

// at is the Presence for clients that say they are somewhere; empty: they don't
// say. It has one of a few networks, whatever they say.
func (p Presence) at(network, region string) Presence {
	p.network = p.known(network)
	o := p.Overrides
	if o == nil {
		return p
	}
	p.MinInterval, p.MaxInterval = o.Min, o.Max
	for _, x := range o.All {
		if x.Network != "" && x.Network != network || x.Region != "" && x.Region != region {
			continue
		}
		if x.Min > 0 {
			p.MinInterval = x.Min
		}
		if x.Max > 0 {
			p.MaxInterval = x.Max
		}
		break
	}
	return p
}

// known is the network, where it is one that is told apart.
func (p Presence) known(network string) string {
	switch network {
	case "":
		return networkUnknown
	case wire.NetworkCell, wire.NetworkWiFi, wire.NetworkWired:
		return network
	}
	if p.Overrides != nil && slices.ContainsFunc(p.Overrides.All, func(o Override) bool { return o.Network == network }) {
		return network
	}
	return networkOther
}

// rules are what counts for the client now: those of the place that its last
// beat named, or its CONNECT.
func (p *peer) rules() *Presence {
	if p.more != nil && p.more.moved != nil {
		return p.more.moved
	}
	return p.presence
}
