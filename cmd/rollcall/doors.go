package main

import (
	"net/netip"
	"slices"

	"github.com/spf13/pflag"

	"github.com/rollcall-dev/rollcall/server"
)

// doorOptions say what a heartbeat server's listeners ask of connections.
type doorOptions struct {
	proxied, trusted        []string
	perListener             map[string]int
	perAddress, connections int
	perPresence             int
}

func (o *doorOptions) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&o.proxied, "proxy-protocol", nil, "`listeners`, by the names of their flags, all of whose connections begin with a PROXY protocol v2 header; --balanced-listen needs not be named")
	f.StringSliceVar(&o.trusted, "proxy-trusted", nil, "`networks` (CIDR) of the load balancers that such headers are taken from; others are refused there")
	f.StringToIntVar(&o.perListener, "connections-per-listener", nil, "connections that a `listener=number` may have at once, comma separated; others: any number")
	f.IntVar(&o.perAddress, "connections-per-address", 0, "`connections` that one client's address (of IPv6, /64) may have at once; 0: any number. Many clients may share one: NAT, or a Service without externalTrafficPolicy: Local")
	f.IntVar(&o.connections, "max-connections", 0, "`connections` that there may be at once in all; 0: as many as there may be sessions, and 8192 more")
	f.IntVar(&o.perPresence, "sessions-per-presence", 0, "`sessions` that one Presence of clients may have on this server; 0: any number")
}

// check needs the addresses of all listeners, by the names of their flags.
func (o *doorOptions) check(c *checks, listeners map[server.Listener]string) {
	listening := func(flag, name string) {
		if listeners[server.Listener(name)] == "" {
			c.fail(flag, "has %q, on which nothing listens: name one of the listeners' flags that are given, such as tls-listen", name)
		}
	}
	for _, name := range o.proxied {
		listening("proxy-protocol", name)
	}
	for name, n := range o.perListener {
		listening("connections-per-listener", name)
		if n < 1 {
			c.fail("connections-per-listener", "%s=%d must be at least 1", name, n)
		}
	}
	proxied := len(o.proxied) > 0 || listeners[server.ListenerBalanced] != ""
	switch {
	case proxied && len(o.trusted) == 0:
		c.fail("proxy-trusted", "is needed with --proxy-protocol and --balanced-listen: the networks of the load balancers, such as 10.0.0.0/24")
	case !proxied && len(o.trusted) > 0:
		c.fail("proxy-trusted", "does nothing without --proxy-protocol or --balanced-listen")
	}
	for _, t := range o.trusted {
		switch p, err := netip.ParsePrefix(t); {
		case err != nil || p.Addr().Is4In6():
			c.fail("proxy-trusted", "%q is not a network: write it as 10.0.0.0/24 or 2001:db8::/64", t)
		case p.Masked() != p:
			c.fail("proxy-trusted", "%q has bits beyond its length: write %s", t, p.Masked())
		case p.Bits() == 0:
			c.fail("proxy-trusted", "%q lets everybody say who they are: name the networks of the load balancers", t)
		}
	}
	for flag, n := range map[string]int{"connections-per-address": o.perAddress, "max-connections": o.connections, "sessions-per-presence": o.perPresence} {
		if n < 0 {
			c.fail(flag, "%d must not be negative", n)
		}
	}
}

// doors are what was checked.
func (o *doorOptions) doors(balanced bool) map[server.Listener]server.Door {
	var networks []netip.Prefix
	for _, t := range o.trusted {
		networks = append(networks, netip.MustParsePrefix(t))
	}
	doors := map[server.Listener]server.Door{}
	proxied := slices.Clone(o.proxied)
	if balanced {
		proxied = append(proxied, string(server.ListenerBalanced))
	}
	for _, name := range proxied {
		doors[server.Listener(name)] = server.Door{Proxied: networks}
	}
	for name, n := range o.perListener {
		d := doors[server.Listener(name)]
		d.Connections = n
		doors[server.Listener(name)] = d
	}
	return doors
}
